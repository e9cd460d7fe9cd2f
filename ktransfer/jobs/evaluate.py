"""`ktransfer evaluate`: how good a run is on labelled images."""

import os
from pathlib import Path

from ktransfer.data.examples import normalised
from ktransfer.data.sources import read_data
from ktransfer.data.task import TEXTS
from ktransfer.data.text_sources import read_texts
from ktransfer.errors import DataError
from ktransfer.evaluation import Evaluation
from ktransfer.evaluation import evaluate as judge
from ktransfer.jobs.parts import Say, parts, read_splits
from ktransfer.run import Run


def evaluate(
    run: Run,
    data: str | Path,
    *,
    data_dir: str | Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
    say: Say = print,
) -> tuple[Evaluation, str]:
    """Judge a run's model on labelled images or texts.

    Args:
        run: What `Run.load` gave.
        data: As in `train`; of data with parts `test` is taken, else `validation`, else all of it.
        data_dir: Where TensorFlow Datasets keeps its data.
        text_column, label_column: As in `read_texts`; `None` takes those that the run was trained on.
        encoding: As in `read_texts`.
        say: Where lines for a person go.

    Returns:
        The `Evaluation`, and the part that was judged.

    Raises:
        DataError: The data has nothing usable, or a class that the run does not know.

    Example:

        evaluation, part = ktransfer.evaluate(run, "flowers")
    """
    if run.task == TEXTS:
        trained = run.manifest["data"]
        splits, _ = read_texts(
            data,
            class_names=run.labels,
            text_column=text_column or trained["text_column"],
            label_column=label_column or trained["label_column"],
            data_dir=data_dir,
            encoding=encoding,
        )
    else:
        splits = read_data(data, class_names=run.labels, data_dir=data_dir)
    found = list(parts(splits))
    part, examples = found[-1]
    say(f"data       {len(examples)} {examples.noun}, {part if len(found) > 1 else 'all'} of {data}")
    if seen := _trained_on(run, examples):
        noun = f"of these {examples.noun}; they say nothing about others"
        say(f"warning    the run was trained on {seen} {noun}")
    return judge(run.predict_probabilities(examples.inputs), examples.labels, run.labels), part


def _trained_on(run, examples):
    """How many of the examples the run was trained on, as far as its own can still be found."""
    try:
        train = read_splits(run.manifest["data"], run.recipe.seed)[0].train
    except DataError:
        return 0
    same = normalised if examples.kind == "text" else os.path.realpath
    known = set(map(same, train.inputs))
    return sum(same(example) in known for example in examples.inputs)
