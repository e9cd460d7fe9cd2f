"""Other people's tuners around a plain `fit` with the callback, as docs/how_to/search.md has it."""

import re
from pathlib import Path

import numpy as np
import optuna
import pytest

from ktransfer.searching.pruning import PruneEpochs

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "search.md"


def block(language, having):
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    [code] = [each for each in found if having in each]
    return code


def test_kerastuner_searches_around_the_callback(tmp_path, monkeypatch, capsys):
    pytest.importorskip("keras_tuner", reason="KerasTuner is not installed")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    before = block("python", "def objective").partition("def objective")[0]
    exec(before, names)
    exec(block("text", "keras_tuner"), names)
    assert re.search(r"best [01]\.\d", capsys.readouterr().out)


class FakeTrial:
    """Prunes at a step."""

    def __init__(self, at=None):
        self.at, self.reported = at, []

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return self.at is not None and self.reported[-1][0] >= self.at


@pytest.mark.parametrize(("higher", "expected"), [(True, [0.4, 0.2]), (False, [0.6, 0.8])])
def test_each_epoch_is_reported_for_a_study_that_minimizes(higher, expected):
    callback = PruneEpochs(trial := FakeTrial(), "val_x", higher_is_better=higher)
    for epoch, value in ((0, 0.6), (7, 0.8)):  # the second of another `fit`
        callback.on_epoch_end(epoch, {"val_x": value})
    assert [step for step, _ in trial.reported] == [1, 2]
    assert [value for _, value in trial.reported] == pytest.approx(expected)


@pytest.mark.parametrize("logs", [None, {}, {"other": 1.0}, {"val_x": float("nan")}, {"val_x": np.inf}])
def test_an_epoch_without_a_value_reports_nothing(logs):
    callback = PruneEpochs(trial := FakeTrial(at=0), "val_x")
    callback.on_epoch_end(0, logs)
    assert trial.reported == []


def test_a_fit_ends_where_the_pruner_says_so():
    callback = PruneEpochs(FakeTrial(at=2), "val_x")
    callback.on_epoch_end(0, {"val_x": 0.5})
    with pytest.raises(optuna.TrialPruned, match="after 2 epochs"):
        callback.on_epoch_end(1, {"val_x": 0.5})
