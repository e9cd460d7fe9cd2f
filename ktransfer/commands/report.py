"""`ktransfer report`: what a run is worth, on one page."""

from pathlib import Path

from ktransfer.commands.evaluate import evaluate_splits
from ktransfer.commands.splits import Say, fingerprints, named_splits, read_splits, readable_split
from ktransfer.data.examples import Splits
from ktransfer.errors import RunError
from ktransfer.evaluation.metrics import Answers
from ktransfer.reporting.context import contents, stages_of
from ktransfer.reporting.history import write_tensorboard
from ktransfer.reporting.page import render
from ktransfer.runs.run import Run
from ktransfer.utils.files import write_text
from ktransfer.utils.terminal import print_line

REPORT, TENSORBOARD = "report.html", "tensorboard"


def report(run: Run, *, data: str | Path | None = None, say: Say = print_line) -> Path:
    """Evaluate a run again on its own data, and write `report.html`, `metrics.json` and `tensorboard/`.

    Args:
        run: What `Run.load` or `train` gave.
        data: Where the data of the run lies now; `None` where it lay when it was trained.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Returns:
        The page, one file that holds all it shows.

    Raises:
        DataError: The data is not there, or cannot be read.
        RunError: It is not the data of the run.

    Example:

        ktransfer.report(ktransfer.Run.load("runs/flowers"))   # runs/flowers/report.html
    """
    facts = run.data
    if data is not None:
        facts = facts | {"source": str(data)}
    splits, _ = read_splits(facts, run.recipe.seed)
    readable = {name: readable_split(split, facts) for name, split in named_splits(splits)}
    splits = Splits(readable["train"], readable.get("validation"), readable.get("test"))
    if fingerprints(splits) != facts["fingerprint"]:
        raise RunError(
            f"Expected the data that the run was trained on in {facts['source']}, got other files. Pass its "
            "path with --data, or evaluate other data with `ktransfer evaluate`."
        )
    return write_report(run, splits, evaluate_splits(run, splits, say=say), say=say)


def write_report(run: Run, splits: Splits, answers: dict[str, Answers], *, say: Say = print_line) -> Path:
    """Write the page and TensorBoard logs of a run that has been evaluated.

    Args:
        run: Trained.
        splits: Its data.
        answers: From `evaluate_splits`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Returns:
        The page.

    Example:

        write_report(run, splits, evaluate_splits(run, splits))
    """
    path = run.path / REPORT
    write_text(path, render(contents(run, splits, answers)))
    rows, stages, blocks = stages_of(run)
    if rows:
        write_tensorboard(rows, stages, blocks, run.path / TENSORBOARD)
    say(f"report     {path}")
    return path
