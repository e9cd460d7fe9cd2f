"""A data set that TensorFlow Datasets has prepared: images, laid out as files once, or texts."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.data.split_names import SPLITS, parse_split_name
from ktransfer.errors import DataError, listed
from ktransfer.security.safe_io import inside
from ktransfer.utils.files import cache_folder

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike


_VERSION = re.compile(r"\d+\.\d+\.\d+")
_SPEC = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def read_tfds(
    spec: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[dict[str, dict[str, list[str]]], tuple[str, ...]]:
    """Lay out the images of a prepared data set as files and list them.

    The encoded bytes are written as they are, one file an example, below
    `<cache_dir>/tfds/<name>[/<config>]/<version>-<digest>/<split>/<class>/`. The digest is of the prepared
    data's description, so that preparing it anew is noticed. From there on it is a folder like any other.

    Args:
        spec: `NAME[/CONFIG][:VERSION]`; without a version the newest prepared one.
        data_dir: Where TFDS keeps its data; None takes `TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        cache_dir: None takes `KTRANSFER_CACHE` or `~/.cache/ktransfer`.

    Returns:
        `({split: {class name: [path, ...]}}, notes)` with `train` and, where there are such, `validation` and
        `test`; the notes say what is not used.

    Raises:
        DataError: TFDS is not installed, the data set is not prepared there, or has no labelled images.

    Example:
        >>> read_tfds("tf_flowers:3.0.1")[0]["train"]["roses"][0]  # doctest: +SKIP
        '/home/ada/.cache/ktransfer/tfds/tf_flowers/3.0.1-5d41402a/train/roses/000017.jpg'
    """
    tfds, prepared = import_tfds(spec), find_prepared(spec, data_dir)
    builder = tfds.builder_from_directory(str(prepared))
    image_key, label_key = (builder.info.supervised_keys or ("image", "label"))[:2]
    features = dict(builder.info.features.items())
    image, label = features.get(image_key), features.get(label_key)
    # Floating-point images are stored as PNG files of their bytes, which no decoder understands.
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype.kind == "u"
    if not (is_image and isinstance(label, tfds.features.ClassLabel)):
        raise DataError(
            f"Expected an image and a class label as the data set's supervised keys, got {listed(features)} "
            f"in tfds:{spec}. Pass a data set for image classification."
        )
    folders = {_folder_name(name): name for name in label.names}
    cache = Path(cache_dir).expanduser() if cache_dir else cache_folder()
    described = (prepared / "dataset_info.json").read_bytes() + (prepared / "features.json").read_bytes()
    described += b"%d" % (prepared / "dataset_info.json").stat().st_mtime_ns
    described += ",".join(_split_names(builder)).encode()
    digest = hashlib.sha256(described).hexdigest()[:8]
    try:
        target = inside(cache / "tfds", builder.info.full_name)
    except ValueError as error:
        raise DataError(
            f"Expected a data set's name, configuration and version, got tfds:{spec}, where {error}. Prepare "
            "it anew."
        ) from error
    target = target.with_name(f"{target.name}-{digest}")
    if not target.exists():
        _write(target, builder, image_key, label_key, list(folders))
    found = _listed(target, folders, spec)
    examples = {split: sum(map(len, classes.values())) for split, classes in found.items()}
    return found, tuple(_split_notes(builder, examples, "images"))


def read_tfds_texts(
    spec: str, text_feature: str | None, label_feature: str | None, *, data_dir: str | os.PathLike[str] | None
) -> tuple[dict[str, tuple[tuple[str, ...], list[str]]], str, str, tuple[str, ...]]:
    """Read the texts of a prepared data set.

    Args:
        spec: As in `read_tfds`.
        text_feature, label_feature: Names; None takes the data set's supervised keys.
        data_dir: As in `read_tfds`.

    Returns:
        `({split: (texts, names of their classes)}, text feature, label feature, notes)`; texts without a
        label, as test splits have them, are left out, with a note.

    Raises:
        DataError: TFDS is not installed, the data set is not prepared there, or has no labelled texts.

    Example:
        >>> read_tfds_texts("imdb_reviews", None, None, data_dir=None)[1:3]  # doctest: +SKIP
        ('text', 'label')
    """
    tfds = import_tfds(spec)
    builder = tfds.builder_from_directory(str(find_prepared(spec, data_dir)))
    features = dict(builder.info.features.items())
    usual = builder.info.supervised_keys or ("text", "label")
    text, label = text_feature or usual[0], label_feature or usual[1]
    is_text = isinstance(features.get(text), tfds.features.Text)
    if not (is_text and isinstance(features.get(label), tfds.features.ClassLabel)):
        raise DataError(
            f"Expected a text and a class label as features {text!r} and {label!r}, got {listed(features)} "
            f"in tfds:{spec}. Pass --text-column and --label-column."
        )
    found = {}
    for name, split in _split_names(builder).items():
        rows = list(tfds.as_numpy(builder.as_dataset(split=name)))
        rows = [(row[text].decode(), int(row[label])) for row in rows if row[label] >= 0]
        if rows:
            texts, labels = zip(*rows, strict=True)
            found[split] = texts, [features[label].int2str(index) for index in labels]
    if "train" not in found:
        raise DataError(
            f"Expected a split train in tfds:{spec}, got {listed(found) or 'no labelled text'}. Pass another "
            "data set."
        )
    examples = {split: len(texts) for split, (texts, _) in found.items()}
    return found, text, label, tuple(_split_notes(builder, examples, "texts"))


def import_tfds(spec: str) -> Any:
    """The module `tensorflow_datasets`, an extra.

    Raises:
        DataError: It is not installed.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"Expected the package tensorflow-datasets for tfds:{spec}, got an environment without it. Run "
            '`pip install "ktransfer[tfds]"`.'
        ) from error
    return tfds


def find_prepared(spec: str, data_dir: PathLike | None) -> Path:
    """The folder of one prepared version.

    TFDS's own lookup imports the data set's code, fails without it, and may go to the network.
    """
    match = _SPEC.fullmatch(spec)
    if not match:
        raise DataError(
            f"Expected tfds:NAME[/CONFIG][:VERSION], got tfds:{spec}. Pass such as tfds:tf_flowers."
        )
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    name = match["name"] + (f"/{match['config']}" if match["config"] else "")
    versions = _versions(root / name)
    if not versions and not match["config"] and (root / name).is_dir():
        configs = sorted(child.name for child in (root / name).iterdir() if _versions(child))
        if len(configs) > 1:
            raise DataError(
                f"Expected one configuration of {name}, got {listed(configs)}. Pass tfds:{name}/{configs[0]}."
            )
        if configs:
            name = f"{name}/{configs[0]}"
            versions = _versions(root / name)
    if match["version"]:
        versions = [version for version in versions if version == match["version"]]
    if not versions:
        raise DataError(
            f"Expected tfds:{spec} to be prepared, got nothing of it in {root}. Run `tfds build {name} "
            f"--data_dir {root}`, or pass the data_dir that holds it."
        )
    return root / name / max(versions, key=lambda version: tuple(map(int, version.split("."))))


def _split_names(builder: Any) -> dict[str, str]:
    """`{name in TFDS: split}`; of several names for one split its own, else the first."""
    chosen = {}
    for name in builder.info.splits:
        found = parse_split_name(name)
        if (
            found.split
            and not found.rest
            and not found.unlabelled
            and (found.split not in chosen or name == found.split)
        ):
            chosen[found.split] = name
    return {name: split for split, name in chosen.items()}


def _split_notes(builder: Any, examples: Mapping[str, object], noun: str) -> Iterator[str]:
    names = _split_names(builder)
    left = [name for name in builder.info.splits if name not in names]
    if left:
        yield f"not used: the splits {', '.join(left)}"
    for name, split in names.items():
        missing = builder.info.splits[name].num_examples - examples.get(split, 0)
        if missing > 0:
            yield f"not used: {missing:,} {noun} of {name} without a label"


def _versions(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [
        child.name
        for child in folder.iterdir()
        if _VERSION.fullmatch(child.name) and (child / "dataset_info.json").is_file()
    ]


def _write(target: Path, builder: Any, image_key: str, label_key: str, folders: Sequence[str]) -> None:
    import tensorflow_datasets as tfds

    # Examples in the order they are stored, and no copy of them kept in memory.
    reading = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, split in _split_names(builder).items():
            dataset = builder.as_dataset(
                split=name, decoders={image_key: tfds.decode.SkipDecoding()}, read_config=reading
            )
            for index, example in enumerate(tfds.as_numpy(dataset)):
                label, content = int(example[label_key]), bytes(example[image_key])
                # Test splits without answers have the label -1.
                if label < 0:
                    continue
                # The two encodings of TFDS images; decoding goes by the bytes whatever the name.
                suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
                path = partial / split / folders[label] / f"{index:06d}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        try:
            os.replace(partial, target)
        except OSError:
            # Another process was first; what it wrote is the same.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _listed(target: Path, folders: Mapping[str, str], spec: str) -> dict[str, dict[str, list[str]]]:
    found = {}
    for split in SPLITS:
        classes = {
            name: sorted(str(path) for path in (target / split / folder).iterdir())
            for folder, name in folders.items()
            if (target / split / folder).is_dir()
        }
        if classes:
            found[split] = classes
    if "train" not in found:
        raise DataError(
            f"Expected a split train in tfds:{spec}, got {listed(found) or 'no labelled example'}. Pass "
            "another data set."
        )
    return found


def _folder_name(class_name: str) -> str:
    """`class_name` as a file system takes it: separators and leading dots as %XX."""
    return re.sub(r'[/\\:*?"<>|%\x00-\x1f]|^\.', lambda match: f"%{ord(match[0]):02X}", class_name)
