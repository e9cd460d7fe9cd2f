"""`ktransfer evaluate`: how good a run is on labelled images."""

from pathlib import Path

from ktransfer.data.sources import read_data
from ktransfer.evaluation import Evaluation
from ktransfer.evaluation import evaluate as judge
from ktransfer.jobs.parts import Say, parts
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
    if examples.fingerprint() == run.manifest.get("data", {}).get("fingerprint", {}).get("train"):
        say("warning    the run was trained on these images; the figures say nothing about others")
    return judge(run.predict_probabilities(examples.inputs), examples.labels, run.labels), part
