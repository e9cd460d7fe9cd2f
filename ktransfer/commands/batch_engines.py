"""The ways a run can answer on this machine, and the choice of the fastest one that was verified."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ktransfer.commands.artifacts import fixed_axes
from ktransfer.commands.benchmark import pieces
from ktransfer.errors import DataError, ExportError, KTransferError, MissingExtraError, listed
from ktransfer.exporting.artifact import Artifact, fingerprint
from ktransfer.exporting.registry import format_specs, get_format
from ktransfer.exporting.runtimes import KERAS, open_artifact
from ktransfer.security.safe_io import inside
from ktransfer.utils.extras import need_modules
from ktransfer.utils.machine import cores

if TYPE_CHECKING:
    import keras

    from ktransfer.commands.splits import Say
    from ktransfer.core.task import Task
    from ktransfer.core.typing import Array
    from ktransfer.runs.run import Run


GROUP = 32  # examples that are answered at once
AUTO = "auto"
_TRIED = 2  # groups a worker on which engines are timed


@dataclass(frozen=True)
class Encoded:
    """Examples that are ready for a model.

    Args:
        examples: What `Engine.encode` made of each.
        order: Places in it: those of like length next to each other.
    """

    examples: Sequence[Any]
    order: Sequence[int]

    def groups(self) -> list[list[int]]:
        """The places of examples that are answered at once."""
        return [list(self.order[start : start + GROUP]) for start in range(0, len(self.order), GROUP)]


class Engine:
    """One way a run can answer.

    Args:
        run: What `Run.load` gave.
        artifact: An artifact of it; `None` is its Keras model.

    Attributes:
        name: Its format, or `"keras"`.
        workers: Threads that may call it at once.
    """

    def __init__(self, run: Run, artifact: Artifact | None) -> None:
        self._run, self._artifact = run, artifact
        self.name = KERAS if artifact is None else artifact.format
        # Keras traces and compiles in whichever thread calls it first; its own operations take all cores.
        self.workers = 1 if artifact is None else cores()
        self._local = threading.local()
        self._shared: Any = None
        if artifact is not None and get_format(artifact.format).family.concurrent:
            self._shared = self._open()

    def _open(self) -> Any:
        artifact = cast("Artifact", self._artifact)
        # One thread for each call, as there is a call for each core: nothing waits for anything.
        threads = None if get_format(artifact.format).family.in_process else 1
        return open_artifact(artifact.format, self._run.path / artifact.path, threads=threads)

    def predict_on_batch(self, inputs: Any) -> Array:
        """The probabilities of preprocessed inputs: what `Preprocessing.probabilities` asks of a model."""
        opened = self._shared
        if opened is None:
            opened = getattr(self._local, "opened", None)
            if opened is None:
                opened = self._local.opened = self._open()
        artifact = cast("Artifact", self._artifact)
        given = self._run.modality.by_name(inputs)
        pad = self._run.manifest["preprocessing"].get("pad_token_id")
        fixed = fixed_axes(artifact)
        answers = [opened.answer(piece) for piece in pieces(given, fixed=fixed, pad_token_id=pad)]
        return np.concatenate(answers)[: len(next(iter(given.values())))]

    def encode(self, contents: Sequence[Any]) -> Encoded:
        """Examples as `probabilities` takes them: texts tokenized, and in the order of their tokens."""
        encoded, order = self._run.preprocessing.encode(contents)
        return Encoded(encoded, [int(at) for at in order])

    def probabilities(self, encoded: Sequence[Any]) -> Array:
        """The probabilities of some of `encode`, as `Run.predict_probabilities` gives them.

        Raises:
            DataError: An example cannot be read.
        """
        run = self._run
        model: Any = run.model if self._artifact is None else self
        task = run.task if self._artifact is None else cast("Task", _AsTheyAre())
        # Keras compiles each length anew; a runtime takes any.
        return run.preprocessing.encoded_probabilities(
            cast("keras.Model", model),
            list(map(_again, encoded)),
            len(run.outputs),
            task,
            exact=self._artifact is not None,
        )


class _AsTheyAre:
    """In place of a task: what artifacts answer are probabilities already."""

    def probabilities(self, answers: Array) -> Array:
        return answers


def engine_named(run: Run, name: str) -> Engine:
    """The engine of a name.

    Args:
        run: What `Run.load` gave.
        name: `"keras"`, or a format that the run was exported to.

    Raises:
        ExportError: There is no such artifact, it was changed since it was verified, or it answers otherwise.
        MissingExtraError: A package is missing that it needs.

    Example:
        >>> engine_named(run, "onnx").name  # doctest: +SKIP
        'onnx'
    """
    if name == KERAS:
        return Engine(run, None)
    found = [artifact for artifact in _artifacts(run) if artifact.format == name]
    if not found:
        there = listed([KERAS, *(artifact.format for artifact in _artifacts(run))])
        raise ExportError(
            f"Expected one of {there} to predict with, got {name!r}. Pass one, or export the run to that format."
        )
    if reason := _unfit(run, found[0]):
        raise ExportError(
            f"Expected {found[0].path} to answer as the run does, got one that {reason}. Export it again, or pass "
            "another --artifact."
        )
    return Engine(run, found[0])


def fastest(run: Run, contents: Sequence[Any], say: Say) -> Engine:
    """The engine that answers these examples fastest: the Keras model, or a verified artifact in float32.

    Each is asked for a few of them first, short and long ones, and then timed once, all its threads at work.

    Args:
        run: What `Run.load` gave.
        contents: Examples, such as the first block; a few are taken.
        say: Callable that receives a line with the figures.

    Example:
        >>> fastest(run, texts, print).name  # doctest: +SKIP
        fastest    onnx: 812 texts/s; keras 310
        'onnx'
    """
    candidates: list[Artifact | None] = [None]
    for artifact in _artifacts(run):
        if artifact.limits is not None:
            continue  # quantized: less exact, and only on demand
        if reason := _unfit(run, artifact):
            say(f"not used   {artifact.path}: it {reason}")
        else:
            candidates.append(artifact)
    if len(candidates) == 1:
        return Engine(run, None)
    groups = _typical_groups(run, contents)
    if not groups:
        return Engine(run, None)
    count = sum(map(len, groups))
    timed: list[tuple[float, Engine]] = []
    for candidate in candidates:
        try:
            engine = Engine(run, candidate)
            with ThreadPoolExecutor(engine.workers) as pool:
                list(pool.map(engine.probabilities, groups))  # compiles, and opens one for each thread
                begin = time.perf_counter()
                list(pool.map(engine.probabilities, groups))
                timed.append((count / (time.perf_counter() - begin), engine))
        except (KTransferError, RuntimeError, ValueError) as error:
            if candidate is None:
                raise
            say(f"not used   {candidate.path}: {error!s:.200}")
    timed.sort(key=lambda pair: -pair[0])
    others = ", ".join(f"{engine.name} {rate:,.0f}" for rate, engine in timed[1:])
    rate, engine = timed[0]
    say(f"fastest    {engine.name}: {rate:,.0f} {run.noun}/s on {count} of the first; {others}")
    return engine


def answers(engine: Engine, encoded: Encoded, pool: ThreadPoolExecutor) -> list[Any]:
    """The probabilities of each example, or the `DataError` why there are none, in the order of the examples.

    Args:
        engine: What answers.
        encoded: What its `encode` gave.
        pool: Of as many threads as the engine has workers.
    """
    groups = encoded.groups()
    found: list[Any] = [None] * len(encoded.examples)
    run_group = partial(_group_answers, engine)
    given = [[encoded.examples[at] for at in group] for group in groups]
    for group, rows in zip(groups, pool.map(run_group, given), strict=True):
        for at, row in zip(group, rows, strict=True):
            found[at] = row
    return found


def _group_answers(engine: Engine, encoded: Sequence[Any]) -> list[Any]:
    try:
        return list(engine.probabilities(encoded))
    except DataError as error:
        if len(encoded) == 1:
            return [error]
    # One of them cannot be read: find out which.
    return [_group_answers(engine, [each])[0] for each in encoded]


def _typical_groups(run: Run, contents: Sequence[Any]) -> list[list[Any]]:
    """A few groups of examples as they will be answered: from the shortest to the longest."""
    readable = _readable(run, contents)
    if not readable:
        return []
    encoded = Engine(run, None).encode(readable)
    groups = encoded.groups()
    places = np.linspace(0, len(groups) - 1, min(len(groups), cores() * _TRIED)).round().astype(int)
    return [[encoded.examples[at] for at in groups[place]] for place in places]


def _again(content: Any) -> Any:
    """An example to be read from its beginning."""
    if hasattr(content, "seek"):
        content.seek(0)
    return content


def _readable(run: Run, contents: Sequence[Any]) -> list[Any]:
    if run.preprocessing.sequence_length is not None:
        return list(contents)  # every text can be read
    found: list[Any] = []
    for content in contents:
        if len(found) == GROUP * cores() * _TRIED:
            break  # images take long to decode, and all take a model the same time
        try:
            run.preprocessing([_again(content)])
        except DataError:
            continue
        found.append(content)
    return found


def _artifacts(run: Run) -> list[Artifact]:
    try:
        found = [Artifact.from_dict(entry) for entry in run.manifest.get("artifacts", [])]
        for artifact in found:
            inside(run.path, artifact.path)
    except (TypeError, ValueError, KeyError, AttributeError):
        return []
    return [artifact for artifact in found if artifact.format in format_specs()]


def _unfit(run: Run, artifact: Artifact) -> str | None:
    """The reason why an artifact cannot answer in place of the model; `None` if it can."""
    path = run.path / artifact.path
    if not path.exists():
        return "is not there"
    if fingerprint(path)[0] != artifact.sha256:
        return "was changed since it was verified"
    if artifact.temperature != 1:
        return "has other probabilities than the model, by a temperature"
    if artifact.flex_ops:
        return "needs Flex, which runs in pieces here"
    try:
        need_modules(get_format(artifact.format).family.modules, f"the format {artifact.format}")
    except MissingExtraError as error:
        return f"cannot be run: {error}"
    return None
