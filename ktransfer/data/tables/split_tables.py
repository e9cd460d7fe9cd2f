"""Find the tables of a folder and the split of each."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.data.folders import counted, unlistable
from ktransfer.data.junk import junk_name
from ktransfer.data.split_names import SPLITS, SplitName, parse_split_name, without_shard
from ktransfer.data.tables.file_bytes import TABLE_SUFFIXES
from ktransfer.errors import DataError

_TEXT = ".txt"


@dataclass(frozen=True)
class TableFiles:
    """The tables of a folder.

    Attributes:
        splits: `{split: paths}`: one table, several shards of one, or one folder of class folders.
        notes: Lines on what in the folder is not used.
    """

    splits: dict[str, tuple[Path, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Unit:
    """A candidate for a split: a table, the shards of one, or a folder."""

    name: str
    paths: tuple[Path, ...]
    split: SplitName


def find_split_tables(folder: Path, *, named: tuple[str, ...] = ()) -> TableFiles | None:
    """Find the tables of a folder by the usual names of splits (see `parse_split_name`).

    A table is `train.csv`, `name_train.tsv`, shards such as `train-00000-of-00002.parquet`, `train/` with a
    table in it, or, where there is no other, `train.txt`. A single folder with tables is searched.

    Args:
        folder: An existing folder.
        named: What names of files end in that the tables name, such as images. Folders are no splits then, and
            neither they nor such files are noted. Defaults to none: folders of text files may be splits as well.

    Returns:
        `TableFiles`, with `train` at least; None where the folder holds no tables of splits but folders of
        text files, or nothing.

    Raises:
        DataError: There are tables and none is for training, or two for one split.

    Example:
        >>> find_split_tables(Path("reviews")).splits  # doctest: +SKIP
        {'train': (PosixPath('reviews/train.csv'),), 'validation': (PosixPath('reviews/dev.csv'),)}
    """
    files, folders, junk = _listed(folder)
    tables = [path for path in files if is_table(path.name)]
    if not any(_split_of_file(path).split == "train" for path in tables):
        tables += [] if named else _text_tables(files)
    inner = {path: _tables_below(path) for path in folders}
    has_texts = not named and any(_holds_texts(path) for path in folders)
    if not tables and has_texts:
        return None
    units = _units(tables) + [
        unit for path, below in inner.items() if below and (unit := _folder_unit(path, below))
    ]
    if not any(unit.split.split for unit in units):
        return _without_splits(folder, tables, inner, has_texts, named)
    units += [
        _Unit(path.name, (path,), name)
        for path, below in inner.items()
        if not (below or named)
        and _holds_texts(path)
        and (name := parse_split_name(path.name)).split
        and not name.rest
    ]
    found = _one_each(units, folder)
    if "train" not in found:
        other = next(iter(found.values()))
        raise DataError(
            f"Expected a train split next to {printable(other.name)}, got {printable(str(folder))} without "
            "it. Add it."
        )
    used = {path for unit in found.values() for path in unit.paths}
    return TableFiles(
        {split: found[split].paths for split in SPLITS if split in found},
        tuple(_notes(found, used, files, folders, junk, named)),
    )


def is_table(name: str) -> bool:
    """Whether a file is a table by its name.

    Example:
        >>> is_table("Train.CSV"), is_table("notes.md")
        (True, False)
    """
    return name.lower().endswith(TABLE_SUFFIXES)


def _listed(folder: Path) -> tuple[list[Path], list[Path], Counter[str]]:
    """`(files, folders, junk)`: sorted paths, and how many of each kind are never data."""
    files: list[Path] = []
    folders: list[Path] = []
    junk: Counter[str] = Counter()
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise unlistable(error) from error
    for name in names:
        path = folder / name
        label = junk_name(name, is_folder=path.is_dir())
        if label:
            junk[label] += 1
        else:
            (folders if path.is_dir() else files).append(path)
    return files, folders, junk


def _stem(path: Path) -> str:
    suffix = max((s for s in (*TABLE_SUFFIXES, _TEXT) if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(suffix)]


def _split_of_file(path: Path) -> SplitName:
    return parse_split_name(without_shard(_stem(path)))


def _text_tables(files: list[Path]) -> list[Path]:
    """`train.txt` and its like, where `train.txt` is there."""
    texts = [path for path in files if path.name.lower().endswith(_TEXT)]
    named = [path for path in texts if (found := _split_of_file(path)).split and not found.rest]
    return named if any(_split_of_file(path).split == "train" for path in named) else []


def _units(tables: list[Path]) -> list[_Unit]:
    """The tables, with those that are shards of one put together."""
    groups: dict[object, list[Path]] = {}
    for path in tables:
        stem = _stem(path)
        shared = without_shard(stem)
        # Without a shard's number the whole name tells it apart.
        key = (shared, path.suffix.lower()) if shared != stem else path
        groups.setdefault(key, []).append(path)
    return [
        _Unit(
            paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more",
            tuple(paths),
            name,
        )
        for paths in groups.values()
        if (name := _split_of_file(paths[0])) is not None
    ]


def _tables_below(folder: Path) -> list[Path]:
    """The tables directly in a folder."""
    return [path for path in _listed(folder)[0] if is_table(path.name)]


def _folder_unit(folder: Path, tables: list[Path]) -> _Unit | None:
    """The unit of a folder that is named as a split and holds its table; None for other folders."""
    name = parse_split_name(folder.name)
    if not name.split or name.unlabelled:
        return None
    units = _units(tables)
    if len(units) > 1:
        raise DataError(
            f"Expected one table in {printable(str(folder))}, got {counted([u.name for u in units])}. "
            "Remove the others, or write them as one."
        )
    return _Unit(f"{folder.name}/{units[0].name}", units[0].paths, name)


def _holds_texts(folder: Path) -> bool:
    """Whether there is a text file anywhere in the folders of a folder, or in it."""
    for _, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if junk_name(name, is_folder=True) is None]
        if any(n.lower().endswith(_TEXT) and junk_name(n, is_folder=False) is None for n in files):
            return True
    return False


def _one_each(units: list[_Unit], folder: Path) -> dict[str, _Unit]:
    """`{split: unit}`; a split's own name goes before one with other words in it."""
    found: dict[str, _Unit] = {}
    for own in (True, False):
        names: dict[str, _Unit] = {}
        for unit in units:
            split = unit.split.split
            if not split or unit.split.unlabelled or bool(unit.split.rest) == own or split in found:
                continue
            if split in names:
                raise DataError(
                    f"Expected one {split} split in {printable(str(folder))}, got "
                    f"{printable(names[split].name)} and {printable(unit.name)}. Remove one."
                )
            names[split] = unit
        found |= names
    return found


def _without_splits(
    folder: Path,
    tables: list[Path],
    inner: Mapping[Path, list[Path]],
    has_texts: bool,
    named: tuple[str, ...],
) -> TableFiles | None:
    """Look through the only folder with tables; else say what is wanted."""
    holders = [path for path, below in inner.items() if below]
    if not tables and len(holders) == 1:
        found = find_split_tables(holders[0], named=named)
        if found is not None:
            return TableFiles(
                found.splits,
                (f"read from {printable(holders[0].name)}/, the only folder of tables", *found.notes),
            )
    if not tables and not holders and len(inner) == 1:
        [only] = inner
        found = find_split_tables(only, named=named)
        return found and TableFiles(
            found.splits, (f"read from {printable(only.name)}/, the only folder", *found.notes)
        )
    if len(holders) > 1 and not tables:
        raise DataError(
            f"Expected one folder of tables in {printable(str(folder))}, got "
            f"{counted([f'{path.name}/' for path in holders])}. Pass one of these folders."
        )
    if tables and not has_texts:
        shown = ", ".join(printable(path.name) for path in tables[:3]) + (", ..." if len(tables) > 3 else "")
        raise DataError(
            f"Expected train{tables[0].suffix} in {printable(str(folder))}, got {shown}. Pass that file "
            "itself, or rename it."
        )
    return None


def _notes(
    found: dict[str, _Unit],
    used: set[Path],
    files: list[Path],
    folders: list[Path],
    junk: Counter[str],
    named: tuple[str, ...],
) -> Iterator[str]:
    unusual = [
        f"{printable(unit.name)} as {split}"
        for split, unit in found.items()
        if unit.paths[0].name.lower().split(".")[0] not in (split, "val")
    ]
    if unusual:
        yield f"read {', '.join(unusual)}"
    tables = [path.name for path in files if is_table(path.name) and path not in used]
    if tables:
        yield f"not used: {counted(tables, 'tables')}, no splits by their names"
    others = [
        path.name
        for path in files
        if not (is_table(path.name) or path in used or path.name.lower().endswith(named))
    ]
    if others:
        yield f"not used: {counted(others, 'files')} that are no tables"
    above = {parent for path in used for parent in (path, *path.parents)}
    left = [f"{path.name}/" for path in folders if path not in above and not named]
    if left:
        yield f"not used: {counted(left, 'folders')}"
    if junk:
        yield "not used: left by other programs, " + ", ".join(f"{n} {printable(k)}" for k, n in junk.items())
