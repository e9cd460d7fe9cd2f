"""A column of names of files: which files they name, within the folder of the table."""

import functools
import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from ktransfer.data.examples import printable
from ktransfer.data.junk import junk_name
from ktransfer.data.tables.columns import FILE_NAMES, TEXT_NAMES, InputKind
from ktransfer.data.tables.file_bytes import named_rows, read_beginning
from ktransfer.errors import DataError
from ktransfer.security.safe_io import visible

_URL = re.compile(r"[a-z][a-z0-9+.-]+://[^\s\"',;|]*", re.IGNORECASE)
# The name of a column of texts in the first row of a table, or a key in its first object.
_TEXT_COLUMN = re.compile(rf"(?:^|[\s,;|\"'{{\[])({'|'.join(TEXT_NAMES)})(?:$|[\s,;|\"'])", re.IGNORECASE)
_PEEK, _ROWS = 2**16, 100  # bytes and, of Parquet, rows of a table that are looked at
_LONGEST = 4096  # characters of a path


@functools.cache
def image_cells(suffixes: tuple[str, ...], unread: tuple[str, ...]) -> InputKind:
    """The kind of a column of names of image files.

    Args:
        suffixes: What the names of files that are read end in, lower case.
        unread: What those end in that are images too, and have to be converted.

    Example:
        >>> image_cells((".jpg",), (".svg",)).holds("a/1.JPG")
        True
    """

    def holds(cell: object) -> bool:
        return isinstance(cell, str) and "\n" not in cell and cell.strip().lower().endswith(suffixes)

    read = functools.partial(read_file_cells, suffixes=suffixes, unread=unread)
    return InputKind("image files", "file_column", FILE_NAMES, read, holds, each_once=True)


def read_file_cells(
    cells: Sequence[object],
    rows: Sequence[int | str],
    source: str,
    folder: Path,
    *,
    suffixes: tuple[str, ...],
    unread: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that the cells of a column name.

    Links in the folder are followed, as in folders of images.

    Args:
        cells: As their format has them: paths that are relative to the folder of the table, with slashes of
            either kind.
        rows: The row of each.
        source: The column and its file, for messages.
        folder: Of the table.
        suffixes: What their names end in, lower case.
        unread: What names of images end in that are not read.

    Returns:
        `(paths, names)`: the paths, and what they are called below the folder, with forward slashes.

    Raises:
        DataError: A cell is empty, an address or an absolute path, leads out of the folder, or names no file or
            none that is read; the message names the rows.

    Example:
        >>> read_file_cells(["a/1.jpg"], [2], "column 'file' of a.csv", Path("."), suffixes=(".jpg",))
        Traceback (most recent call last):
        ktransfer.errors.DataError: Expected files that are there in column 'file' of a.csv, got 'a/1.jpg' in row 2. \
Add it, or remove that row.
    """

    def refuse(
        wrong: Sequence[tuple[object, int | str]], expected: str, fix: str, *, shown: str | None = None
    ) -> None:
        if wrong:
            cell = wrong[0][0]
            given = shown or (repr(visible(cell)[:80]) if isinstance(cell, str) else f"{cell!r:.40}")
            found = [row for _, row in wrong]
            where = named_rows(found, "row" if isinstance(found[0], int) else "file")
            raise DataError(f"Expected {expected} in {source}, got {given} in {where}. {fix}")

    names, empty = [], []
    for cell, row in zip(cells, rows, strict=True):
        if isinstance(cell, str) and cell.strip():
            names.append(cell.strip())
        else:
            empty.append((cell, row))
    refuse(empty, "the name of a file in every row", "Write it, or remove that row.")
    pairs = list(zip(names, rows, strict=True))
    refuse(
        [pair for pair in pairs if not _is_path(pair[0])],
        "names of files",
        "Correct it, or remove that row.",
    )
    refuse(
        [pair for pair in pairs if _URL.match(pair[0])],
        "names of files",
        "Download the files next to the table and write their names.",
    )
    refuse(
        [pair for pair in pairs if _is_absolute(pair[0])],
        "paths that are relative to the folder of the table",
        "Write where the file is below that folder.",
    )
    names = [posixpath.normpath(_as_there(name, folder)) for name in names]
    pairs = list(zip(names, rows, strict=True))
    refuse(
        [pair for pair in pairs if pair[0] == "." or pair[0].split("/")[0] == ".."],
        "paths that stay within the folder of the table",
        "Move the file into that folder, or the table to a folder above both.",
    )
    refuse(
        [pair for pair in pairs if pair[0].lower().endswith(unread)],
        f"images of formats that are read ({' '.join(suffixes)})",
        "Convert them to JPEG or PNG.",
    )
    paths = [os.path.join(folder, name) for name in names]
    gone = [(pair, path) for pair, path in zip(pairs, paths, strict=True) if not os.path.isfile(path)]
    if gone:
        more = f"{len(gone):,} of {len(paths):,} are missing. " if len(gone) > 1 else ""
        fix = "Add them, or remove those rows." if len(gone) > 1 else "Add it, or remove that row."
        hint = _elsewhere(gone[0][0][0], folder, suffixes)
        refuse([pair for pair, _ in gone], "files that are there", f"{more}{hint}{fix}")
    refuse(
        [pair for pair in pairs if not pair[0].lower().endswith(suffixes)],
        f"images ({' '.join(suffixes)})",
        "Pass the column that names images as --file-column.",
    )
    return tuple(paths), tuple(names)


def names_files(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> bool:
    """Whether the rows of a table name files, by its beginning: most of them have such a name, and no column is
    called as columns of texts are.

    Args:
        path: A file; one that cannot be read names none.
        suffixes: What names of files end in, lower case.

    Example:
        >>> names_files("none.csv", (".jpg",))
        False
    """
    lines = [line for line in _first_lines(Path(path)) if line.strip()]
    if len(lines) < 2 or _TEXT_COLUMN.search(lines[0]):
        return False
    name = re.compile(rf"[^\s\"',;|]({'|'.join(map(re.escape, suffixes))})(?![\w.])", re.IGNORECASE)
    found = sum(name.search(_URL.sub("", line)) is not None for line in lines[1:])
    return 2 * found > len(lines) - 1


def _first_lines(path: Path) -> list[str]:
    """The first lines of a table, unpacked; of Parquet the first rows as JSON lines."""
    if path.suffix.lower() == ".parquet":
        return _first_rows(path)
    content = read_beginning(path, most=_PEEK)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
    text = content.decode(encoding, "replace")
    # One object of JSON over several lines, or an array of objects on one.
    if path.name.lower().partition(".")[2].startswith("json") and text.lstrip()[:1] in "[{":
        text = text.replace("}", "}\n")
    lines = re.split("\r\n|\n|\r", text)
    return lines if len(content) < _PEEK else lines[:-1]


def _first_rows(path: Path) -> list[str]:
    try:
        import pyarrow.parquet
    except ImportError:
        return []
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = [field.name for field in file.schema_arrow if pyarrow.types.is_string(field.type)]
        batch = next(file.iter_batches(_ROWS, columns=names), None)
        rows = [] if batch is None else batch.to_pylist()
    except Exception:  # noqa: BLE001  # Arrow raises many kinds of errors for a damaged file; its reader reports it
        return []
    return [" ".join(f'"{name}"' for name in names), *map(repr, rows)] if rows else []


def _is_path(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return len(name) <= _LONGEST and visible(name) == name


def _is_absolute(name: str) -> bool:
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root) or name.startswith("~/")


def _as_there(name: str, folder: Path) -> str:
    """The name as the file has it: with the slashes, and composed or decomposed as macOS has it."""
    if os.path.isfile(os.path.join(folder, name)):
        return name
    name = name.replace("\\", "/")
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, name)
        if other != name and os.path.isfile(os.path.join(folder, other)):
            return other
    return name


def _elsewhere(name: str, folder: Path, suffixes: tuple[str, ...]) -> str:
    """A hint on where a file of that name is; empty unless there is exactly one."""
    base = posixpath.basename(name)
    wanted = {base} if base.lower().endswith(suffixes) else {base + suffix for suffix in suffixes}
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [child for child in folders if junk_name(child, is_folder=True) is None]
        found += [os.path.join(parent, file) for file in sorted(wanted & set(files))]
        if len(found) > 1:
            return ""
    if not found:
        return ""
    there = Path(os.path.relpath(found[0], folder)).as_posix()
    return f"There is {printable(there)}: write paths that are relative to {printable(str(folder))}. "
