"""A folder of examples to splits and classes: which layouts are read, and what in them is not used."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ktransfer.data.examples import printable
from ktransfer.data.junk import junk_name
from ktransfer.data.split_names import SPLITS, parse_split_name
from ktransfer.errors import DataError

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike
    from ktransfer.data.split_names import SplitName


_MOST_VISITS = 1_000  # of one real folder through links; what is linked more often multiplies without end
_NAMED = 3
# Folders that come with images and hold no class.
_COMPANIONS = (
    *("annotation", "annotations", "label", "labels", "mask", "masks", "segmentation", "segmentations"),
    *("bbox", "bboxes", "boxes", "groundtruth", "ground_truth", "gt", "xml", "xmls", "json", "lists"),
    *("meta", "metadata"),
    *("docs", "doc", "imagesets", "scripts", "code", "src", "logs"),
)
_LISTS = (".txt", ".csv", ".tsv", ".tab", ".json", ".jsonl", ".lst", ".xml", ".xlsx", ".parquet")
_IMAGES = ("image", "images", "img", "imgs", "jpegimages", "pictures", "photos")


@dataclass(frozen=True)
class FileKind:
    """The files that are examples.

    Args:
        noun: What to call them: `"images"` or `"texts"`.
        suffixes: What their names end in, lower case.
        convertible: Suffixes of files of the same kind that are not read, lower case.
        convert_to: What to convert those to, for the message.
        extras: The extra of ktransfer that reads some of those, by suffix. Defaults to none.
        has_masks: Whether masks or labels in folders next to theirs are data for another task. Defaults to `True`.
    """

    noun: str
    suffixes: tuple[str, ...]
    convertible: tuple[str, ...] = ()
    convert_to: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
    has_masks: bool = True

    def matches(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes)

    def how_to_read(self, names: Iterable[str]) -> str:
        """A hint on converting files of `convertible` suffixes.

        Args:
            names: Of the files.

        Example:
            >>> kind = FileKind("images", (".png",), (".heic",), "PNG", extras={".heic": "heic"})
            >>> kind.how_to_read(["1.HEIC"])
            'convert them to PNG, or run `pip install "ktransfer[heic]"` for .heic'
        """
        suffixes = {Path(name).suffix.lower() for name in names}
        extras: dict[str, list[str]] = {}
        for suffix in sorted(suffixes & self.extras.keys()):
            extras.setdefault(self.extras[suffix], []).append(suffix)
        installs = [
            f', or run `pip install "ktransfer[{extra}]"` for {", ".join(of)}' for extra, of in extras.items()
        ]
        return "".join([f"convert them to {self.convert_to}", *installs])


@dataclass(frozen=True)
class Layout:
    """The examples of a folder.

    Attributes:
        splits: `{split: {class name: [path, ...]}}`, with `train` at least; a folder without splits is all
            `train`.
        notes: Lines on how the folder was read and what in it is not used.
    """

    splits: dict[str, dict[str, list[str]]]
    notes: tuple[str, ...]


@dataclass(eq=False)
class _Folder:
    """A folder and what is below it; `total` counts the examples."""

    path: Path
    identity: tuple[int, int]
    parent: _Folder | None = None
    examples: list[str] = field(default_factory=list)
    folders: list[_Folder] = field(default_factory=list)
    total: int = 0

    @property
    def name(self) -> str:
        # macOS may hand out the same name decomposed, and labels are compared across machines.
        return unicodedata.normalize("NFC", self.path.name)

    @property
    def used(self) -> list[_Folder]:
        return [child for child in self.folders if child.total]

    @property
    def is_layered(self) -> bool:
        """Whether there are folders of examples below it."""
        return any(child.total for child in self.folders)


def read_folders(folder: Path, kind: FileKind, *, known: Collection[str] = ()) -> Layout:
    """Read a folder of class folders, or of splits with class folders in them.

    Examples lie at any depth below their class. Links are followed. A wrapper, the only folder with examples
    in it, is searched.

    Args:
        folder: An existing folder.
        kind: The files that are examples.
        known: Names of classes that are known from elsewhere.

    Returns:
        `Layout`.

    Raises:
        DataError: There are no class folders, a class is empty, or it is not clear which folders are splits
            and which are classes.

    Example:
        >>> read_folders(Path("flowers"), FileKind("images", (".jpg",))).splits  # doctest: +SKIP
        {'train': {'daisy': ['flowers/train/daisy/1.jpg', ...], ...}, 'validation': ...}
    """
    reader = _Reader(Path(folder), kind)
    splits = reader.find_splits(reader.root, tuple(known))
    return Layout(splits, tuple(reader.lines()))


def read_class_folders(folder: Path, kind: FileKind, *, known: Collection[str] = ()) -> Layout:
    """Read a folder of class folders that is one split: as `read_folders`, without splits below it."""
    reader = _Reader(Path(folder), kind)
    classes = reader.find_classes(reader.root, tuple(known))
    return Layout({"train": classes}, tuple(reader.lines()))


def counted(names: Collection[str], noun: str = "") -> str:
    """The number of items, and the first few by name.

    Example:
        >>> counted(["a", "b", "c", "d"], "files")
        '4 files (a, b, c, ...)'
    """
    names = list(map(printable, names))
    if len(names) == 1:
        noun = f"{noun[:-3]}y" if noun.endswith("ies") else noun.removesuffix("s")
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names):,} {noun}".rstrip() + f" ({', '.join(names[:_NAMED])}{more})"


class _Reader:
    """Scans a folder once; then decides what its folders are and keeps notes."""

    def __init__(self, folder: Path, kind: FileKind) -> None:
        self.kind = kind
        self.notes: list[str] = []
        self.junk: Counter[str] = Counter()
        self.other: Counter[str] = Counter()
        self.convertible: list[str] = []
        self.lists: list[str] = []
        self.repeated: list[str] = []
        self.top = folder
        self.root = self._scan(folder)

    def lines(self) -> Iterator[str]:
        """The notes, with those on files that were passed over."""
        yield from self.notes
        noun = self.kind.noun
        if self.convertible:
            kinds = _kinds(Counter(Path(name).suffix.lower() for name in self.convertible))
            named = counted(self.convertible, "files")
            fix = self.kind.how_to_read(self.convertible)
            yield f"not used: {named} in formats that are not read, {kinds}; {fix}"
        if self.lists:
            yield f"not used: {counted(self.lists, 'files')} named as splits, which are no {noun}"
        if self.other:
            yield f"not used: files that are no {noun}, {_kinds(self.other)}"
        if self.junk:
            yield f"not used: left by other programs, {_kinds(self.junk)}"
        if self.repeated:
            yield f"not used: links to a folder that they lie in, {counted(self.repeated)}"

    def _scan(self, folder: Path) -> _Folder:
        """The tree of folders below `folder`; links cannot loop or multiply without end."""
        visits: Counter[tuple[int, int]] = Counter()
        root = _Folder(folder, _identity(folder))
        above = {_identity(parent) for parent in folder.resolve().parents}
        nodes, order = {str(folder): root}, []
        try:
            for path, folders, files in os.walk(str(folder), followlinks=True, onerror=_raise):
                node = nodes.pop(path)
                order.append(node)
                self._take_files(node, sorted(files))
                kept = []
                for name in sorted(folders):
                    child = _Folder(Path(path, name), _identity(os.path.join(path, name)), node)
                    label = junk_name(name, is_folder=True)
                    if label:
                        self.junk[label] += 1
                    elif child.identity in above or child.identity in _identities(node):
                        self.repeated.append(self._below(child.path))
                    else:
                        visits[child.identity] += 1
                        if visits[child.identity] > _MOST_VISITS:
                            raise DataError(
                                f"Expected links to a folder at most {_MOST_VISITS:,} times, got more to "
                                f"{printable(str(child.path.resolve()))}. Remove some of them."
                            )
                        kept.append(name)
                        node.folders.append(child)
                        nodes[os.path.join(path, name)] = child
                folders[:] = kept
        except OSError as error:
            raise unlistable(error) from error
        for node in reversed(order):
            node.total = len(node.examples) + sum(child.total for child in node.folders)
        return root

    def _take_files(self, node: _Folder, names: list[str]) -> None:
        for name in names:
            label = junk_name(name, is_folder=False)
            if label:
                self.junk[label] += 1
            elif self.kind.matches(name):
                node.examples.append(name)
            elif name.lower().endswith(self.kind.convertible):
                self.convertible.append(self._below(node.path / name))
            elif name.lower().endswith(_LISTS) and parse_split_name(Path(name).stem).split:
                self.lists.append(self._below(node.path / name))
            else:
                self.other[Path(name).suffix.lower() or "without a suffix"] += 1

    def _below(self, path: Path) -> str:
        return os.path.relpath(path, self.top)

    def _shown(self, node: _Folder) -> str:
        """A folder as messages name it: below the data, with a slash."""
        below = os.path.relpath(node.path, self.top)
        return "the folder itself" if below == "." else printable(below) + "/"

    # Splits.

    def find_splits(self, node: _Folder, known: Sequence[str]) -> dict[str, dict[str, list[str]]]:
        """`{split: {class name: [path, ...]}}` of the data's folder, or of the only folder in it."""
        children = node.used
        found = self._splits_among(children)
        if found:
            return self._read_splits(node, found)
        inner = self._wrapped(node, known)
        if inner is not None:
            self._note_loose(node)
            self.notes.append(f"read from {self._shown(inner)}, the only folder of {self.kind.noun}")
            return self.find_splits(inner, known)
        if not self._are_known(node, known):
            self._refuse_split_names(node)
        by_class = self._splits_in_classes(node)
        if by_class:
            return by_class
        return {"train": self.find_classes(node, known)}

    def _splits_among(self, children: list[_Folder]) -> dict[str, _Folder] | None:
        """`{split: folder}` of those that are splits by their names and by what is in them."""
        names = {child: parse_split_name(child.name) for child in children}
        classes = [
            child
            for child in children
            if child.examples and not (names[child].split or names[child].unlabelled)
        ]

        def is_split(child: _Folder) -> bool:
            # A class may well be called "train": its folder holds examples, a split's holds folders.
            return child.is_layered and not (child.examples and classes) and not names[child].unlabelled

        able = [child for child in children if names[child].split and is_split(child)]
        own = [child for child in able if not names[child].rest]
        splits = {child: split for child in able if (split := names[child].split)}
        found = self._one_each(own, splits)
        # A name with other words in it, as seg_train or a class bullet_train, needs classes in common.
        others = [child for child in able if names[child].rest]
        trains = [found["train"]] if "train" in found else []
        if not trains:
            partners = [child for child in able if names[child].split != "train"]
            trains = [
                child
                for child in others
                if names[child].split == "train" and any(_share(child, partner) for partner in partners)
            ]
        if trains:
            akin = [
                child
                for child in others
                if names[child].split not in found
                and (child in trains or any(_share(child, t) for t in trains))
            ]
            found |= self._one_each(akin, splits)
        return found

    def _one_each(self, folders: list[_Folder], splits: Mapping[_Folder, str]) -> dict[str, _Folder]:
        found: dict[str, _Folder] = {}
        for child in folders:
            split = splits[child]
            if split in found:
                raise DataError(
                    f"Expected one {split} folder in {self._place(child.parent or child)}, got "
                    f"{printable(found[split].name)}/ and {printable(child.name)}/. Remove one."
                )
            found[split] = child
        return found

    def _read_splits(self, node: _Folder, found: dict[str, _Folder]) -> dict[str, dict[str, list[str]]]:
        noun = self.kind.noun
        if "train" not in found:
            other = next(iter(found.values()))
            train = next((c for c in node.used if parse_split_name(c.name).split == "train"), None)
            received = f"{self._place(node)} without it"
            if train is not None:
                received = f"{self._contents(train)} directly in {self._shown(train)}"
            raise DataError(
                f"Expected train/ with class folders, as in {self._shown(other)} next to it, got {received}. "
                "Add it, or pass the folder that holds the class folders."
            )
        self._note_loose(node)
        unusual = [
            f"{self._shown(found[split])} as {split}"
            for split in SPLITS
            if split in found and found[split].name.lower() not in (split, "val")
        ]
        if unusual:
            self.notes.append(f"read {', '.join(unusual)}")
        splits = {"train": self.find_classes(found["train"], ())}
        classes = tuple(splits["train"])
        self._refuse_empty_splits(node)
        for child in node.used:
            name = parse_split_name(child.name)
            if child not in found.values():
                self._leave(child, name, classes, found)
            elif name.split is not None and name.split != "train":
                if (bare := _unlabelled(child, classes)) is not None:
                    self._leave_unlabelled(bare, name.split)
                else:
                    splits[name.split] = self.find_classes(child, classes)
        for child in node.folders:
            if not child.total and not parse_split_name(child.name).split:
                self.notes.append(f"not used: {self._shown(child)}, which holds no {noun}")
        return {split: splits[split] for split in SPLITS if split in splits}

    def _refuse_empty_splits(self, node: _Folder) -> None:
        for child in node.folders:
            name = parse_split_name(child.name)
            if not child.total and name.split and not name.rest and not name.unlabelled:
                raise DataError(
                    f"Expected a folder of {self.kind.noun} for each class in {self._shown(child)}, got "
                    f"{self._contents(child)}. Add them, or remove that folder."
                )

    def _leave(
        self, child: _Folder, name: SplitName, classes: Collection[str], found: dict[str, _Folder]
    ) -> None:
        """Name a folder next to the splits that is none of them, or refuse it."""
        if name.unlabelled or (name.split == "test" and _unlabelled(child, classes) is not None):
            self._leave_unlabelled(child, "test")
        elif name.split and not child.is_layered and name.split not in found:
            self._leave_unlabelled(child, name.split)
        elif child.name.lower() in (*_COMPANIONS, *_IMAGES):
            self.notes.append(f"not used: {self._shown(child)} ({self._many(child)}), by its name no split")
        elif (
            child.is_layered
            and not child.examples
            and (_subnames(child) & set(classes) or _has_splits(child))
        ):
            self.notes.append(
                f"not used: {self._shown(child)} ({self._many(child)}), which is no split by its name; "
                "call it val/ or test/ if it is one"
            )
        else:
            raise DataError(
                f"Expected splits only next to {self._shown(found['train'])}, got {self._shown(child)} with "
                f"{self._many(child)}. Move it into {self._shown(found['train'])} if it is a class, "
                "rename it to val/ or test/ if it is a split, or remove it."
            )

    def _leave_unlabelled(self, child: _Folder, split: str) -> None:
        noun, shown = self.kind.noun, self._shown(child)
        if split == "test":
            self.notes.append(
                f"not used: {shown} ({self._many(child)} in no class folders, so without labels)"
            )
            return
        raise DataError(
            f"Expected a folder of {noun} for each class in {shown}, got {self._contents(child)}. "
            f"Put the {noun} of each class into a folder named after it, or remove that folder."
        )

    def _splits_in_classes(self, node: _Folder) -> dict[str, dict[str, list[str]]] | None:
        """The splits of class folders at the top that hold `train/` and so on; None if none do."""
        found = {}
        for child in node.used:
            names = {inner: parse_split_name(inner.name) for inner in child.used}
            found[child] = {inner: n.split for inner, n in names.items() if n.split and not n.rest}
        union = {split for inner in found.values() for split in inner.values()}
        several = any(len(set(inner.values())) > 1 for inner in found.values())
        every = all(len(inner) == len(child.used) > 0 for child, inner in found.items())
        if len(union) < 2 or not (several or every):
            return None
        clear = (
            len(found) > 1
            and every
            and not any(child.examples for child in found)
            and all(
                "train" in inner.values() and len(set(inner.values())) == len(inner)
                for inner in found.values()
            )
            and not any(deep.is_layered for inner in found.values() for deep in inner)
        )
        if not clear:
            example = next(child for child, inner in found.items() if inner)
            raise DataError(
                f"Expected splits at the top, such as train/CLASS/ and val/CLASS/, got "
                f"{', '.join(self._shown(inner) for inner in list(found[example])[:_NAMED])} below "
                f"{self._shown(example)}. {self._wanted()}"
            )
        self._refuse_empty(node)
        self._note_loose(node)
        self.notes.append(
            f"read the splits below each class, such as {self._shown(next(iter(found[child])))}"
        )
        splits: dict[str, dict[str, list[str]]] = {}
        for child, inner in found.items():
            for folder, split in inner.items():
                splits.setdefault(split, {})[self._class_name(child)] = self._paths(folder)
        return {split: splits[split] for split in SPLITS if split in splits}

    # Classes.

    def find_classes(self, node: _Folder, known: Sequence[str]) -> dict[str, list[str]]:
        """`{class name: [path, ...]}` of a folder of class folders."""
        noun = self.kind.noun
        while (inner := self._wrapped(node, known)) is not None:
            self._note_loose(node)
            self.notes.append(f"read from {self._shown(inner)}, the only folder of {noun} there")
            node = inner
        if not node.folders:
            table = ", or pass a table of texts itself" if node is self.root and not node.examples else ""
            raise DataError(
                f"Expected a folder of {noun} for each class in {self._place(node)}, got "
                f"{self._contents(node)}. Put the {noun} of each class into a folder named after it{table}."
            )
        if not self._are_known(node, known):
            self._refuse_split_names(node)
            self._refuse_companions(node)
            self._refuse_unlabelled(node)
            if node.used and node is not self.root and self._splits_in_classes(node):
                raise DataError(
                    f"Expected class folders in {self._shown(node)}, got splits below them. {self._wanted()}"
                )
            self._refuse_repeated(node)
        self._refuse_empty(node)
        self._note_loose(node)
        self._note_split_names(node)
        layered = [child for child in node.used if child.is_layered]
        if layered:
            below = self._shown(layered[0].used[0])
            self.notes.append(
                f"read the folders below {counted([f'{child.name}/' for child in layered], 'class folders')}, such as "
                f"{below}, as part of their class"
            )
        classes: dict[str, list[str]] = {}
        for child in node.folders:
            if child.total:
                classes.setdefault(self._class_name(child), []).extend(self._paths(child))
        return classes

    def _are_known(self, node: _Folder, known: Sequence[str]) -> bool:
        return bool(known) and {child.name for child in node.used} <= set(known)

    def _wrapped(self, node: _Folder, known: Sequence[str]) -> _Folder | None:
        """The only folder with examples in `node`, where it holds folders of examples itself."""
        if len(node.used) != 1:
            return None
        [inner] = node.used
        empty = [c for c in node.folders if not c.total and c.name.lower() not in _COMPANIONS]
        if inner.examples or not inner.is_layered or empty or inner.name in known:
            return None
        for child in node.folders:
            if child is not inner:
                self.notes.append(f"not used: {self._shown(child)}, which holds no {self.kind.noun}")
        return inner

    def _class_name(self, child: _Folder) -> str:
        name = child.name
        if printable(name) != name:
            raise DataError(
                f"Expected class folders named in UTF-8, got {printable(str(child.path))}. Rename it."
            )
        return name

    def _paths(self, node: _Folder) -> list[str]:
        """The paths of the examples below a class folder, of each real folder once."""
        seen, found, waiting = set(), [], [node]
        while waiting:
            folder = waiting.pop()
            if folder.identity in seen:
                continue
            seen.add(folder.identity)
            found += [os.path.join(folder.path, name) for name in folder.examples]
            waiting += reversed(folder.folders)
        for path in found:
            if not os.path.isfile(path):
                article, noun = "an" if self.kind.noun[0] in "aeiou" else "a", self.kind.noun[:-1]
                raise DataError(
                    f"Expected {article} {noun} file, got {printable(path)}, a link to nothing or no regular "
                    "file. Remove it."
                )
        return found

    # What is refused.

    def _wanted(self) -> str:
        return (
            f"Put the {self.kind.noun} into {printable(str(self.root.path))}/CLASS/, or into "
            f"{printable(str(self.root.path))}/train/CLASS/ and val/CLASS/."
        )

    def _refuse_split_names(self, node: _Folder) -> None:
        """Folders that are all called as splits are, with the examples directly in them, are no classes."""
        used = [child for child in node.used if child.name.lower() not in (*_COMPANIONS, *_IMAGES)]
        names = [parse_split_name(child.name) for child in used]
        splits = [bool(name.split or name.unlabelled) for name in names]
        if names and all(splits) and any(name.split for name in names):
            shown = " and ".join(self._shown(child) for child in used[:_NAMED])
            flat = not any(child.is_layered for child in used)
            hold = f" and hold {self.kind.noun} without class folders" if flat else ""
            raise DataError(
                f"Expected a folder of {self.kind.noun} for each class, got {shown}, which are named as "
                f"splits{hold}. {self._wanted()}"
            )

    def _note_split_names(self, node: _Folder) -> None:
        names = {child: parse_split_name(child.name) for child in node.used}
        called = [child for child, name in names.items() if name.split and not name.rest]
        if called:
            shown = ", ".join(self._shown(child) for child in called)
            self.notes.append(f"read {shown} as classes like the others, not as splits")

    def _refuse_companions(self, node: _Folder) -> None:
        """Images next to their masks or labels are a layout for other tasks."""
        names = {child.name.lower() for child in node.folders}
        if self.kind.has_masks and names <= {*_COMPANIONS, *_IMAGES} and names & set(_IMAGES) and node.used:
            shown = " and ".join(self._shown(child) for child in node.folders[:_NAMED])
            raise DataError(
                f"Expected a folder of {self.kind.noun} for each class, got {shown}, by their names no "
                f"classes, but data for detection, segmentation or a table of labels. {self._wanted()}"
            )

    def _refuse_unlabelled(self, node: _Folder) -> None:
        for child in node.used:
            if child.name.lower() in ("unsup", "unlabeled", "unlabelled"):
                raise DataError(
                    f"Expected folders named after classes, got {self._shown(child)}, by its name "
                    f"{self._many(child)} without labels. Move it out of {self._place(node)}."
                )

    def _refuse_empty(self, node: _Folder) -> None:
        for child in node.folders:
            if child.total:
                continue
            if child.name.lower() in _COMPANIONS:
                self.notes.append(f"not used: {self._shown(child)}, which holds no {self.kind.noun}")
                continue
            noun, convertible = self.kind.noun, self.kind.convertible
            fix = f"Add {noun} to that class"
            unread = [n for n in os.listdir(child.path) if Path(n).suffix.lower() in convertible]
            if unread:
                fix = self.kind.how_to_read(unread)
                fix = fix[0].upper() + fix[1:]
            raise DataError(
                f"Expected {noun} in {self._place(child)}, got {self._contents(child)}. {fix}, or remove its "
                "folder."
            )

    def _refuse_repeated(self, node: _Folder) -> None:
        """Sub-folders that are the same in several folders may be the classes, and these no classes."""
        holders: dict[str, list[_Folder]] = {}
        names = {child.name for child in node.used}
        for child in node.used:
            # A folder of the same classes again, such as more/cats/ next to cats/.
            again = sorted(_subnames(child) & names - {child.name}) if not child.examples else []
            if again:
                raise DataError(
                    f"Expected a folder of {self.kind.noun} for each class, got {printable(again[0])}/ both "
                    f"in {self._shown(node)} and in {self._shown(child)}. {self._wanted()}"
                )
        for child in node.used:
            for name in _subnames(child) if not child.examples else ():
                holders.setdefault(name, []).append(child)
        for child in node.used:
            shared = Counter(
                other for n in _subnames(child) for other in holders.get(n, ()) if other is not child
            )
            other = next((other for other, count in shared.items() if count > 1), None)
            if other is None or child.examples:
                continue
            same = sorted(_subnames(child) & _subnames(other))
            raise DataError(
                f"Expected a folder of {self.kind.noun} for each class, got the same folders "
                f"({', '.join(map(printable, same[:_NAMED]))}) in {self._shown(child)} and "
                f"{self._shown(other)}: either may be the classes. {self._wanted()}"
            )

    def _many(self, node: _Folder) -> str:
        noun = self.kind.noun
        return f"{node.total:,} {noun.removesuffix('s') if node.total == 1 else noun}"

    def _note_loose(self, node: _Folder) -> None:
        if node.examples:
            loose = counted(node.examples, self.kind.noun)
            self.notes.append(
                f"not used: {loose} directly in {self._shown(node)}, outside of every class folder"
            )

    def _place(self, node: _Folder) -> str:
        return printable(str(node.path))

    def _contents(self, node: _Folder) -> str:
        """A short description of the direct contents of a folder."""
        try:
            names = sorted(name for name in os.listdir(node.path) if not name.startswith("."))
        except OSError as error:
            raise unlistable(error) from error
        kinds = Counter(
            "folders" if (node.path / n).is_dir() else Path(n).suffix.lower() or "no suffix" for n in names
        )
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "an empty folder"


def _kinds(counts: Counter[str]) -> str:
    """Kinds and how many of each, the most frequent first."""
    common = counts.most_common(6)
    more = sum(counts.values()) - sum(count for _, count in common)
    counted = [f"{count:,} {printable(kind)}" for kind, count in common]
    return ", ".join(counted + ([f"{more:,} others"] if more else []))


def _effective(node: _Folder) -> _Folder:
    """`node`, or the folder that its only folders lead to."""
    while not node.examples and len(node.used) == 1 and node.used[0].is_layered:
        node = node.used[0]
    return node


def _subnames(node: _Folder) -> set[str]:
    """Names of the folders of examples in a folder, also inside wrapper folders."""
    return {child.name for child in _effective(node).used}


def _share(one: _Folder, other: _Folder) -> bool:
    """Whether two folders hold a folder of the same name."""
    return bool(_subnames(one) & _subnames(other))


def _has_splits(node: _Folder) -> bool:
    return any(parse_split_name(name).split for name in _subnames(node))


def _unlabelled(node: _Folder, classes: Collection[str]) -> _Folder | None:
    """The folder with all examples of a split that has no class folders, None where it has some."""
    while not node.examples and len(node.used) == 1 and node.used[0].name not in classes:
        node = node.used[0]
    return node if node.examples and not node.is_layered else None


def _identity(path: PathLike) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _identities(node: _Folder) -> Iterator[tuple[int, int]]:
    here: _Folder | None = node
    while here is not None:
        yield here.identity
        here = here.parent


def _raise(error: OSError) -> NoReturn:
    raise error


def unlistable(error: OSError) -> DataError:
    """The error for a folder that cannot be listed."""
    return DataError(
        f"Expected to list every folder, got {printable(str(error.filename))} ({error.strerror}). Correct "
        "its permissions, or remove it."
    )
