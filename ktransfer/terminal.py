"""What the command line shows, and Keras imported without noise. Rich is imported when it is needed."""

import contextlib
import datetime
import logging
import os
import sys


@contextlib.contextmanager
def quiet_imports():
    """Import Keras and TensorFlow without the lines that TensorFlow's C++ prints past its own log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def print_backbones(rows: list[dict]) -> None:
    """A table of what `list_backbones` found."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "family", box=box.SIMPLE)
    table.add_column("parameters", justify="right")
    for row in rows:
        table.add_row(row["name"], row["family"], f"{row['parameters'] / 1e6:.1f} M")
    Console().print(table)


def print_entries(entries: list) -> None:
    """A line for each array that a `FeatureStore` keeps."""
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
        facts = ", ".join(f"{name} {value}" for name, value in entry.facts.items())
        print(f"{entry.key[:12]}  {entry.size_bytes / 2**20:8.1f} MiB  used {used}  {facts}")


def shortened(text: str, longest: int = 80) -> str:
    """`text` on one line of at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def print_evaluation(result, noun: str) -> None:
    """The tables and the line of an `Evaluation` of so many images or texts."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("class", box=box.SIMPLE)
    for heading in ("precision", "recall", "F1", noun):
        table.add_column(heading, justify="right")
    for name, score in [*result.per_class.items(), ("macro mean", result.macro)]:
        table.add_row(
            name, *(f"{v:.3f}" for v in (score.precision, score.recall, score.f1)), str(score.support)
        )
    confusion = Table("true \\ predicted", box=box.SIMPLE)
    names = list(result.per_class)
    for name in names:
        confusion.add_column(name, justify="right")
    for name, row in zip(names, result.confusion, strict=True):
        confusion.add_row(name, *map(str, row))
    console = Console()
    console.print(table)
    if len(names) <= 20:
        console.print(confusion)
    print(f"accuracy {result.accuracy:.3f} on {result.examples} {noun}, log loss {result.log_loss:.3f}")
