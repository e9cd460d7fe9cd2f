"""What the command line shows, and Keras imported without noise. Rich is imported when it is needed."""

import contextlib
import datetime
import logging
import os
import sys

from ktransfer.untrusted import visible


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
    """`text` on one line of at most so many characters, with nothing in it that a terminal obeys."""
    text = visible(" ".join(text[: 10 * longest].split()))
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


def print_benchmark(result) -> None:
    """The table and the line of a `Benchmark`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("format", box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    for heading in ("MiB", "delta", "agrees", "right", "p50 ms", "p95 ms", "faster", "per s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result.measured:
        fixed = "" if row.batch == result.measured[0].batch else f" at {row.batch}"
        table.add_row(
            row.format,
            f"{row.size_bytes / 2**20:.1f}",
            f"{row.max_abs_delta:.0e}",
            *(f"{share:.1%}" for share in (row.label_agreement, row.accuracy)),
            *(f"{row.latency_ms[of]:.2f}" for of in ("p50", "p95")),
            f"{row.speedup:.2f}",
            f"{row.examples_per_s:.1f}{fixed}",
        )
    Console().print(table)
    for path, reason in result.left_out.items():
        print(visible(f"{path} is left out: it {reason}"))
    print(
        f"delta: largest difference of a probability from Keras'; agrees: with its labels; right: of "
        f"{result.examples} of {result.of} validation examples\n"
        f"ms: for one example; faster: at that, than Keras by predict_on_batch on {result.backend}; per s: "
        f"examples at batch {result.measured[0].batch}\n"
        f"{result.rounds} rounds in turn after a warm-up, {result.threads} threads, "
        f"{result.machine['cores']} cores of {result.machine['processor']}"
    )
