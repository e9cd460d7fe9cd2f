"""What is known of one exported file, and how it comes to lie under its final name whole or not at all."""

import contextlib
import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ktransfer.exporters.parity import Parity


@dataclass(frozen=True)
class Artefact:
    """One exported model: what a program needs to use it, and the proof that it answers as the model does.

    Args:
        format: Of `ALL_FORMATS`.
        path: Where it lies, relative to the run folder, with forward slashes: `"artefacts/model.onnx"`.
        sha256: Of the file's bytes; for a folder, of its sorted relative paths and their contents.
        size_bytes: Of the file, or of all files in the folder.
        signature: `{"inputs": [{"name", "shape", "dtype", ...}, ...], "output": {"name", "shape", "dtype"}}`;
            `None` in a shape is an axis of any size. A SavedModel that takes texts has that of its signature
            `ids` too, under this name.
        batch: `"dynamic"`, or the one batch size that the artefact takes.
        parity: What was measured when the artefact was run again by its own runtime; of texts, on their ids.
        sequence: Of a text classifier: `"dynamic"`, or the one length in tokens to which ids are padded.
        text_parity: The same on raw texts, where the artefact takes them.
        differing_texts: Of those texts, how many have other ids inside the artefact.
        limits: What a quantized artefact was judged by, as `Parity.check_labels` takes it; `None` of one in
            float32, which is judged by a tolerance.

    Example:
        >>> parity = Parity(1e-7, 1e-8, 2e-6, 3.0, 1.0, 8, (1, 8), 0.2, 0.2)
        >>> artefact = Artefact("onnx", "artefacts/model.onnx", "9f86d0", 1024, {}, "dynamic", parity)
        >>> Artefact.from_dict(artefact.to_dict()) == artefact
        True
    """

    format: str
    path: str
    sha256: str
    size_bytes: int
    signature: dict
    batch: str | int
    parity: Parity
    sequence: str | int | None = None
    text_parity: Parity | None = None
    differing_texts: int | None = None
    limits: dict[str, float] | None = None

    def to_dict(self):
        """Return the artefact as a dictionary of JSON values."""
        parities = {"parity": self.parity, "text_parity": self.text_parity}
        return asdict(self) | {name: parity and parity.to_dict() for name, parity in parities.items()}

    @classmethod
    def from_dict(cls, values):
        """Return the artefact that `to_dict` gave."""
        parities = {name: values.get(name) for name in ("parity", "text_parity")}
        return cls(
            **values | {name: parity and Parity.from_dict(parity) for name, parity in parities.items()}
        )


def fingerprint(path):
    """Return `(sha256, size_bytes)` of the file or folder `path`, whatever the order of a listing."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    digest, size = hashlib.sha256(), 0
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    for name in sorted(files):
        file_sha256, file_size = fingerprint(files[name])
        # The format of `sha256sum`, so that the folder's hash can be worked out with standard tools.
        digest.update(f"{file_sha256}  {name}\n".encode())
        size += file_size
    return digest.hexdigest(), size


@contextlib.contextmanager
def staging(folder):
    """Make an empty `folder`, yield it, and remove it with all that is left in it, whatever happens."""
    shutil.rmtree(folder, ignore_errors=True)  # what a killed export left
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(source: Path, target: Path):
    """Put `source` in the place of `target`; both are on one file system.

    A folder cannot be replaced in one step, so the old one is kept in `source`'s folder until the new one
    has its name, and put back if that fails.
    """
    if not target.is_dir():
        os.replace(source, target)
        return
    previous = source.with_name(f"{target.name}.previous")
    os.replace(target, previous)
    try:
        os.replace(source, target)
    except BaseException:
        os.replace(previous, target)
        raise
