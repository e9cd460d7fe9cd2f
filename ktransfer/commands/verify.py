"""`ktransfer verify`: is what a run has exported still what it was, and does it answer as the model does?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.artifacts import artifacts, fixed_axes, validation_examples
from ktransfer.commands.splits import EVALUATION_EXAMPLES, PARITY_EXAMPLES, Say, evenly
from ktransfer.errors import ExportError, KTransferError, RunError, listed
from ktransfer.exporting.artifact import Artifact, fingerprint
from ktransfer.exporting.export_model import decision_at
from ktransfer.exporting.parity import TOLERANCE, Parity, measure_parity
from ktransfer.exporting.processes.runtime_process import RuntimeProcess
from ktransfer.exporting.serving import Serving, reference_function
from ktransfer.runs.run import Run
from ktransfer.security.safe_io import read_bytes, visible
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.core.modality import Modality
    from ktransfer.core.typing import Answer, Array
    from ktransfer.data.examples import Examples


@dataclass(frozen=True)
class Checked:
    """The result of checking one file or folder.

    Args:
        name: The artifact's format, or the file's name.
        path: Relative to the run folder.
        problems: What differs, a clause each; none if all is well.
        parity: How far its answers are from the model's, where they were compared.
        raw_parity: The same on raw texts or image files, where the artifact takes them.
        files_read: Of a SavedModel of images: how far the pixels that it reads from files are from the run's.
        flex_ops: As in `Artifact`.

    Example:
        >>> Checked("onnx", "artifacts/model.onnx", ("sha256 is 9f86d0, 60303a was exported",)).problems
        ('sha256 is 9f86d0, 60303a was exported',)
    """

    name: str
    path: str
    problems: tuple[str, ...] = ()
    parity: Parity | None = None
    raw_parity: Parity | None = None
    files_read: dict[str, Any] | None = None
    flex_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Args:
        checked: Each artifact and its sidecar files, in the order of the manifest.
        unknown: Paths in the run folder that lie among the artifacts, and that the manifest does not name.
        not_compared: Why no answers were compared though they should have been; `None` if they were.

    Example:
        >>> Verification((Checked("onnx", "artifacts/model.onnx"),)).ok
        True
    """

    checked: tuple[Checked, ...]
    unknown: tuple[str, ...] = ()
    not_compared: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing differs, and all was compared that should have been."""
        return self.not_compared is None and not any(checked.problems for checked in self.checked)

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return {"ok": self.ok, **dataclasses.asdict(self)}


def verify(run: Run, *, answers: bool = True, say: Say = print_line) -> Verification:
    """Check a run's artifacts against its manifest and its model.

    Of each artifact: it is there, with the sha256 and size of the export; it carries the run's labels; its
    inputs and outputs are those of the signature; it answers as the Keras model does, on examples that the
    run was validated on and within the limits of the export. Of texts `tokenizer.json` as well, whose ids
    have to be those of the model's own tokenizer. A runtime works in a subprocess, so that one that
    aborts is a finding like any other. What has another sha256 is not run at all.

    Args:
        run: What `Run.load` or `train` gave.
        answers: Whether to compare answers, and ids of texts; the data of the run has to lie where it lay.
        say: Callable that receives a line for each artifact. Defaults to `print_line`, which prints it.

    Returns:
        `Verification`.

    Raises:
        RunError: The run has no artifacts, or answers are to be compared under another Keras backend than
            TensorFlow.

    Example:

        ktransfer.verify(Run.load("runs/flowers")).ok
    """
    entries = artifacts(run)
    if answers and keras.backend.backend() != "tensorflow":
        raise RunError(
            "Expected the TensorFlow backend to compare answers, got "
            f"KERAS_BACKEND={keras.backend.backend()}. Set another, or pass --no-answers."
        )
    evaluated, not_compared = {}, None
    if answers:
        try:
            validation = validation_examples(run)
            for quantized in {entry.limits is not None for entry in entries}:
                evaluated[quantized] = _serving_of(run, validation, quantized)
        except KTransferError as error:  # such as data that was moved: the rest can be checked
            evaluated, not_compared = {}, str(error)
    checked = []
    for found in _checks(run, entries, evaluated):
        say(visible(f"{found.name:<15}{_summary(found, run)}"))
        checked.append(found)
    if not_compared is not None:
        say(f"answers        not compared: {not_compared} Pass --no-answers to skip this.")
    unknown = _unknown(run, checked)
    for path in unknown:
        left = "; left by an interrupted export" if path.endswith(".partial") else ""
        shown = visible(str(run.path / path))
        say(f"warning        {shown} is not in the manifest and was not checked{left}")
    return Verification(tuple(checked), tuple(unknown), not_compared)


def _checks(
    run: Run, entries: Sequence[Artifact], evaluated: dict[bool, tuple[Serving, np.ndarray]]
) -> Iterator[Checked]:
    for entry in entries:
        yield _artifact(run, entry, evaluated)
    for facts in run.modality.written_sidecars(run.manifest):
        yield _sidecar(run, facts, evaluated)
    yield _labels(run, Path(entries[0].path).parent)


def _serving_of(run: Run, validation: Examples, quantized: bool) -> tuple[Serving, Array]:
    """As many validation examples as the export used, as `Serving`, and their labels."""
    chosen = run.preprocessing.pieces(
        evenly(validation, EVALUATION_EXAMPLES if quantized else PARITY_EXAMPLES)
    )
    serving = run.modality.serving(run.model, run.outputs, list(chosen.inputs), run.preprocessing)
    labels = run.preprocessing.row_labels(chosen)
    return dataclasses.replace(serving, task=run.task, decision=run.decision), labels


def _artifact(run: Run, artifact: Artifact, evaluated: dict[bool, tuple[Serving, np.ndarray]]) -> Checked:
    path = run.path / artifact.path
    of_file = _file(path, artifact.sha256, artifact.size_bytes)
    checked = Checked(artifact.format, artifact.path, of_file, flex_ops=artifact.flex_ops)
    if checked.problems:
        return checked
    problems: list[str] = []
    parities: dict[str, Any] = {}
    files_read = None
    try:
        with RuntimeProcess(artifact.format, path) as runtime:
            if runtime.labels != list(run.outputs):
                problems.append(f"its labels are {listed(runtime.labels)}, the run's {listed(run.outputs)}")
            if (found := _bare(runtime.signature)) != (expected := _bare(artifact.signature)):
                problems.append(f"it takes and gives {found}, {expected} was exported")
            if evaluated and not problems:
                serving, labels = evaluated[artifact.limits is not None]
                parities = _parities(runtime, artifact, serving, labels)
                if artifact.files_read is not None:
                    reading = run.modality.files_read(runtime, serving)
                    if reading is not None:
                        files_read = reading.to_dict()
                        reading.check(artifact.format)
    except ExportError as error:
        problems.append(str(error))
    for name, parity in parities.items():
        if not _as_exported(artifact, parity, run.modality if name == "raw_parity" else None):
            problems.append(
                f"its answers{' to raw examples' if name == 'raw_parity' else ''} differ from the model's by "
                f"up to {parity.max_abs_delta:.1e}, {_agreement(parity)}"
            )
    return dataclasses.replace(checked, problems=tuple(problems), files_read=files_read, **parities)


def _parities(runtime: Answer, artifact: Artifact, serving: Serving, labels: Array) -> dict[str, Parity]:
    decision = decision_at(serving.task, serving.decision, artifact.temperature)
    serving = dataclasses.replace(serving, temperature=artifact.temperature, decision=decision)
    parity = measure_parity(
        runtime,
        reference_function(serving),
        serving.examples,
        fixed=fixed_axes(artifact),
        labels=labels,
        task=serving.task.row_task,
        decision=decision,
        positions=serving.positions,
    )
    found = {"parity": parity}
    if artifact.raw_parity is not None:
        found["raw_parity"], _ = serving.modality.raw_parity(runtime, serving, artifact.format, labels)
    return found


def _as_exported(artifact: Artifact, parity: Parity, modality: Modality | None) -> bool:
    """Whether answers are within the limits that the export had; `modality` of those to raw examples."""
    try:
        if modality is not None:
            modality.check_raw_parity(parity, artifact.format, TOLERANCE)
        elif artifact.limits is None:
            parity.check(artifact.format, TOLERANCE)
        else:
            parity.check_labels(artifact.format, **artifact.limits)
    except ExportError:
        return False
    return True


def _sidecar(
    run: Run, facts: Mapping[str, Any], evaluated: dict[bool, tuple[Serving, np.ndarray]]
) -> Checked:
    path = run.path / facts["path"]
    problems = list(_file(path, facts["sha256"], facts["size_bytes"]))
    if evaluated and not problems:
        serving = next(iter(evaluated.values()))[0]
        try:
            run.modality.verify_sidecars(path, serving)
        except ExportError as error:
            problems.append(str(error))
    return Checked(path.name, facts["path"], tuple(problems))


def _labels(run: Run, folder: Path) -> Checked:
    """Check `labels.txt`, for programs that read labels from a file next to the artifact."""
    path = run.path / folder / "labels.txt"
    problems: tuple[str, ...] = ()
    if not path.is_file():
        problems = ("it is not there",)
    elif (found := read_bytes(path).decode("utf-8", "replace").splitlines()) != list(run.outputs):
        problems = (f"it has {listed(found)}, the run {listed(run.outputs)}",)
    return Checked(path.name, (folder / path.name).as_posix(), problems)


def _file(path: Path, sha256: str, size_bytes: int) -> tuple[str, ...]:
    if not path.exists():
        return ("it is not there",)
    found, size = fingerprint(path)
    if (found, size) == (sha256, size_bytes):
        return ()
    sizes = "" if size == size_bytes else f", and {size:,} bytes for {size_bytes:,}"
    return (f"sha256 is {found[:12]}..., {sha256[:12]}... was exported{sizes}; it was not run",)


def _bare(signature: Mapping[str, Any]) -> dict[str, Any]:
    """A signature as one can be compared: without facts that a file does not have, in any order."""
    return {
        name: _bare(value)
        if "inputs" in value
        else {
            given["name"]: f"{given['dtype']} {given['shape']}"
            for given in sorted(
                value if isinstance(value, list) else [value], key=lambda given: given["name"]
            )
        }
        for name, value in signature.items()
    }


def _unknown(run: Run, checked: Iterable[Checked]) -> list[str]:
    known = {run.path / found.path for found in checked}
    folders = {path.parent for path in known}
    found = {path for folder in folders if folder.is_dir() for path in folder.iterdir()} - known
    return sorted(path.relative_to(run.path).as_posix() for path in found)


def _summary(found: Checked, run: Run) -> str:
    if found.problems:
        return f"DIFFERS  {'; '.join(found.problems)}"
    flex = f", needs Flex for {', '.join(found.flex_ops)}" if found.flex_ops else ""
    if found.parity is None:
        return f"ok{flex}"
    raw = ""
    if found.raw_parity is not None:
        raw = f" ({run.modality.raw} {found.raw_parity.max_abs_delta:.1e}, {_agreement(found.raw_parity)})"
    if found.files_read is not None:
        variants = len(found.files_read["variants"])
        raw += f" (pixels of files {found.files_read['max_pixel_delta']:g}, {variants} variants)"
    return (
        f"ok       largest difference {found.parity.max_abs_delta:.1e}{found.parity.unit}, {_agreement(found.parity)}"
        f"{raw} on {found.parity.examples} {run.noun}{flex}"
    )


def _agreement(parity: Parity) -> str:
    agreement = f"{parity.agreement_title} {parity.label_agreement:.1%}"
    if parity.accuracy is None:
        return agreement
    return f"{agreement}, {parity.accuracy_title} {parity.accuracy:.1%} (the model's {parity.accuracy_of_model:.1%})"
