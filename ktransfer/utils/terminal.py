"""Output of the command line, and quiet imports of Keras. Rich is imported when it is needed."""

from __future__ import annotations

import codecs
import contextlib
import datetime
import io
import json
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ktransfer.security.safe_io import visible

if TYPE_CHECKING:
    from rich.console import Console

    from ktransfer.commands.benchmark import Benchmark
    from ktransfer.core.task import Evaluation
    from ktransfer.searching.ranking import Ranking


_CONSOLE_ERRORS = "ktransfer.console"
_ASCII = {
    **{"\u2026": "...", "\u2022": "*", "\u2192": "->", "\u2190": "<-", "\u00d7": "x", "\u00a0": " "},
    **{"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'},
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014", "-"),
}


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Handle what a console's encoding lacks: ASCII look-alikes for lines, `\\u676f` for other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_look_alike, error.object[error.start : error.end])), error.end


def _look_alike(character: str) -> str:
    if character in _ASCII:
        return _ASCII[character]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        across = any(word in name for word in ("HORIZONTAL", "LEFT", "RIGHT"))
        down = any(word in name for word in ("VERTICAL", "DOWN", "UP"))
        return "-" if not down else "+" if across else "|"
    if name.startswith(("BRAILLE", "FULL BLOCK")) or name.endswith((" BLOCK", "SHADE")):
        return "#"
    return character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(_CONSOLE_ERRORS, _replace_unencodable)


def accept_any_text() -> None:
    """Let standard output and standard error show any text, whatever their encoding.

    A character that the encoding lacks (cp1252, ASCII, half of a surrogate pair in UTF-8) is written as
    `\\u676f`, a line of a table in ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_CONSOLE_ERRORS)


def use_utf8_mode() -> None:
    """Start the interpreter again in UTF-8 mode where the locale's file names are in another encoding.

    Class folders are named in UTF-8. Under `LC_ALL=C` without UTF-8 mode Python reads their names as ASCII.
    The encoding of the console stays as it is. Windows has UTF-8 file names always.
    """
    if os.name != "posix" or codecs.lookup(sys.getfilesystemencoding()).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for subprocesses
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def print_line(text: str, *, stderr: bool = False) -> None:
    """Print a line; what the encoding of the stream lacks is written as in `accept_any_text`.

    Not by `typer.echo`, which writes UTF-8 to a stream in ASCII.

    Args:
        text: One line or more.
        stderr: Print on standard error. Defaults to standard output.

    Example:
        >>> print_line("data       24 train")
        data       24 train
    """
    stream = sys.stderr if stderr else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = getattr(stream, "encoding", None) or "ascii"
        print(text.encode(encoding, _CONSOLE_ERRORS).decode(encoding), file=stream, flush=True)


def print_json(values: Any) -> None:
    """Print a line of JSON in ASCII: other characters are escaped, so every console and pipe can carry it."""
    print(json.dumps(values))


def console(*, stderr: bool = False) -> Console:
    """A Rich console that draws with ASCII where the encoding of the stream is not a Unicode one.

    Args:
        stderr: Write to standard error. Defaults to standard output.

    Returns:
        `rich.console.Console`.
    """
    from rich.console import Console

    # Given its file: Rich assumes UTF-8 of the default one.
    return Console(file=sys.stderr if stderr else sys.stdout)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
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


def print_backbones(rows: list[dict[str, Any]]) -> None:
    """A table of what `list_backbones` found."""
    from rich import box
    from rich.table import Table

    table = Table("name", "family", box=box.SIMPLE)
    table.add_column("parameters", justify="right")
    for row in rows:
        table.add_row(row["name"], row["family"], f"{row['parameters'] / 1e6:.1f} M")
    console().print(table)


def print_entries(entries: list[Any]) -> None:
    """A line for each array that a `FeatureStore` keeps."""
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
        facts = ", ".join(f"{name} {value}" for name, value in entry.facts.items())
        print(f"{entry.key[:12]}  {entry.size_bytes / 2**20:8.1f} MiB  used {used}  {facts}")


def shortened(text: str, longest: int = 80) -> str:
    """`text` on one line of at most so many characters, with nothing in it that a terminal obeys."""
    text = visible(" ".join(text[: 10 * longest].split()))
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def print_evaluation(result: Evaluation, noun: str) -> None:
    """The tables and the line of an `Evaluation` of so many images or texts."""
    from rich import box
    from rich.table import Table

    for (first, *headings), *rows in result.tables(noun):
        table = Table(first, box=box.SIMPLE)
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*row)
        console().print(table)
    print(visible(f"{result.line()} on {result.examples} {noun}"))


def print_benchmark(result: Benchmark) -> None:
    """The table and the line of a `Benchmark`."""
    from rich import box
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
    console().print(table)
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


def _short_names(names: Sequence[str]) -> list[str]:
    """The last component of each path, where that tells them apart."""
    short = [os.path.basename(name.rstrip("/\\")) or name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def print_ranking(ranking: Ranking) -> None:
    """The table and the line of a `Ranking`."""
    from rich import box
    from rich.table import Table

    (first, *headings), rows = ranking.table()
    names = _short_names([row[0] for row in rows])
    # Scores and cost are two tables, which a terminal of 80 columns has room for.
    split = headings.index("parameters")
    for chosen in (slice(0, split), slice(split, None)):
        table = Table(box=box.SIMPLE, collapse_padding=True, pad_edge=False)
        table.add_column(first, overflow="fold")
        for heading in headings[chosen]:
            table.add_column(heading, justify="right", no_wrap=True)
        for name, row in zip(names, rows, strict=True):
            table.add_row(visible(name), *map(visible, row[1:][chosen]))
        console().print(table)
    for name, reason in ranking.left_out.items():
        print_line(visible(f"{name} is left out: {reason}"))
    if ranking.best is not None:
        print_line(visible(f"best {ranking.best.name}"))
