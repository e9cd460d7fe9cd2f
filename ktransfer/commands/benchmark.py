"""`ktransfer benchmark`: size, accuracy and speed of a run's artifacts, compared with Keras itself."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.artifacts import artifacts, fixed_axes, validation_examples
from ktransfer.commands.splits import EVALUATION_EXAMPLES, evenly, progress_bar
from ktransfer.errors import DataError, RunError, listed
from ktransfer.exporting.artifact import fingerprint
from ktransfer.exporting.processes.runtime_process import RuntimeProcess
from ktransfer.exporting.runtimes import KERAS
from ktransfer.runs.run import Run
from ktransfer.utils.files import write_json
from ktransfer.utils.machine import cores

if TYPE_CHECKING:
    from rich.progress import Progress

    from ktransfer.core.typing import Array
    from ktransfer.data.examples import Examples


BATCH = 32  # examples
_SINGLES = 10  # answers to one example, a round
_WARM_UP = 3  # answers at each batch size


@dataclass(frozen=True)
class Measured:
    """The measurements of one artifact, or of Keras.

    Args:
        format: As in `Artifact`; `"keras"` is the run's model by `predict_on_batch`.
        path: Relative to the run folder.
        size_bytes: Of the file, or of all files in the folder.
        accuracy: Share of the examples, 0 to 1, of which the first label is the true one; of named entities the share
            of words with the true tag; of regression one less the mean absolute error in standard deviations of the
            target.
        label_agreement: Share with the same first label as Keras.
        max_abs_delta: Largest difference of a probability from Keras'; of regression in standard deviations of the
            target.
        latency_ms: `{"p50", "p95"}` of an answer to one example.
        batch: How many examples were answered at once for the throughput.
        examples_per_s: At that batch size, the median.
        speedup: How many times faster than Keras one example is answered; the median over the rounds.

    Example:
        >>> measured = Measured("onnx", "artifacts/model.onnx", 2**20, 0.9, 1.0, 1e-7, {"p95": 3}, 32, 900, 4)
        >>> measured.latency_ms["p95"]
        3
    """

    format: str
    path: str
    size_bytes: int
    accuracy: float
    label_agreement: float
    max_abs_delta: float
    latency_ms: dict[str, float]
    batch: int
    examples_per_s: float
    speedup: float


@dataclass(frozen=True)
class Benchmark:
    """The measurements of `benchmark`, and the machine and examples they were made with.

    Args:
        measured: Keras first, then each artifact in the order of the manifest.
        left_out: By path why an artifact was not measured: a TFLite file that needs Flex is run in pieces
            here, which takes other times than on a phone.
        examples, of: How many of how many validation examples were answered for accuracy and agreement.
        rounds: How often each was timed, in turn with the others.
        threads: How many each runtime was given.
        machine: `{"processor", "cores", "system"}`.
        backend: That Keras ran on.

    Example:
        >>> benchmark(Run.load("runs/flowers")).measured[0].format  # doctest: +SKIP
        'keras'
    """

    measured: tuple[Measured, ...]
    examples: int
    of: int
    rounds: int
    threads: int
    machine: dict[str, Any]
    backend: str
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON values."""
        return dataclasses.asdict(self)


def benchmark(
    run: Run,
    *,
    threads: int | None = None,
    examples: int = EVALUATION_EXAMPLES,
    rounds: int = 10,
    verbose: int | str = 0,
) -> Benchmark:
    """Compare a run's artifacts with its Keras model, and write `benchmark.json` into the run.

    Each works in a subprocess, on the CPU, with as many threads; under JAX Keras takes what it likes.
    After a warm-up they take turns, round by round, so that what else the machine does hits all of them: ten
    times one example, once 32 (an artifact of a fixed batch: that many). The example is that of the middle
    length, the 32 are those around it; ids of texts are given, so what makes them is not timed.

    Args:
        run: What `Run.load` or `train` gave.
        threads: For each; `None` takes one for each core.
        examples: At most so many validation examples, evenly taken, are answered for accuracy and agreement.
        rounds: At least 1.
        verbose: 0 shows no progress.

    Returns:
        `Benchmark`.

    Raises:
        RunError: The run has no artifacts, or one is not what was exported.
        DataError: The validation data is not where it was, or has other classes.
        ExportError: A runtime cannot run an artifact.

    Example:

        ktransfer.benchmark(Run.load("runs/flowers"), threads=1).to_dict()
    """
    validation = validation_examples(run)
    if validation.class_names != run.labels:
        raise DataError(
            f"Expected validation data of the classes {listed(run.labels)}, got "
            f"{listed(validation.class_names)}. Restore the data that the run was trained on."
        )
    chosen = run.preprocessing.pieces(evenly(validation, examples))
    labels, task = run.preprocessing.row_labels(chosen), run.task.row_task
    threads = threads or cores()
    with contextlib.ExitStack() as stack, progress_bar(verbose) as bar:
        contenders = [stack.enter_context(contender) for contender in _contenders(run, threads)]
        probabilities = answers_of(run, contenders, chosen, bar)
        singles, batches = _timed(contenders, *_timing_inputs(run, chosen), rounds, bar)
    decisions = [task.decide(answers, run.decision) for answers in probabilities]
    of_keras = decisions[0]
    measured = tuple(
        Measured(
            contender.format,
            contender.path,
            contender.size_bytes,
            accuracy=float(task.hits(decided, labels).mean()),
            label_agreement=float(task.agreement(decided, of_keras).mean()),
            max_abs_delta=float(np.abs(task.compared(answers)[0] - task.compared(probabilities[0])[0]).max()),
            latency_ms={f"p{of}": float(np.percentile(single, of) * 1e3) for of in (50, 95)},
            batch=contender.batch or BATCH,
            examples_per_s=float((contender.batch or BATCH) / np.median(batch)),
            speedup=float(np.median(np.median(singles[0], axis=1) / np.median(single, axis=1))),
        )
        for contender, answers, decided, single, batch in zip(
            contenders, probabilities, decisions, singles, batches, strict=True
        )
    )
    found = Benchmark(
        measured,
        examples=len(chosen),
        of=len(validation),
        rounds=rounds,
        threads=threads,
        machine={"processor": processor(), "cores": cores(), "system": platform.system()},
        backend=keras.backend.backend(),
        left_out=_left_out(run),
    )
    write_json(run.path / "benchmark.json", found.to_dict())
    return found


class Contender(RuntimeProcess):
    """An artifact or Keras in a subprocess, which is given what it takes; to be entered.

    Args:
        run: Of it.
        format, path, size_bytes: As in `Measured`.
        fixed: As `fixed_axes` gives it.
        threads: Of the runtime.

    Example:

        with Contender(run, "onnx", "artifacts/model.onnx", 9_000_000, {}, threads=1) as contender:
            contender.probabilities(inputs)
    """

    def __init__(
        self, run: Run, format: str, path: str, size_bytes: int, fixed: dict[str, int], threads: int
    ) -> None:
        super().__init__(format, run.path / path, threads=threads)
        self.format, self.path, self.size_bytes = format, path, size_bytes
        self.batch, self.task = fixed.get("batch"), run.task
        self.pieces = partial(
            pieces, fixed=fixed, pad_token_id=run.manifest["preprocessing"].get("pad_token_id")
        )

    def probabilities(self, inputs: dict[str, Array]) -> Array:
        answers = np.concatenate([self(piece) for piece in self.pieces(inputs)])
        answers = answers[: len(next(iter(inputs.values())))]
        return self.task.probabilities(answers) if self.format == KERAS else answers


def pieces(
    inputs: dict[str, np.ndarray], *, fixed: dict[str, int], pad_token_id: int | None
) -> Iterator[dict[str, np.ndarray]]:
    """Cut and pad inputs to the only batch size and sequence length that an artifact takes.

    Args:
        inputs: By name, `(B, ...)`.
        fixed: As `fixed_axes` gives it.
        pad_token_id: What `token_ids` are padded with; the others are with 0.

    Yields:
        Inputs by name; the last are filled up with the first examples.

    Example:

        list(pieces({"token_ids": ids}, fixed={"batch": 1, "sequence": 64}, pad_token_id=0))
    """
    count = len(next(iter(inputs.values())))
    size = fixed.get("batch", count)
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count
        piece = {name: array[rows] for name, array in inputs.items()}
        if "sequence" in fixed:
            piece = {
                name: np.pad(
                    array,
                    [(0, 0), (0, fixed["sequence"] - array.shape[1])],
                    constant_values=(pad_token_id or 0) if name == "token_ids" else 0,
                )
                for name, array in piece.items()
            }
        yield piece


def _contenders(run: Run, threads: int) -> Iterator[Contender]:
    """Keras and the artifacts, each of them checked and started; to be entered."""
    for artifact in artifacts(run):
        path = run.path / artifact.path
        if not path.exists() or fingerprint(path)[0] != artifact.sha256:
            raise RunError(
                f"Expected {path} as it was exported, got {'another' if path.exists() else 'no'} file. See "
                f"`ktransfer verify {run.path}`, and export it again."
            )
    model = "model.keras"
    yield Contender(run, KERAS, ".", fingerprint(run.path / model)[1], {}, threads)
    left_out = _left_out(run)
    for artifact in artifacts(run):
        if artifact.path not in left_out:
            yield Contender(
                run, artifact.format, artifact.path, artifact.size_bytes, fixed_axes(artifact), threads
            )


def _left_out(run: Run) -> dict[str, str]:
    return {
        artifact.path: f"needs Flex for {', '.join(artifact.flex_ops)}, which only a phone can time"
        for artifact in artifacts(run)
        if artifact.flex_ops
    }


def _inputs(run: Run, examples: Examples, rows: Iterable[int]) -> dict[str, Array]:
    return run.modality.by_name(run.preprocessing([examples.inputs[row] for row in rows]))


def answers_of(run: Run, contenders: Sequence[Contender], examples: Examples, bar: Progress) -> list[Array]:
    """The probabilities of the examples' rows `(R, C)` by each contender.

    Args:
        run: Whose preprocessing they have.
        contenders: Artifacts of it, or Keras.
        examples: In pieces, as `Preprocessing.pieces` gives them.
        bar: Of the progress.

    Example:

        answers_of(run, contenders, run.preprocessing.pieces(validation), bar)
    """
    found: list[list[Any]] = [[None] * len(examples) for _ in contenders]
    order = run.preprocessing.order(examples.inputs)
    starts = range(0, len(order), BATCH)
    for start in bar.track(starts, description="answering"):
        rows = order[start : start + BATCH]
        inputs = _inputs(run, examples, rows)
        for answers, contender in zip(found, contenders, strict=True):
            given = run.preprocessing.rows(contender.probabilities(inputs), examples, rows)
            for row, each in zip(rows, given, strict=True):
                answers[row] = each
    return [np.concatenate(answers) for answers in found]


def _timing_inputs(run: Run, examples: Examples) -> tuple[dict[str, Array], dict[str, Array]]:
    """The example of the middle length, and those around it; the same again where there are too few."""
    order = run.preprocessing.order(examples.inputs)
    around = np.arange(len(order) // 2 - BATCH // 2, len(order) // 2 + BATCH // 2) % len(order)
    return _inputs(run, examples, order[[len(order) // 2]]), _inputs(run, examples, order[around])


def _timed(
    contenders: Sequence[Contender],
    one: dict[str, Array],
    many: dict[str, Array],
    rounds: int,
    bar: Progress,
) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """Seconds of each contender: `(rounds, singles)` of one example, `(rounds, 1)` of many at once."""
    given = [[next(contender.pieces(inputs)) for inputs in (one, many)] for contender in contenders]
    for contender, inputs in zip(contenders, given, strict=True):
        for batch in inputs:
            contender.seconds(batch, _WARM_UP)
    found: list[tuple[list[list[float]], list[list[float]]]] = [([], []) for _ in contenders]
    for turn in bar.track(range(rounds), description="timing"):
        # None is always the one that follows the slowest.
        for index in np.roll(np.arange(len(contenders)), turn).tolist():
            for seconds, batch, repeats in zip(found[index], given[index], (_SINGLES, 1), strict=True):
                seconds.append(contenders[index].seconds(batch, repeats))
    return [of_one for of_one, _ in found], [of_many for _, of_many in found]


def timed_in_turn(
    contenders: Sequence[Contender], inputs: Sequence[dict[str, Array]], *, rounds: int
) -> list[list[list[float]]]:
    """Seconds of one example each, `(rounds, 10)` of every contender, which take turns.

    Args:
        contenders: Entered; of any runs.
        inputs: Of one example, for each.
        rounds: At least 1.

    Example:

        timed_in_turn(contenders, [inputs] * len(contenders), rounds=10)
    """
    given = [next(each.pieces(one)) for each, one in zip(contenders, inputs, strict=True)]
    for each, one in zip(contenders, given, strict=True):
        each.seconds(one, _WARM_UP)
    found: list[list[list[float]]] = [[] for _ in contenders]
    for turn in range(rounds):
        for index in np.roll(np.arange(len(contenders)), turn).tolist():
            found[index].append(contenders[index].seconds(given[index], _SINGLES))
    return found


def middle_input(run: Run, examples: Examples) -> dict[str, Array]:
    """The example of the middle length, as an artifact takes it.

    Example:

        middle_input(run, run.preprocessing.pieces(validation))
    """
    order = run.preprocessing.order(examples.inputs)
    return _inputs(run, examples, order[[len(order) // 2]])


def processor() -> str:
    """The name of the processor, as the system has it.

    Example:

        processor()   # "AMD EPYC 7763"
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
