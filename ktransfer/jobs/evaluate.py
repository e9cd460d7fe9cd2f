"""`ktransfer evaluate`: how good a run is on labelled images."""

import os
from pathlib import Path

from ktransfer.data.sources import read_data
from ktransfer.errors import DataError
from ktransfer.evaluation import Evaluation
from ktransfer.evaluation import evaluate as judge
from ktransfer.jobs.parts import Say, list_splits, parts
from ktransfer.run import Run


def evaluate(
    run: Run, data: str | Path, *, data_dir: str | Path | None = None, say: Say = print
) -> tuple[Evaluation, str]:
    """Judge a run's model on labelled images.

    Args:
        run: What `Run.load` gave.
        data: As in `train`; of data with parts `test` is taken, else `validation`, else all of it.
        data_dir: Where TensorFlow Datasets keeps its data.
        say: Where lines for a person go.

    Returns:
        The `Evaluation`, and the part that was judged.

    Raises:
        DataError: The data has no usable images, or a class that the run does not know.

    Example:

        evaluation, part = ktransfer.evaluate(run, "flowers")
    """
    splits = read_data(data, class_names=run.labels, data_dir=data_dir)
    found = list(parts(splits))
    part, examples = found[-1]
    say(f"data       {len(examples)} images, {part if len(found) > 1 else 'all'} of {data}")
    if seen := _trained_on(run, examples):
        say(f"warning    the run was trained on {seen} of these images; they say nothing about others")
    return judge(run.predict_probabilities(examples.inputs), examples.labels, run.labels), part


def _trained_on(run, examples):
    """How many of the examples are files that the run was trained on, as far as these can still be found."""
    try:
        train = list_splits(run.manifest["data"], run.recipe.seed).train
    except DataError:
        return 0
    known = {os.path.realpath(path) for path in train.inputs}
    return sum(os.path.realpath(path) in known for path in examples.inputs)
