"""Pretraining of tiny backbones on made-up texts, whose words follow from each other."""

import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from text_zoo import FAMILIES, write_preset
from typer.testing import CliRunner

import ktransfer
from ktransfer.cli import app
from ktransfer.commands.pretrain import CURVE, FACTS, pretrain
from ktransfer.core.modality import modality
from ktransfer.errors import BackboneError, DataError, RecipeError, RunError
from ktransfer.pretraining.fit import held_out_dataset, plan_schedule
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.pretraining.objectives import choose_objective

QUIET = {"verbose": 0, "say": lambda line: None}
QUICK = {"epochs": 6, "batch_size": 16, "learning_rate": 1e-2, **QUIET}
WIDE = {"hidden_dim": 16, "intermediate_dim": 32}


def write_texts(path, count=160, seed=0):
    """The words come in a fixed order, so that a hidden one follows from its neighbors."""
    order, random = ["the", "quick", "brown", "fox", "you"], np.random.default_rng(seed)
    rows = []
    for index in range(count):
        start = random.integers(5)
        words = [order[(start + place) % 5] for place in range(random.integers(4, 14))]
        rows.append(" ".join(words) + " !" * (1 + index // 5 % 40))
    path.write_text("\n".join(dict.fromkeys(rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.txt")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"), **WIDE, dropout=0.1)[1]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, texts, bert):
    """A training, and copies of its folder as a kill would have left it before each file got its name."""
    folder, rename = tmp_path_factory.mktemp("adapted"), os.replace
    copies, counts, lines = {}, {}, []

    def replace(source, target):
        if Path(target).parent == folder / "whole":
            name = Path(target).name
            counts[name] = counts.get(name, -1) + 1
            copies[f"{name} {counts[name]}"] = folder / f"copy {len(copies)}"
            shutil.copytree(folder / "whole", folder / f"copy {len(copies) - 1}")
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        found = pretrain(texts, bert, folder / "whole", **QUICK | {"say": lines.append})
    return found, copies, lines


def weights(path):
    return load_text_backbone(str(path)).get_weights()


def test_held_out_perplexity_falls_and_the_curve_is_kept(adapted):
    found, _, lines = adapted
    before, after = found.perplexity
    assert after < 0.8 * before
    facts = json.loads((found.path / FACTS).read_text())
    assert facts["status"] == "trained"
    assert [row["round"] for row in facts["curve"]] == list(range(len(facts["curve"])))
    losses = [row["held_out"] for row in facts["curve"]]
    assert facts["kept_round"] == int(np.argmin(losses))
    assert after == pytest.approx(np.exp(min(losses)))
    assert (found.path / CURVE).stat().st_size > 5_000
    assert (
        sorted(path.name for path in found.path.iterdir() if path.name.startswith((".", "checkpoint"))) == []
    )
    assert sum(line.startswith("round ") for line in lines) == len(losses)


def test_held_out_batches_hide_words_of_texts_held_out(adapted, texts):
    found, *_ = adapted
    task = modality("text").pretraining(
        texts, str(found.path), seed=0, random_weights=False, labeled=None, leave_out_leaks=False
    )
    inputs, targets, counts = next(iter(held_out_dataset(task, batch_size=16, seed=0)))
    again = next(iter(held_out_dataset(task, batch_size=16, seed=0)))
    assert np.array_equal(again[0]["token_ids"], inputs["token_ids"])
    places, ids = inputs["places"].numpy(), inputs["token_ids"].numpy()
    seen = np.take_along_axis(ids, places, 1)[counts.numpy() == 1]
    assert (seen == 4).mean() > 0.5  # the mask token
    assert set(targets.numpy()[counts.numpy() == 1].tolist()) <= set(range(5, 14)) | {1}


def test_the_adapted_backbone_is_a_preset_with_other_weights(adapted, bert, texts, tmp_path):
    found, *_ = adapted
    before, after = weights(bert), weights(found.path)
    changed = [not np.array_equal(x, y) for x, y in zip(before, after, strict=True)]
    assert sum(changed) > len(changed) / 2
    one, other = (
        load_text_preprocessing(str(name), load_text_backbone(str(name))) for name in (bert, found.path)
    )
    sample = texts.read_text().splitlines()[:50]
    for x, y in zip(one.tokenize(sample), other.tokenize(sample), strict=True):
        assert np.array_equal(x, y)
    table = tmp_path / "labeled.csv"
    table.write_text("text,label\n" + "".join(f"the fox {i},a\nyou quick {i},b\n" for i in range(20)))
    run = ktransfer.train(table, str(found.path), tmp_path / "run", epochs=0, formats=(), **QUIET)
    assert run.manifest["status"] == "trained"


@pytest.mark.parametrize(
    "moment",
    [
        "checkpoint.npz 4",
        pytest.param("checkpoint.npz 0", marks=pytest.mark.slow),
        pytest.param("config.json 0", marks=pytest.mark.slow),
        pytest.param("pretraining.json 1", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_as_the_one_that_was_not(adapted, texts, bert, moment):
    found, copies, _ = adapted
    again = pretrain(texts, bert, copies[moment], resume=True, **QUICK)
    for mine, theirs in zip(weights(again.path), weights(found.path), strict=True):
        assert np.array_equal(mine, theirs)
    assert again.facts["curve"] == found.facts["curve"]
    assert again.facts["perplexity_before"] == found.facts["perplexity_before"]


def test_resume_refuses_other_options_and_other_texts(adapted, texts, bert, tmp_path):
    _, copies, _ = adapted
    copy = shutil.copytree(copies["checkpoint.npz 1"], tmp_path / "copy")
    with pytest.raises(RunError, match="--seed 0 as at the start"):
        pretrain(texts, bert, copy, resume=True, seed=1, **QUICK)
    content = texts.read_text()
    try:
        texts.write_text(content + "one more text\n")
        with pytest.raises(RunError, match="Expected the examples that the training"):
            pretrain(texts, bert, copy, resume=True, **QUICK)
    finally:
        texts.write_text(content)


@pytest.mark.spread("GPT2")
@pytest.mark.parametrize(
    ("name", "objective"),
    [
        pytest.param(
            name,
            "causal" if name == "GPT2" else "masked",
            marks=() if name in ("GPT2", "Albert") else pytest.mark.slow,
        )
        for name in FAMILIES
    ],
)
def test_every_family_learns(name, objective, texts, tmp_path):
    backbone, preset = write_preset(
        name, tmp_path, **({} if name in ("Albert", "Electra", "RoformerV2") else WIDE)
    )
    preprocessing = load_text_preprocessing(preset, backbone)
    if getattr(preprocessing.tokenizer, "mask_token_id", None) is None and objective == "masked":
        with pytest.raises(BackboneError, match="mask token"):
            pretrain(texts, preset, tmp_path / "out", **QUICK)
        assert not (tmp_path / "out").exists()
        return
    found = pretrain(texts, preset, tmp_path / "out", **QUICK | {"sequence_length": 16})
    assert found.facts["objective"] == objective
    before, after = found.perplexity
    assert after < 0.95 * before
    assert load_text_backbone(str(found.path)).count_params() == backbone.count_params()


def test_fewer_tokens_than_a_window_are_refused(tmp_path):
    preset = write_preset("GPT2", tmp_path)[1]
    path = tmp_path / "few.txt"
    path.write_text("".join(f"{chr(97 + index)}\n" for index in range(22)))
    with pytest.raises(DataError, match="at least one window of 60 tokens"):
        pretrain(path, preset, tmp_path / "out", sequence_length=60, **QUICK)
    assert not (tmp_path / "out").exists()


def test_an_output_layer_that_cannot_be_shared_is_refused():
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    model = keras.Model(inputs, keras.layers.Embedding(9, 4)(inputs))
    with pytest.raises(BackboneError, match="token embedding can be the output layer"):
        choose_objective(model, None)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"epochs": 0}, RecipeError),
        ({"batch_size": 0}, RecipeError),
        ({"learning_rate": -1.0}, RecipeError),
        ({"budget": "10s"}, RecipeError),
        ({"budget": "soon"}, RecipeError),
        ({"backbone": "@0.5"}, BackboneError),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_made(options, error, texts, bert, tmp_path):
    options = dict(options)
    backbone = bert + options.pop("backbone", "")
    with pytest.raises(error):
        pretrain(texts, backbone, tmp_path / "out", **QUIET, **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_never_touched(texts, bert, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match="neither"):
            pretrain(texts, bert, tmp_path, **QUIET, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("pieces", "epochs"), [(2, 1), (33, 3), (1000, 0.1), (10_000, 3), (400_000, 1)])
def test_a_schedule_has_rounds_of_both_parts(pieces, epochs):
    schedule = plan_schedule(pieces, has_head=True, epochs=epochs)
    assert schedule.head_rounds >= 1
    assert schedule.rounds >= 1
    assert schedule.steps <= 250
    planned = max(2, round(epochs * max(1, pieces // schedule.batch_size)))
    assert abs(schedule.steps * schedule.total - planned) <= max(schedule.steps, 0.15 * planned)


def test_a_budget_shortens_the_schedule():
    whole = plan_schedule(10_000, has_head=False)
    short = plan_schedule(10_000, has_head=False, seconds=60, batch_seconds=0.2)
    assert short.steps * short.total < 0.1 * whole.steps * whole.total


def test_the_command_refuses_in_one_line(texts, bert, tmp_path):
    for arguments, message in (
        ([], "Expected DATA"),
        ([str(texts)], "Expected --backbone"),
        ([str(texts), "--backbone", bert], "no --out"),
        (
            [str(texts), "--backbone", bert, "--out", str(tmp_path / "o"), "--leave-out-leaks"],
            "Expected --labeled",
        ),
    ):
        result = CliRunner().invoke(app, ["pretrain", *arguments])
        assert message in str(result.exception)
        assert not (tmp_path / "o").exists()


def write_labeled(path):
    path.write_text(
        "text,label\n"
        + "".join(f"the quick fox {'!' * index},a\nyou brown {'!' * index},b\n" for index in range(1, 21))
    )
    return path


def test_train_pretrains_first_on_unlabeled_texts(texts, bert, tmp_path):
    labeled, out = write_labeled(tmp_path / "labeled.csv"), tmp_path / "run"
    arguments = ["train", str(labeled), "--backbone", bert, "--out", str(out), "--epochs", "0", "--no-export"]
    arguments += ["--unlabelled", str(texts)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    adapted = tmp_path / "run-adapted"
    run = ktransfer.Run.load(out)
    assert run.manifest["backbone"]["name"] == str(adapted)
    assert json.loads((adapted / FACTS).read_text())["status"] == "trained"
    inner = next(layer for layer in run.model.layers if isinstance(layer, keras.Model))
    embedding = next(v for v in inner.weights if v.path.endswith("embeddings"))
    assert np.array_equal(embedding, load_text_backbone(str(adapted)).token_embedding.embeddings)


def test_train_refuses_unlabeled_texts_that_it_evaluates_on(bert, tmp_path):
    labeled, out = write_labeled(tmp_path / "labeled.csv"), tmp_path / "run"
    arguments = ["train", str(labeled), "--backbone", bert, "--out", str(out), "--epochs", "0", "--no-export"]
    result = CliRunner().invoke(app, [*arguments, "--unlabeled", str(labeled)])
    assert "of validation" in str(result.exception)
    assert not out.exists()
    assert not (tmp_path / "run-adapted").exists()
    result = CliRunner().invoke(app, [*arguments, "--leave-out-leaks"])
    assert "Expected --unlabeled" in str(result.exception)
