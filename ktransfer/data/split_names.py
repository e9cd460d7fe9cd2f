"""Names of splits, as folders, tables and prepared data sets bear them."""

import re
import unicodedata
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")

# The words for each split, in any case.
_WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": (
        *("val", "vali", "valid", "validate", "validating", "validation", "vld"),
        *("dev", "devel", "development", "eval", "evaluate", "evaluation", "holdout", "heldout"),
    ),
    "test": ("test", "testing", "tst"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
# Words that say no more than that the split is data.
_FILLERS = (
    *("set", "sets", "data", "dataset", "datasets", "split", "splits", "part", "subset", "folder", "dir"),
    *(
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "pic",
        "pics",
        "photo",
        "photos",
        "jpg",
        "png",
    ),
    *("file", "files", "sample", "samples", "example", "examples", "labeled", "labelled", "full", "all"),
    *("text", "texts", "txt", "csv", "tsv", "clean", "cleaned", "final", "processed", "raw"),
)
_UNLABELLED = (
    *("unlabeled", "unlabelled", "unsup", "unsupervised", "unannotated", "nolabel", "nolabels"),
    *("pred", "preds", "predict", "prediction", "predictions", "inference", "submission"),
)
_JOINED = re.compile(
    f"(?:{'|'.join(_FILLERS)})?(?P<word>{'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})"
    f"(?:{'|'.join(_FILLERS)})?"
)
_NUMBER = re.compile(r"v?\d+")
# What a column that names the split of each row is called, in any case.
_COLUMNS = ("split", "subset", "partition", "set", "part", "data_split", "dataset_split", "phase")


@dataclass(frozen=True)
class SplitName:
    """The split that a name stands for.

    Attributes:
        split: `"train"`, `"validation"` or `"test"`; None where it names none of them, or several.
        rest: The words that are about something else, in lower case; a name without any is a split's own.
        unlabelled: Whether the name says that there are no labels.

    Example:
        >>> parse_split_name("seg_train")
        SplitName(split='train', rest=('seg',), unlabelled=False)
    """

    split: str | None
    rest: tuple[str, ...] = ()
    unlabelled: bool = False


def parse_split_name(name: str) -> SplitName:
    """Find the split that a name is about, whatever its case, separators, prefixes and suffixes.

    Args:
        name: The name of a folder, of a file without its suffix, or of a split.

    Returns:
        `SplitName`.

    Example:
        >>> [parse_split_name(name).split for name in ("Train", "test-set", "valImages", "dev", "roses")]
        ['train', 'test', 'validation', 'validation', None]
    """
    name = unicodedata.normalize("NFKC", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    name = re.sub(r"\b(hold|held)[\W_]*out", r"\1out", name.replace("_", " "))
    name = re.sub(r"\b(un|no)\W+(?=label)", r"\1", name)
    # Digits that end a word are a year, a version or a number: train2017, test1.
    words = re.findall(r"v?\d+\b|[^\W\d_]+(?=\d+\b)|\w+", name)
    found, rest, unlabelled = [], [], False
    for word in words:
        joined = _JOINED.fullmatch(word)
        if joined:
            found.append(_SPLIT_OF[joined["word"]])
        elif word in _UNLABELLED:
            unlabelled = True
        elif word not in _FILLERS and not _NUMBER.fullmatch(word):
            rest.append(word)
    split = found[0] if len(set(found)) == 1 else None
    return SplitName(split, tuple(rest), unlabelled)


def is_split_column(name: str) -> bool:
    """Whether a column of a table is called as those that name the split of each row.

    Example:
        >>> is_split_column("Split"), is_split_column("label")
        (True, False)
    """
    return name.strip().casefold() in _COLUMNS


def without_shard(stem: str) -> str:
    """The name that the shards of one table share, of a file without its suffix.

    Example:
        >>> without_shard("train-00000-of-00002"), without_shard("train"), without_shard("0001")
        ('train', 'train', '')
    """
    match = re.search(r"[-_.]\d{4,}-of-\d{4,}(-[0-9a-f]{8,})?$", stem) or re.fullmatch(r"\d{4,}", stem)
    return stem[: match.start()] if match else stem
