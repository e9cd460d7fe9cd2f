"""Description of one exported file, and its atomic publication under its final name."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ktransfer.errors import ExportError
from ktransfer.exporting.parity import Parity


@dataclass(frozen=True)
class Artifact:
    """One exported model: what a program needs to use it, and the proof that it answers as the model does.

    Args:
        format: Of `ALL_FORMATS`.
        path: Where it lies, relative to the run folder, with forward slashes: `"artifacts/model.onnx"`.
        sha256: Of the file's bytes; for a folder, of its sorted relative paths and their contents.
        size_bytes: Of the file, or of all files in the folder.
        signature: `{"inputs": [{"name", "shape", "dtype", ...}, ...], "output": {"name", "shape", "dtype"}}`;
            `None` in a shape is an axis of any size. A SavedModel that takes texts has that of its signature
            `ids` too, under this name.
        batch: `"dynamic"`, or the one batch size that the artifact takes.
        parity: What was measured when the artifact was run again by its own runtime; of texts, on their ids.
        sequence: Of a text classifier: `"dynamic"`, or the one length in tokens to which ids are padded.
        raw_parity: The same on examples as people have them, where the artifact takes them: texts, image
            files, images of any size.
        differing_texts: Of those texts, how many have other ids inside the artifact.
        files_read: Of a SavedModel that reads image files: how far its pixels are from the run's, of which
            variants, and what it refuses, as `FilesRead.to_dict` gives it.
        limits: Limits that a quantized artifact had to keep, as `Parity.check_labels` takes it; `None` of one in
            float32, which has a tolerance instead.
        temperature: What the logits are divided by before softmax.
        flex_ops: Operations of TensorFlow itself in a TFLite file, by name: an app needs the Flex delegate.
        client: The library that the file's metadata is for: its `name`, and of texts how many `compared_texts` there
            were and to how many of them, `differing_texts`, it gives other ids.
        min_runtime: The `name` and least `version` of the runtime that has the file's operators; of a SavedModel the
            version that wrote it.

    Example:
        >>> parity = Parity(1e-7, 1e-8, 2e-6, 3.0, 1.0, 8, (1, 8), 0.2, 0.2)
        >>> output = {"name": "probabilities", "shape": [None, 2], "dtype": "float32"}
        >>> signature = {"inputs": [], "output": output}
        >>> artifact = Artifact("onnx", "artifacts/model.onnx", "9f86d0", 1024, signature, "dynamic", parity)
        >>> Artifact.from_dict(artifact.to_dict()) == artifact
        True
    """

    format: str
    path: str
    sha256: str
    size_bytes: int
    signature: dict[str, Any]
    batch: str | int
    parity: Parity
    sequence: str | int | None = None
    raw_parity: Parity | None = None
    differing_texts: int | None = None
    files_read: dict[str, Any] | None = None
    limits: dict[str, float] | None = None
    temperature: float = 1.0
    flex_ops: tuple[str, ...] = ()
    client: dict[str, Any] | None = None
    min_runtime: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the artifact as a dictionary of JSON values."""
        parities = {"parity": self.parity, "raw_parity": self.raw_parity}
        return asdict(self) | {name: parity and parity.to_dict() for name, parity in parities.items()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Return the artifact that `to_dict` gave.

        Raises:
            TypeError, ValueError: The values are none that it gave.
        """
        if not isinstance(values, dict):
            raise TypeError(f"{values!r:.80} for an artifact")
        for name, kind in _KINDS.items():
            if not isinstance(values.get(name), kind):
                raise ValueError(f"{values.get(name)!r:.80} as {name} of an artifact")
        _check_signature(values["signature"])
        limits = values.get("limits") or {}
        if not limits.keys() <= {"agreement", "accuracy_drop"} or not all(
            isinstance(limit, int | float) for limit in limits.values()
        ):
            raise ValueError(f"{limits!r:.80} as limits of an artifact")
        flex_ops = tuple(values.get("flex_ops", ()))
        if not all(isinstance(name, str) for name in flex_ops):
            raise ValueError(f"{flex_ops!r:.80} as flex_ops of an artifact")
        parities = {name: values.get(name) for name in ("parity", "raw_parity")}
        return cls(
            **values
            | {"flex_ops": flex_ops}
            | {
                name: None if parity is None else Parity.from_dict(parity)
                for name, parity in parities.items()
            }
        )


_KINDS = {
    **dict.fromkeys(("format", "path", "sha256"), str),
    **{"size_bytes": int, "signature": dict, "batch": int | str, "parity": dict},
    **{"sequence": int | str | None, "raw_parity": dict | None, "limits": dict | None},
    **{"files_read": dict | None, "client": dict | None, "min_runtime": dict | None},
}


def _check_signature(signature: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless it, and any under a name in it, has inputs and an output as in `Artifact`."""
    for name, value in {"inputs": None, "output": None, **signature}.items():
        if name not in ("inputs", "output"):
            if not isinstance(value, dict) or "inputs" not in value or "output" not in value:
                raise ValueError(f"{value!r:.80} for a signature")
            _check_signature(value)
            continue
        for tensor in value if isinstance(value, list) else [value]:
            known = isinstance(tensor, dict) and {"name", "shape", "dtype"} <= tensor.keys()
            if not known or not all(isinstance(tensor[key], str) for key in ("name", "dtype")):
                raise ValueError(f"{tensor!r:.80} for an input or output")


def fingerprint(path: Path) -> tuple[str, int]:
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


def check_place(path: Path) -> None:
    """Check that an artifact can take the place of what is at its path.

    Args:
        path: The artifact's; a name without a suffix is that of a folder.

    Raises:
        ExportError: There is a folder where it is a file, or a file where it is a folder.

    Example:
        >>> check_place(Path("nowhere/model.onnx"))
    """
    kinds = {False: "a folder", True: "a file"}
    if path.exists() and path.is_dir() == bool(path.suffix):
        raise ExportError(
            f"Expected {kinds[bool(path.suffix)]} or nothing at {path}, got {kinds[not path.suffix]}. Move it away."
        )


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make an empty `folder`, yield it, and remove it with all that is left in it, whatever happens."""
    shutil.rmtree(folder, ignore_errors=True)  # what a killed export left
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(source: Path, target: Path) -> None:
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
