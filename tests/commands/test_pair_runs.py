"""Pairs of texts, the whole way: tables, training, evaluation, artifacts, report, resume, prediction."""

import csv
import json

import numpy as np
import pytest
from text_zoo import write_preset
from typer.testing import CliRunner

from ktransfer.cli import app
from ktransfer.commands.audit import audit
from ktransfer.commands.benchmark import benchmark
from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.predict import predict
from ktransfer.commands.train import resume, train
from ktransfer.commands.verify import verify
from ktransfer.data.pairs import Pair
from ktransfer.errors import DataError
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.report import text_card

STAGES = (Stage(depth="all", epochs=2, learning_rate=1e-4, warmup=0.5, schedule="linear"),)
RECIPE = Recipe(stages=STAGES, batch_size=16, augmentation=TextAugmentation(), final_weights="interpolated")
HEAD = Recipe(stages=(), batch_size=16, augmentation=TextAugmentation())
WORDS = ("the", "quick", "brown", "you", "a")


def rows_of(count, seed):
    """Pairs, and how many foxes more the second text has than the first."""
    random = np.random.default_rng(seed)
    for index in range(count):
        foxes = random.integers(0, 4, 2)
        texts = []
        for number in foxes:
            words = [*random.choice(WORDS, 3).tolist(), *["fox"] * int(number)]
            random.shuffle(words)
            texts.append(f"{' '.join(words)} {index}")
        yield (*texts, int(foxes[1] - foxes[0]))


def write_table(path, label, of=lambda more: more, count=120, seed=0, names=("sentence1", "sentence2")):
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [(one, other, of(more)) for one, other, more in rows_of(count, seed)]
        csv.writer(file).writerows([(*names, label), *rows])
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"), hidden_dim=32)[1]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data") / "foxes.csv", "score", lambda more: more + 0.5)


@pytest.fixture(scope="module")
def regression(tmp_path_factory, bert, table):
    lines = []
    out = tmp_path_factory.mktemp("runs") / "numbers"
    formats = ["savedmodel", "tflite", "onnx", "tflite-int8"]
    options = {"task": "regression", "recipe": RECIPE, "formats": formats}
    return train(table, bert, out, **options, verbose=0, say=lines.append), lines


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Of RoBERTa, which has no segments, in columns that are named."""
    folder = tmp_path_factory.mktemp("classes")
    preset = write_preset("Roberta", folder)[1]
    data = write_table(
        folder / "foxes.csv", "kind", lambda more: "more" if more > 0 else "less", names=("l", "r")
    )
    options = {"text_columns": ("l", "r"), "recipe": HEAD, "formats": ["savedmodel"], "verbose": 0}
    return train(data, preset, folder / "run", **options, say=lambda line: None), data


def test_a_table_of_pairs_leads_to_verified_artifacts(regression):
    run, lines = regression
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["modality"], manifest["task"]) == ("text", "regression")
    assert manifest["data"]["text_columns"] == "sentence1,sentence2"
    assert manifest["preprocessing"]["pair"]["truncate"] == "round_robin"
    assert manifest["tokenizer"]["pair"] == manifest["preprocessing"]["pair"]
    assert "columns    pairs of texts 'sentence1' and 'sentence2', labels 'score', guessed" in lines
    assert any("pairs of texts of up to" in line and "the longer text cut first" in line for line in lines)
    artifacts = {entry["format"]: entry for entry in manifest["artifacts"]}
    assert set(artifacts) == {"savedmodel", "tflite", "onnx", "tflite-int8"}
    for name in ("savedmodel", "tflite", "onnx"):
        assert artifacts[name]["parity"]["max_abs_delta"] < 1e-4
    given = [entry["name"] for entry in artifacts["onnx"]["signature"]["inputs"]]
    assert given == ["token_ids", "segment_ids", "padding_mask"]
    given = [entry["name"] for entry in artifacts["savedmodel"]["signature"]["inputs"]]
    assert given == ["text_a", "text_b"]
    assert verify(run, say=lambda line: None).ok


def test_the_order_of_the_texts_matters_to_the_model(regression):
    run = Run.load(regression[0].path)
    few, many = "the quick you 1", "the fox fox fox 1"
    [[more], [less]] = run.predict([(few, many), Pair(many, few)])
    assert less["value"] < more["value"]
    with pytest.raises(DataError, match="Expected pairs of texts"):
        run.predict([few])


def test_a_saved_model_takes_both_texts_as_they_are(regression):
    run = regression[0]
    pairs = [("the quick fox!", "you"), ("", "a café"), ("fox " * 90, "the " * 90)]
    answer = open_artifact("savedmodel", run.path / "artifacts/savedmodel").answer
    found = answer({"text_a": [one for one, _ in pairs], "text_b": [other for _, other in pairs]})
    expected = [[answers[0]["value"]] for answers in run.predict(pairs)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cards_of_a_report_show_both_texts():
    assert text_card(Pair("the fox", "you")) == {"text": "the fox", "other_text": "you"}


def test_new_tables_are_evaluated_and_predicted(regression, tmp_path):
    run, lines = regression[0], []
    new = write_table(tmp_path / "new.csv", "score", count=20, seed=5)
    found, _ = evaluate(run, new, say=lines.append)
    assert found.examples == 20
    assert "20 pairs, all of" in lines[0]
    kind, answers = predict(run, [str(new), "the fox", "you"], say=lines.append)
    assert (kind, len(answers)) == ("text", 21)
    assert answers[-1][0] == Pair("the fox", "you")
    renamed = write_table(tmp_path / "renamed.csv", "score", count=5, seed=6, names=("one", "two"))
    with pytest.raises(DataError, match=r"'sentence1'.*'one', 'two'"):
        predict(run, [str(renamed)])
    assert len(predict(run, [str(renamed)], text_columns=("one", "two"))[1]) == 5
    with pytest.raises(DataError, match="pass --text-columns"):
        predict(run, [str(new)], text_column="sentence1")


@pytest.mark.slow
def test_every_artifact_is_measured(regression):
    found = {each.format: each for each in benchmark(regression[0], rounds=1, examples=8).measured}
    assert found["onnx"].max_abs_delta < 1e-4
    assert "tflite-int8" in found


@pytest.mark.slow
def test_a_run_that_is_cut_off_ends_as_one_that_was_not(bert, table, tmp_path):
    options = {"task": "regression", "recipe": RECIPE, "formats": (), "verbose": 0}
    whole = train(table, bert, tmp_path / "whole", **options, say=lambda line: None)

    class CutOff(Exception):
        pass

    def cut_off(line):
        if line.startswith("head "):
            raise CutOff

    with pytest.raises(CutOff):
        train(table, bert, tmp_path / "cut", **options, say=cut_off)
    found = resume(tmp_path / "cut", say=lambda line: None, verbose=0)
    for one, other in zip(whole.model.get_weights(), found.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.manifest["fitted"] == whole.manifest["fitted"]


@pytest.mark.slow
def test_classes_of_pairs_are_learned_without_segments(classes):
    run, data = classes
    assert run.manifest["preprocessing"]["inputs"] == ["token_ids", "padding_mask"]
    assert len(run.manifest["preprocessing"]["pair"]["separator"]) == 2
    assert run.labels == ("less", "more")
    assert evaluate(run, data, say=lambda line: None)[0].examples == 120
    page = (run.path / "report.html").read_text(encoding="utf-8")
    why = page.split('id="why"')[1]
    assert all(card.count("<blockquote") == 2 for card in why.split('<figure class="card">')[1:])


@pytest.mark.slow
def test_labels_of_pairs_may_be_several(bert, tmp_path):
    names = {-1: "", 0: "same", 1: "more|fox"}
    data = write_table(tmp_path / "tags.csv", "labels", lambda more: names[int(np.sign(more))])
    options = {"recipe": HEAD, "formats": ["onnx"], "verbose": 0, "label_separator": "|"}
    run = train(data, bert, tmp_path / "run", **options, say=lambda line: None)
    assert run.task.name == "multi_label"
    assert {each["label"] for each in run.predict([("the fox", "fox fox")])[0]} == {"same", "more", "fox"}


@pytest.mark.slow
def test_labels_that_look_wrong_are_found_by_a_backbone(bert, tmp_path):
    data = write_table(tmp_path / "kinds.csv", "label", lambda more: "more" if more > 0 else "less")
    found = audit(data, backbone=bert, out=tmp_path / "audit", fix=True, verbose=0)
    assert found.examples == 120
    assert (tmp_path / "audit" / "exclude.txt").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text-columns", "sentence1,other"], "Expected one column 'other'"),
        (["--text-columns", "sentence1"], "Expected two different columns for --text-columns"),
        (["--text-columns", "sentence1,sentence2", "--text-column", "sentence1"], "got both"),
        (
            ["--text-columns", "sentence1,sentence2", "--task", "ner"],
            "one answer for a pair of texts, got 'ner'",
        ),
        (["--task", "regression", "--sequence-length", "4"], "at least 5 for pairs of texts"),
    ],
)
def test_bad_options_are_one_line_on_the_command_line(bert, table, tmp_path, options, message):
    arguments = ["train", str(table), "--backbone", str(bert), "--out", str(tmp_path / "run"), *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"
    assert not (tmp_path / "run").exists()


def test_pairs_are_predicted_on_the_command_line(regression, tmp_path):
    arguments = ["predict", str(regression[0].path), "the fox", "you", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output.splitlines()[-1])["text"] == ["the fox", "you"]
    done = CliRunner().invoke(app, ["predict", str(regression[0].path), "the fox"])
    assert done.exit_code != 0
    assert "Expected two texts for each pair" in f"{done.output}{done.exception}"


@pytest.mark.slow
def test_stsb_is_learned_and_exported(minilm, tmp_path):
    folder = minilm.parents[1] / "data/stsb"
    if not folder.is_dir():
        pytest.skip(f"real data is not here: {folder}")
    data = tmp_path / "stsb"
    data.mkdir()
    for name, rows in (("train", 600), ("val", 200), ("test", 200)):
        lines = (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()[: rows + 1]
        (data / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    options = {"task": "regression", "preset": "fast", "allow_leakage": True, "verbose": 0}
    run = train(data, minilm, tmp_path / "run", **options, say=lambda line: None)
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["spearman"]["value"] > 0.6
    for entry in run.manifest["artifacts"]:
        assert entry["parity"]["max_abs_delta"] < 1e-4
