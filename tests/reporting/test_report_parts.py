import re

import numpy as np
import pytest
from keras import ops, optimizers

from ktransfer.evaluation.calibration import Bin
from ktransfer.evaluation.metrics import confusions
from ktransfer.image.augmentation import Augmentation
from ktransfer.image.default_recipe import image_recipe
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.reporting.history import (
    Trained,
    learning_rates,
    read_history,
    trained_stages,
    write_tensorboard,
)
from ktransfer.reporting.page import percent
from ktransfer.reporting.plots import curve, rates, reliability
from ktransfer.reporting.rationale import is_default, reasons
from ktransfer.text.default_recipe import text_recipe
from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer

STAGES = (Stage(depth=1, epochs=2, learning_rate=1e-3), Stage(depth=2, epochs=3, learning_rate=1e-4))
ROWS = [
    {"epoch": 0.0, "loss": 0.9, "val_loss": 0.8, "stage": 0.0, "learning_rate": 1e-3},
    {"epoch": 1.0, "loss": 0.5, "val_loss": 0.6, "stage": 1.0, "learning_rate": 1e-4},
]


def test_a_history_is_read_without_what_was_cut_off_and_run_again(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss\n0,0.9,0.8\n1,0.5,NA\n1,0.4,0.6\n2,0.")
    assert read_history(path) == [
        {"epoch": 0, "loss": 0.9, "val_loss": 0.8},
        {"epoch": 1, "loss": 0.4, "val_loss": 0.6},
        {"epoch": 2, "loss": 0.0},
    ]
    assert read_history(tmp_path / "none.csv") == []


def test_a_stage_that_ended_early_has_the_epochs_that_it_had():
    found = trained_stages(ROWS, STAGES, [1, 2])
    assert [(t.index, t.depth, t.start, t.epochs) for t in found] == [(0, 1, 0, 1), (1, 2, 1, 1)]
    assert trained_stages(ROWS[:1], STAGES, [1, 2])[-1].index == 0


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_planned_rates_are_those_of_the_optimizer_at_every_step(schedule):
    stage = Stage(depth=2, epochs=3, learning_rate=2e-3, warmup=1.5, schedule=schedule, lowest_rate=0.1)
    steps, blocks = 4, 3
    optimizer = optimizers.SGD(2e-3)
    layerwise = LayerwiseOptimizer(optimizer)
    length = stage.epochs * steps
    shares = stage.rates(blocks)
    layerwise.begin_stage(
        layerwise.add_plan([[]] * blocks), shares=shares, warmup_steps=6, schedule=schedule, steps=length
    )
    times, found = learning_rates(Trained(1, stage, 2, 5, 3), blocks, steps=steps)
    assert sorted(found) == [0, 1, 2]  # the lowest block is frozen
    assert times[[0, 4, -1]].tolist() == [5, 6, 8]
    for step in range(length + 1):
        optimizer.iterations.assign(step)
        for group, planned in found.items():
            assert planned[step] == pytest.approx(
                float(ops.convert_to_numpy(layerwise.rate(group))), rel=1e-5, abs=1e-9
            )


def test_tensorboard_reads_metrics_and_the_rate_of_every_group(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "tensorboard"
    for _ in range(2):  # the second takes the place of the first
        write_tensorboard(ROWS, trained_stages(ROWS, STAGES, [1, 2]), ["top", "low"], folder)

    def values(part, tag):
        events = accumulators.EventAccumulator(str(folder / part))
        events.Reload()
        return [(e.step, pytest.approx(e.tensor_proto.float_val[0], rel=1e-5)) for e in events.Tensors(tag)]

    assert values("train", "loss") == [(0, 0.9), (1, 0.5)]
    assert values("validation", "loss") == [(0, 0.8), (1, 0.6)]
    assert values("train", "learning_rate/head") == [(0, 1e-3), (1, 1e-4)]
    # A tenth for the lowest of two blocks, its root for the one between.
    assert values("train", "learning_rate/top") == [(0, 1e-3 * 0.1**0.5), (1, 1e-4 * 0.1**0.5)]
    assert values("train", "learning_rate/low") == [(0, 0.0), (1, 1e-5)]
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_plots_take_the_colours_of_the_page_and_refer_to_nothing_else():
    trained = trained_stages(ROWS, STAGES, [1, 2])
    drawn = [
        curve(ROWS, trained, "loss", start=1.0),
        rates(ROWS, trained, 2, steps=4),
        reliability([Bin(0.8, 0.9, 3, 0.85, 0.7)], "a <b>"),
    ]
    for svg in drawn:
        assert svg.startswith('<svg role="img" aria-label=')
        assert "var(--ink)" in svg
        assert not re.search(
            r"#[0-9a-f]{6}|http|<style|<metadata|font-family", svg.replace("http://www.w3.org", "")
        )
    assert 'aria-label="a &lt;b&gt;"' in drawn[2]
    ids = [name for svg in drawn for name in set(re.findall(r' id="([^"]+)"', svg))]
    assert len(ids) == len(set(ids))
    assert ">stage 1<" in drawn[0]
    assert ">lowest block<" in drawn[1]


def test_the_default_recipe_is_known_whatever_its_seed():
    assert is_default(image_recipe(images=500, seed=7), 500)
    assert is_default(text_recipe(texts=5000, gpu=True), 5000)
    assert not is_default(image_recipe(images=500, epochs=3), 500)


def test_reasons_are_given_for_what_was_chosen_and_nothing_else():
    few = dict(reasons(image_recipe(images=500), {"l2": 0.1, "folds": 5}))
    assert "Head first, solved by logistic regression on the frozen backbone; its L2, 0.1, by 5 folds" in few
    assert "No augmentation" in few
    assert not any(what.startswith(("Label", "Dropout", "Focal")) for what in few)
    given = Recipe(
        stages=STAGES,
        head="train",
        loss="focal",
        dropout=0.3,
        class_weight="balanced",
        augmentation=Augmentation(),
    )
    said = dict(reasons(given, {}))
    assert {"Focal loss, gamma 2", "Dropout 0.3 before the last layer", "Classes weigh the same"} <= set(said)
    assert any(what.startswith("Augmentation: flip") for what in said)
    assert not any(what.startswith("Head first") for what in said)


def test_the_most_frequent_mistakes_come_first():
    found = confusions([[7, 1, 2], [0, 5, 0], [3, 0, 0]], ["a", "b", "c"])
    assert [(m["truth"], m["answer"], m["count"]) for m in found] == [
        ("c", "a", 3),
        ("a", "c", 2),
        ("a", "b", 1),
    ]
    assert found[1]["share"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.9, "90.0 %"), (0.9951, "99.51 %"), (0.999999, "99.99 %"), (1.0, "100 %"), (np.float64(0), "0 %")],
)
def test_a_share_is_never_rounded_up_to_all(share, text):
    assert percent(share) == text
