"""`ktransfer evaluate`: how good a run is on labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.commands.splits import Say, named_splits, read_splits
from ktransfer.core.task import Evaluation
from ktransfer.data.examples import Splits
from ktransfer.data.tables.columns import as_reference
from ktransfer.errors import KTransferError
from ktransfer.evaluation.metrics import Answers
from ktransfer.runs.run import Run
from ktransfer.utils.files import write_json
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.data.examples import Examples


def evaluate(
    run: Run,
    data: str | Path,
    *,
    data_dir: str | Path | None = None,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    encoding: str | None = None,
    say: Say = print_line,
) -> tuple[Evaluation, str]:
    """Evaluate a run's model on labeled images or texts.

    Args:
        run: What `Run.load` gave.
        data: As in `train`; of data with splits `test` is taken, else `validation`, else all of it.
        data_dir: Where TensorFlow Datasets keeps its data.
        text_column: As in `train`. Defaults to `None`, that of the run.
        text_columns: As in `train`. Defaults to `None`, those of the run.
        file_column: As in `train`. Defaults to `None`, that of the run.
        label_column: As in `train`. Defaults to `None`, that of the run.
        label_separator: As in `train`. Defaults to `None`, that of the run.
        encoding: As in `train`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Returns:
        The `Evaluation`, and the name of the split.

    Raises:
        DataError: The data has nothing usable, or a class that the run does not know.

    Example:

        evaluation, split = ktransfer.evaluate(run, "flowers")
    """
    trained = run.data
    columns = {
        "text_column": text_column,
        "text_columns": as_reference(text_columns),
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
    }
    if label_column and not label_separator:
        trained = {**trained, "label_separator": None}  # of another column
    columns = {name: value or trained.get(name) for name, value in columns.items()}
    columns |= {"task": run.task.name, "encoding": encoding}
    splits, _ = run.modality.read(data, class_names=run.labels, data_dir=data_dir, **columns)
    for note in splits.notes:
        say(f"note       {note}")
    found = list(named_splits(splits))
    split, examples = found[-1]
    say(f"data       {len(examples)} {examples.noun}, {split if len(found) > 1 else 'all'} of {data}")
    if seen := _trained_on(run, examples):
        noun = f"of these {examples.noun}; they say nothing about others"
        say(f"warning    the run was trained on {seen} {noun}")
    probabilities = run.predict_probabilities(examples.inputs)
    fitted = run.manifest.get("fitted") or {"temperature": run.manifest.get("temperature")}
    return run.task.evaluate(probabilities, examples.labels, run.labels, fitted=fitted), split


def evaluate_splits(run: Run, splits: Splits, *, say: Say = print_line) -> dict[str, Answers]:
    """Evaluate a run on its own validation and test splits, and write the results into the run folder.

    Writes `metrics.json`, `confusion.png` or of regression `residuals.png` of the last split, and
    the metric of each split and what is fitted on the
    validation split, such as the temperature, into the manifest.

    Args:
        run: Trained.
        splits: The splits of the run, for training and for evaluation.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Returns:
        By the name of the split.

    Example:

        evaluate_splits(run, splits)["validation"].evaluation.accuracy
    """
    answers: dict[str, Answers] = {}
    fitted: dict[str, Any] = {}
    for name, split in list(named_splits(splits))[1:]:
        probabilities = run.predict_probabilities(split.inputs)
        result = run.task.evaluate(probabilities, split.labels, run.labels, fitted=fitted or None)
        fitted = fitted or result.fitted
        answers[name] = Answers(split, probabilities, result)
        say(f"{name:<11}{result.line()} on {result.examples} {split.noun}")
    result.save_picture(run.path / run.task.picture)
    write_json(run.path / "metrics.json", {name: a.evaluation.to_dict() for name, a in answers.items()})
    values = {name: found.evaluation.value for name, found in answers.items()}
    run.update(metrics=values, metric=result.value_title, temperature=fitted["temperature"], fitted=fitted)
    return answers


def _trained_on(run: Run, examples: Examples) -> int:
    """Count the examples that the run was trained on, as far as its own data can still be found."""
    try:
        splits = read_splits(run.data, run.recipe.seed)[0]
    except KTransferError:
        return 0
    train = splits.train
    if run.manifest.get("refit"):
        train = train.joined(splits.require_validation())
    same = examples.modality.identity
    known = set(map(same, train.inputs))
    return sum(same(example) in known for example in examples.inputs)
