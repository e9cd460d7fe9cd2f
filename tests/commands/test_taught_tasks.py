"""Every task with every verb that trains on a run's answers: it works, or is refused in one line."""

import csv
import dataclasses

import numpy as np
import pytest
from ner_data import write_folder
from test_text_commands import RECIPE
from text_zoo import write_preset

from ktransfer.commands.distill import distill
from ktransfer.commands.prune import prune
from ktransfer.commands.shrink import shrink
from ktransfer.commands.train import train
from ktransfer.core.task import task_names
from ktransfer.errors import RecipeError
from ktransfer.runs.run import Run

SOLVED = dataclasses.replace(RECIPE, stages=())
WORDS = ("quick", "fox", "brown", "café", "you", "the")
VERBS = {
    "distill": lambda run, out, **options: distill(
        run.path, out, layers=1, report=False, formats=(), **options
    ),
    "prune": lambda run, out, **options: prune(run.path, out, keep=0.5, report=False, formats=(), **options),
    "shrink": lambda run, out, **options: shrink(
        run.path, out, drop=0.99, trials=1, formats=["onnx"], **options
    ),
}
REFUSED = {"ner"}


def data_of(task, folder):
    """Data of a task that a tiny model can read."""
    folder.mkdir()
    if task == "ner":
        return write_folder(folder / "entities")
    random = np.random.default_rng(0)
    rows = []
    for _ in range(90):
        chosen = random.choice(WORDS, 5)
        foxes = int((chosen == "fox").sum() + (chosen == "quick").sum())
        label = {
            "single_label": "fox" if foxes else "other",
            "multi_label": "|".join(word for word in ("fox", "you") if word in chosen),
            "regression": f"{10 * foxes + random.normal():.2f}",
            "ordinal": str(1 + min(foxes, 2)),
        }[task]
        rows.append({"text": " ".join(chosen) + f" {len(rows)}", "label": label})
    path = folder / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module", params=task_names())
def taught(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "bert").mkdir()
    preset = write_preset("Bert", folder / "bert", num_layers=2)[1]
    options = {"formats": (), "verbose": 0, "say": lambda _: None, "task": request.param, "refit": False}
    data = data_of(request.param, folder / "data")
    return train(data, preset, folder / "run", recipe=SOLVED, **options)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_task_is_learned_or_refused(taught, verb, tmp_path):
    lines = []
    given = {"recipe": SOLVED, "verbose": 0, "say": lines.append}
    if taught.task.name in REFUSED:
        with pytest.raises(RecipeError, match="one answer for an example"):
            VERBS[verb](taught, tmp_path / "out", **given)
        assert not list(tmp_path.iterdir())
        return
    VERBS[verb](taught, tmp_path / "out", **given)
    found = Run.load(tmp_path / "out")
    assert found.manifest["status"] == "trained"
    assert found.task.name == taught.task.name
    answers = found.predict_probabilities(["the quick fox", "you"])
    assert len(answers) == 2
    assert np.isfinite(np.asarray(answers, "float32")).all()
