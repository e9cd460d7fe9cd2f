"""Arguments and options that verbs share."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.exporting.formats import FORMATS, QUANTIZED

_STARTED = time.monotonic()


def time_passed() -> float:
    """Seconds since the command began."""
    return time.monotonic() - _STARTED


DATA_HELP = (
    "Images: a folder of class folders, or one that holds train/ val/ test/. Texts: a table (.csv, .tsv, "
    ".json, .jsonl, .parquet, packed as .csv.gz), a folder with train.csv and so on, or of folders of .txt "
    "files. Or tfds:NAME."
)
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
TextColumn = Annotated[str | None, typer.Option(help="Column of the texts: its name, or its number from 1.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels.")]
Encoding = Annotated[str | None, typer.Option(help="Of tables and text files, such as latin-1; else UTF-8.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder that `ktransfer train` wrote.")]
DataDir = Annotated[Path | None, typer.Option(help="Where TensorFlow Datasets keeps its prepared data.")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help=f"What to export, may be repeated: {', '.join(FORMATS)}, which are exported if left out; or "
        f"smaller and less exact: {', '.join(QUANTIZED)}.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where features are kept; KTRANSFER_CACHE or ~/.cache/ktransfer if left out."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
