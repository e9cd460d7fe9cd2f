"""Find files with marked entities, and the split of each."""

import re
from pathlib import Path

from ktransfer.data.entities.annotated import Annotated
from ktransfer.data.entities.conll import looks_like_conll, read_conll
from ktransfer.data.entities.span_records import looks_like_spans, read_spans
from ktransfer.data.examples import printable
from ktransfer.data.folders import counted
from ktransfer.data.junk import junk_name
from ktransfer.data.split_names import SPLITS, parse_split_name, without_shard
from ktransfer.data.tables.file_bytes import table_suffix
from ktransfer.errors import DataError

# Files that hold nothing but words and tags, by their names.
_CONLL = (".conll", ".conll03", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".annotated", ".ner")
# Those of which the beginning is looked at.
_PERHAPS = (".txt", ".tsv", ".tab", ".csv", ".dat", ".data", "")
_MOST_FILES = 200  # of a folder
# How CoNLL-2003 and its like call their splits.
_SPLITS = {"testa": "validation", "testb": "test"}


def is_annotated(path: Path) -> bool:
    """Whether a file has marked entities, by its name or what it begins with.

    Example:
        >>> is_annotated(Path("train.conll")), is_annotated(Path("none.csv"))
        (True, False)
    """
    if is_conll(path):
        return True
    return bool(table_suffix(path)) and path.is_file() and looks_like_spans(path)


def is_conll(path: Path) -> bool:
    """Whether a file has words and tags in columns, by its name or what it begins with."""
    suffix = path.suffix.lower()
    if suffix in _CONLL:
        return True
    known = suffix in _PERHAPS or suffix.removeprefix(".") in (*_SPLITS, "train", "dev", "valid", "test")
    return known and path.is_file() and looks_like_conll(path)


def find_annotated(folder: Path) -> dict[str, Path]:
    """The annotated files of a folder by the split that each is.

    Raises:
        DataError: There are some and none is for training, or two for one split.

    Example:
        >>> find_annotated(Path("wnut17"))["train"].name  # doctest: +SKIP
        'wnut17train.conll'
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:  # the reader of the folder reports it
        return {}
    files = [path for path in files if junk_name(path.name, is_folder=False) is None][:_MOST_FILES]
    found: dict[str, list[Path]] = {}
    for path in files:
        if (split := _split_of(path)) and is_annotated(path):
            found.setdefault(split, []).append(path)
    if not found:
        return {}
    for split, paths in found.items():
        if len(paths) > 1:
            raise DataError(
                f"Expected one {split} file in {printable(str(folder))}, got {counted([p.name for p in paths])}. "
                "Remove the others."
            )
    if "train" not in found:
        [first, *_] = found.values()
        raise DataError(
            f"Expected a file for training next to {printable(first[0].name)} in {printable(str(folder))}, got none. "
            "Call it train, such as train.conll."
        )
    return {split: found[split][0] for split in SPLITS if split in found}


def _split_of(path: Path) -> str | None:
    suffix = table_suffix(path)
    name = path.name[: -len(suffix)] if suffix else path.name
    if path.suffix.lower() in (*_CONLL, *_PERHAPS) and not suffix and path.suffix:
        name = path.name[: -len(path.suffix)]
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in _SPLITS:
            return _SPLITS[word]
    # A number before the name of a split, as in wnut17train, is no part of it.
    found = parse_split_name(re.sub(r"\d+", " ", without_shard(name).replace(".", " ")))
    return None if found.unlabelled else found.split


def read_annotated(
    path: Path, *, text_column: str | None = None, column: str | None = None, encoding: str | None = None
) -> Annotated:
    """Read a file with marked entities, of any kind that is known.

    Args:
        path: The file.
        text_column, column: As in `read_spans`; of CoNLL columns `column` is a number.
        encoding: As Python names it. Defaults to UTF-8.

    Raises:
        DataError: It cannot be read, or is no such file.

    Example:
        >>> read_annotated(Path("train.conll")).types  # doctest: +SKIP
        ['LOC', 'PER']
    """
    if not path.is_file():
        raise DataError(f"Expected a file with marked entities, got {printable(str(path))}. Check the path.")
    try:
        if table_suffix(path) in ("", ".tsv", ".tab", ".csv"):
            return read_conll(path, column=column, encoding=encoding)
        return read_spans(path, text_column=text_column, column=column, encoding=encoding)
    except OSError as error:
        raise DataError(
            f"Expected to read {printable(str(path))}, got {error.strerror or error}. Check the path."
        ) from error
