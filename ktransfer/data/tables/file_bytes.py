"""The bytes of a table file: which suffixes are read, unpacking within bounds, and what is no table."""

import bz2
import gzip
import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ktransfer.data.examples import printable
from ktransfer.errors import DataError
from ktransfer.security.safe_io import read_bytes, visible

_PACKED = (".gz", ".bz2", ".xz", ".zip")
_PACKABLE = (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson")

_MOST = 2**32  # bytes of a table, unpacked
# Texts are packed to a tenth or, where rows repeat, a hundredth; gzip reaches a thousandth, xz far more.
_MOST_TIMES, _ALWAYS = 100, 2**28
# What the standard library raises for a damaged file, or one that is encrypted.
_DAMAGED = (
    *(ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error),
    *(lzma.LZMAError, zipfile.BadZipFile, struct.error, LookupError, OverflowError),
)
_XZ_MEMORY = 2**28  # bytes; a file states how much its reader needs

_AS_CSV = "Save it as CSV in UTF-8"
_PANDAS = "Write it as CSV or Parquet, such as with pandas.{}(...).to_csv(...)"
# What holds tables that are not read: what it is, and what to do. The first group is always a table.
_SPREADSHEETS = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls"), ("an Excel workbook", _AS_CSV)),
    **dict.fromkeys((".ods", ".fods", ".numbers", ".gsheet"), ("a spreadsheet", _AS_CSV)),
    **dict.fromkeys((".arrow", ".ipc"), ("an Arrow file", "Write it as Parquet with pyarrow")),
    ".feather": ("a Feather file", _PANDAS.format("read_feather")),
    ".orc": ("an ORC file", _PANDAS.format("read_orc")),
    ".avro": ("an Avro file", "Write it as CSV, JSON lines or Parquet"),
}
_OTHERS = {
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), ("a database", _PANDAS.format("read_sql"))),
    **dict.fromkeys(
        (".pkl", ".pickle"), ("a pickle", "Write it as CSV, JSON lines or Parquet where it was made")
    ),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), ("an HDF5 file", _PANDAS.format("read_hdf"))),
    **dict.fromkeys((".rds", ".rda", ".rdata"), ("an R file", "Write it with write.csv")),
    **dict.fromkeys((".npy", ".npz"), ("NumPy arrays", "Write them as CSV or JSON lines")),
    **dict.fromkeys((".mdb", ".accdb"), ("an Access database", _AS_CSV)),
    **dict.fromkeys((".html", ".htm"), ("a web page", _PANDAS.format("read_html"))),
    **dict.fromkeys((".yaml", ".yml"), ("YAML", "Write it as JSON lines")),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf"), ("a document", _AS_CSV)),
    **dict.fromkeys(
        (".zst", ".lz4", ".br", ".7z", ".rar"), ("a packed file", "Unpack it, or pack it as .gz")
    ),
    **dict.fromkeys((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"), ("an archive", "Unpack it")),
    ".dta": ("a Stata file", _PANDAS.format("read_stata")),
    ".sav": ("an SPSS file", _PANDAS.format("read_spss")),
    ".sas7bdat": ("a SAS file", _PANDAS.format("read_sas")),
    ".xml": ("XML", _PANDAS.format("read_xml")),
}
TABLE_SUFFIXES = (
    *_PACKABLE,
    ".parquet",
    *(plain + packing for plain in _PACKABLE for packing in _PACKED),
    *_SPREADSHEETS,
)
# How files that are no text begin.
_BEGINNINGS = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "Unpack it, or save it as CSV in UTF-8"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old Excel or Word file", _AS_CSV),
    b"\x1f\x8b": ("packed with gzip", "Unpack it, or name it such as .csv.gz"),
    b"BZh": ("packed with bzip2", "Unpack it, or name it such as .csv.bz2"),
    b"\xfd7zXZ\0": ("packed with xz", "Unpack it, or name it such as .csv.xz"),
    b"\x28\xb5\x2f\xfd": ("packed with Zstandard", "Unpack it"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "Unpack it"),
    b"Rar!\x1a\x07": ("a RAR archive", "Unpack it"),
    b"PAR1": ("a Parquet file", "Name it .parquet"),
    b"ARROW1": ("an Arrow or Feather file", "Write it as Parquet with pyarrow"),
    b"FEA1": ("a Feather file", _PANDAS.format("read_feather")),
    b"SQLite format 3\0": ("an SQLite database", _PANDAS.format("read_sql")),
    b"\x89HDF\r\n": ("an HDF5 file", _PANDAS.format("read_hdf")),
    b"\x80\x04\x95": ("a pickle", "Write it as CSV, JSON lines or Parquet where it was made"),
    b"\x80\x05\x95": ("a pickle", "Write it as CSV, JSON lines or Parquet where it was made"),
    b"Obj\x01": ("an Avro file", "Write it as CSV, JSON lines or Parquet"),
    b"\x93NUMPY": ("a NumPy array", "Write it as CSV or JSON lines"),
    b"%PDF-": ("a PDF document", "Write its text as UTF-8"),
    b"\x89PNG\r\n": ("a PNG image", "Put images into a folder for each class"),
    b"\xff\xd8\xff": ("a JPEG image", "Put images into a folder for each class"),
    b"version https://git-lfs.github.com/spec/": ("a pointer of Git LFS", "Run `git lfs pull`"),
}


def table_suffix(path: str | os.PathLike[str]) -> str:
    """The ending that makes a file a table by its name: `.csv`, `.tsv.gz`, or one that is refused by name.

    Args:
        path: A file; it need not be there.

    Returns:
        In lower case, with the ending of what packs it; empty where the name is not one of a table.

    Example:
        >>> [table_suffix(name) for name in ("Train.CSV", "val.jsonl.gz", "test.xlsx", "notes.txt")]
        ['.csv', '.jsonl.gz', '.xlsx', '']
    """
    name = Path(path).name.lower()
    return max((suffix for suffix in TABLE_SUFFIXES if name.endswith(suffix)), key=len, default="")


def require_table(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose name says that it is a table, or a document, of a kind that is not read.

    Raises:
        DataError: It is; the message says what it is, and what to do.

    Example:
        >>> require_table("reviews.csv")
    """
    name = Path(path).name.lower()
    for suffix, (kind, fix) in (_SPREADSHEETS | _OTHERS).items():
        if name.endswith(suffix):
            raise _not_read(path, f"{kind} ({suffix})", fix)
    if name.endswith(_PACKED) and not table_suffix(path):
        last = Path(name).suffix
        kind = "an archive" if last == ".zip" else "a packed file"
        raise _not_read(
            path, f"{kind} ({last})", f"Unpack it, or name it for what is in it, such as .csv{last}"
        )


def read_packed(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, unpacked where its name ends in `.gz`, `.bz2`, `.xz` or `.zip`.

    Args:
        path: A file; a ZIP archive has to hold one file.

    Returns:
        At most 4 GiB; of a packed file at most 100 times its size, or 256 MiB where that is more.

    Raises:
        DataError: It is damaged, unpacks to more, is not a regular file, or is of a kind that is no text.
        OSError: It cannot be read.

    Example:
        >>> read_packed("reviews.csv.gz")  # doctest: +SKIP
        b'text,label...'
    """
    try:
        content = read_bytes(path, most=_MOST)
    except ValueError as error:
        raise _damaged(path, "a file", error, "Pass a smaller table, or one that is a file.") from error
    packing = Path(path).suffix.lower() if table_suffix(path) else ""
    if packing in _PACKED:
        most = min(_MOST, max(_ALWAYS, _MOST_TIMES * len(content)))
        try:
            content = {".gz": _gzip, ".bz2": _bzip2, ".xz": _xz, ".zip": _zip}[packing](content, most)
        except _DAMAGED as error:
            expected = f"a file packed as {packing}"
            raise _damaged(path, expected, error, "Pack it again, or unpack it.") from error
    for beginning, (kind, fix) in _BEGINNINGS.items():
        if content.startswith(beginning):
            raise _not_read(path, kind, fix)
    return content


def read_beginning(path: str | os.PathLike[str], *, most: int) -> bytes:
    """The first bytes of a file, unpacked as by `read_packed`; nothing of one that cannot be read.

    Args:
        path: A file.
        most: How many bytes.

    Example:
        >>> read_beginning("none.csv.gz", most=100)
        b''
    """
    packing = Path(path).suffix.lower() if table_suffix(path) else ""
    try:
        if packing == ".xz":
            with open(path, "rb") as file:
                # Not LZMAFile, as in `_xz`.
                return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY).decompress(
                    file.read(most), most
                )
        if packing == ".zip":
            with zipfile.ZipFile(path) as archive:
                [name] = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
                with archive.open(name) as file:
                    return file.read(most)
        openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
        with openers.get(packing, open)(path, "rb") as file:
            return file.read(most)
    except _DAMAGED:
        return b""


def named_rows(rows: Sequence[int | str], noun: str = "row") -> str:
    """The first few of `rows` and how many there are more.

    Example:
        >>> named_rows([3, 17, 20, 21, 40])
        'rows 3, 17, 20 and 2 more'
    """
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"{noun}{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:3]))}{more}"


def _gzip(content: bytes, most: int) -> bytes:
    return _bounded(gzip.GzipFile(fileobj=io.BytesIO(content)), most)


def _bzip2(content: bytes, most: int) -> bytes:
    return _bounded(bz2.BZ2File(io.BytesIO(content)), most)


def _xz(content: bytes, most: int) -> bytes:
    pieces, total = [], 0
    while content:
        # Not LZMAFile: it has no limit of memory, and a file may state a dictionary of gigabytes.
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        pieces.append(stream.decompress(content, most - total + 1))
        total += len(pieces[-1])
        if total > most:
            raise ValueError(f"more than {most:,} bytes, unpacked")
        if not stream.eof:
            raise EOFError("the file ends early")
        content = stream.unused_data.lstrip(b"\0")  # streams may be padded
    return b"".join(pieces)


def _zip(content: bytes, most: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # What macOS adds to every archive is no part of it.
        files = [i for i in archive.infolist() if not i.filename.endswith("/")]
        files = [i for i in files if not i.filename.startswith("__MACOSX/")]
        if len(files) != 1:
            names = ", ".join(visible(file.filename) for file in files[:3])
            raise ValueError(f"{len(files)} files in it ({names})" if files else "nothing in it")
        require_table(files[0].filename)
        with archive.open(files[0]) as file:
            return _bounded(file, most)


def _bounded(file: IO[bytes] | io.BufferedIOBase, most: int) -> bytes:
    content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes, unpacked")
    return content


def _damaged(path: str | os.PathLike[str], expected: str, error: Exception, fix: str) -> DataError:
    reason = visible(str(error))[:300] or type(error).__name__
    return DataError(f"Expected {expected}, got {printable(str(path))} ({reason}). {fix}")


def _not_read(path: str | os.PathLike[str], kind: str, fix: str) -> DataError:
    expected, given = "a table as CSV, TSV, JSON, JSON lines or Parquet", printable(str(path))
    if kind.startswith(("an archive", "a packed file")):
        expected, given = "a table or a folder", f"the file {given}"
    return DataError(f"Expected {expected}, got {given}, {kind}. {fix}.")
