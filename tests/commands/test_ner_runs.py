"""Texts with marked entities the whole way: files, training, evaluation, artifacts, report."""

import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ner_data import sentences, write_conll, write_folder
from text_zoo import write_preset
from typer.testing import CliRunner

from ktransfer.cli import app, main
from ktransfer.commands.audit import audit
from ktransfer.commands.benchmark import benchmark
from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.export import export
from ktransfer.commands.train import resume, train
from ktransfer.commands.verify import verify
from ktransfer.data.modality import find_modality
from ktransfer.errors import DataError, RecipeError
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.models.heads import Head
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.tasks.token_classification import TASK
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

STAGES = (
    Stage(depth=1, epochs=2, learning_rate=1e-2, warmup=0.5, schedule="linear"),
    Stage(depth="all", epochs=1, learning_rate=1e-3),
)
RECIPE = Recipe(stages=STAGES, batch_size=16, augmentation=TextAugmentation(), final_weights="interpolated")
QUIET = {"verbose": 0, "say": lambda line: None}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"))[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "animals")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, folder, bert):
    lines = []
    out = tmp_path_factory.mktemp("runs") / "run"
    run = train(folder, bert, out, recipe=RECIPE, verbose=0, say=lines.append)
    return run, lines


def test_a_run_learns_entities_and_says_how_well(finished):
    run, lines = finished
    assert run.task is TASK
    assert run.labels == ("LOC", "PER")
    assert run.outputs == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    said = "\n".join(lines)
    for expected in (
        "train.conll as train, dev.conll as validation, test.conll as test",
        "columns    CoNLL columns, IOB2",
        "2 types of entities",
        "words of 90 texts",
        "validation F1 of the tags",
        "entity F1",
    ):
        assert expected in said
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["micro"]["f1"] > 0.5
    assert metrics["test"]["per_type"]["LOC"]["support"] > 5
    assert run.manifest["metrics"]["test"] == metrics["test"]["micro"]["f1"]


def test_the_metric_of_the_solved_head_is_that_of_the_first_epochs(finished):
    run, _ = finished
    found = run.manifest["decision"]["candidates"][0]
    assert found["accuracy"] == pytest.approx(run.manifest["head"]["validation"], abs=1e-6)


def test_biases_are_shifted_in_the_weights_once(folder, bert, tmp_path, monkeypatch):
    shift, lines = [-0.5, 0.25, 0, 0, 0], []
    monkeypatch.setattr(type(TASK), "better_biases", lambda *given: (np.array(shift), "words"))
    recipe = dataclasses.replace(RECIPE, stages=())
    plain = train(folder, bert, tmp_path / "run", recipe=recipe, formats=(), say=lines.append, verbose=0)
    assert "biases     words on validation" in lines
    assert plain.manifest["biases"] == shift
    shifted = Head.of(plain.model).weights[1]
    monkeypatch.setattr(type(TASK), "better_biases", lambda *given: None)
    other = train(folder, bert, tmp_path / "other", recipe=recipe, formats=(), **QUIET)
    assert other.manifest["biases"] is None
    np.testing.assert_allclose(shifted, Head.of(other.model).weights[1] + shift, atol=1e-6)
    np.testing.assert_array_equal(Head.of(Run.load(plain.path).model).weights[1], shifted)


def test_answers_are_spans_of_the_text(finished):
    run, _ = finished
    texts = ["you  the café, a fox!", "the", ""]
    answers = run.predict(texts)
    assert "café" in [each["text"] for each in answers[0]]
    for text, found in zip(texts, answers, strict=True):
        assert all(text[each["start"] : each["end"]] == each["text"] for each in found)
    assert answers[2] == []


def test_a_text_longer_than_the_model_is_answered_to_its_end(finished):
    run, _ = finished
    text = "the quick you " * 40 + "café"
    [tokenized] = run.preprocessing.tokenized([text])
    first, last = run.preprocessing.windows(tokenized)[-1]
    assert first > 0
    assert last == len(tokenized.words) == 121
    # The last words are answered as in a text that is the last window alone.
    whole, end = run.predict_probabilities([text, text[tokenized.words[first][0] :]])
    assert whole.words == tokenized.words
    np.testing.assert_allclose(whole.probabilities[-1], end.probabilities[-1], atol=1e-5)
    np.testing.assert_allclose(whole.probabilities.sum(axis=1), 1, atol=1e-5)


def test_evaluation_of_a_file_is_that_of_the_run(finished, folder):
    run, _ = finished
    found, split = evaluate(run, folder, say=lambda line: None)
    assert split == "test"
    assert found.micro.f1 == run.manifest["metrics"]["test"]
    of_file, split = evaluate(run, folder / "test.conll", say=lambda line: None)
    assert (split, of_file.micro) == ("train", found.micro)


def test_a_type_that_the_run_does_not_know_is_named(finished, tmp_path):
    run, _ = finished
    write_conll(tmp_path / "new.conll", [(("Ann",), ("B-PERSON",))])
    with pytest.raises(DataError, match=r"types LOC, PER .*got 'PERSON'"):
        evaluate(run, tmp_path / "new.conll", say=lambda line: None)


# Artifacts.


def spans_by(answer, run, texts):
    """The entities that an artifact gives, window by window."""
    preprocessing = run.preprocessing
    found = []
    for each in preprocessing.tokenized(texts):
        windows = preprocessing.windows(each)
        assert len(windows) == 1
        ids, places = preprocessing._packed(each, *windows[0])
        rows = answer(preprocessing.pack([ids]))[0][places]
        answers = np.empty(1, object)
        answers[0] = type("Answers", (), {"words": each.words, "probabilities": rows})
        found.append(TASK.decide(answers)[0])
    return found


def test_all_formats_give_the_same_spans(finished):
    run, _ = finished
    known = ["the brown fox at the café", "a cafe", "you", "the fox a fox café café"]
    texts = [*known, *(text for text in NASTY_TEXTS if run.preprocessing.count_tokens([text])[0] <= 16)]
    expected = TASK.decide(run.predict_probabilities(texts)).tolist()
    assert sum(map(len, expected)) > 4
    for artifact in run.manifest["artifacts"]:
        opened = open_artifact(artifact["format"], run.path / artifact["path"])
        assert opened.labels == list(run.outputs)
        assert spans_by(opened.answer, run, texts) == expected
    assert {each["format"] for each in run.manifest["artifacts"]} == {"savedmodel", "tflite", "onnx"}


def test_artifacts_say_what_a_program_needs(finished):
    run, _ = finished
    [onnx] = [each for each in run.manifest["artifacts"] if each["format"] == "onnx"]
    assert onnx["signature"]["output"]["shape"] == [None, None, 5]
    assert onnx["parity"]["label_agreement"] == 1
    assert run.manifest["preprocessing"]["words"]["rule"] == "unicode-1"
    labels = (run.path / "artifacts" / "labels.txt").read_text(encoding="utf-8").split()
    assert labels == list(run.outputs)


@pytest.mark.slow
def test_a_run_is_verified_and_measured(finished):
    run, _ = finished
    found = verify(run, say=lambda line: None)
    assert found.ok
    assert all(each.parity is None or each.parity.accuracy > 0.8 for each in found.checked)
    measured = benchmark(run, threads=1, rounds=1).measured
    assert len(measured) == 4
    assert all(each.label_agreement == 1 for each in measured)


@pytest.mark.slow
def test_int8_is_judged_by_the_tags_of_words(finished):
    run, _ = finished
    [artifact] = export(run, ["onnx-int8"], say=lambda line: None)
    assert artifact.parity.accuracy_of_model > 0.8
    assert artifact.parity.label_agreement > 0.9
    run.manifest["artifacts"] = [each for each in run.manifest["artifacts"] if each["format"] != "onnx-int8"]


def test_the_report_shows_texts_with_their_entities(finished):
    run, _ = finished
    page = (run.path / "report.html").read_text(encoding="utf-8")
    for expected in ("entity F1", "The most frequent mistakes", "<mark", "true: PER", "types"):
        assert expected in page


# Training.


@pytest.mark.slow
def test_a_run_that_is_interrupted_is_resumed_to_the_same_weights(
    finished, folder, bert, tmp_path, monkeypatch
):
    whole, _ = finished

    class Stop(BaseException):
        pass

    rename, seen = os.replace, []

    def replace(source, target):
        rename(source, target)
        if Path(target).name == "checkpoint.npz":
            seen.append(target)
            if len(seen) == 2:
                raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(Stop):
            train(folder, bert, tmp_path / "run", recipe=RECIPE, formats=[], **QUIET)
    assert Run.load(tmp_path / "run").manifest["status"] == "interrupted"
    run = resume(tmp_path / "run", **QUIET)
    for one, other in zip(run.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_training_is_the_same_without_cached_features(finished, folder, bert, tmp_path):
    whole, _ = finished
    run = train(folder, bert, tmp_path / "run", recipe=RECIPE, formats=[], cache=False, **QUIET)
    for one, other in zip(run.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.slow
def test_the_default_preset_class_weights_and_refit_work(folder, bert, tmp_path):
    lines, out = [], tmp_path / "run"
    options = {"class_weight": "balanced", "refit": True, "epochs": 1, "formats": [], "verbose": 0}
    run = train(folder, bert, out, say=lines.append, **options)
    said = "\n".join(lines)
    assert "decision" in said
    assert "refit      on 120 texts" in said
    # Balanced weights answer entities more often.
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["validation"]["micro"]["recall"] > 0.6


def joined_up(rows):
    words, tags = (list(itertools.chain.from_iterable(each)) for each in zip(*rows, strict=True))
    return words, tags


@pytest.mark.slow
def test_a_single_file_is_split_and_long_texts_are_cut_into_pieces(bert, tmp_path):
    rows = sentences(60)
    joined = [joined_up(rows[at : at + 3]) for at in range(0, 60, 3)]
    path, lines = write_conll(tmp_path / "all.conll", joined), []
    recipe = dataclasses.replace(RECIPE, stages=STAGES[:1])
    options = {"recipe": recipe, "formats": ["onnx"], "verbose": 0, "sequence_length": 12}
    run = train(path, bert, tmp_path / "run", say=lines.append, **options)
    examples = run.manifest["data"]["examples"]
    assert sum(examples.values()) == 20
    said = f"windows    train: {examples['train']} texts are trained on as"
    assert any(line.startswith(said) for line in lines)
    assert run.manifest["metrics"]["validation"] > 0


def test_what_cannot_be_with_entities_is_refused_before_training(folder, bert, tmp_path):
    for recipe, message in (
        (dataclasses.replace(RECIPE, augmentation=TextAugmentation(swap=0.1)), "words that are moved"),
        (dataclasses.replace(RECIPE, quantization_aware=1), "quantization_aware"),
    ):
        with pytest.raises(RecipeError, match=message):
            train(folder, bert, tmp_path / "run", recipe=recipe, formats=[], **QUIET)
    with pytest.raises(DataError, match="no group_column for texts with marked entities"):
        train(folder, bert, tmp_path / "run", recipe=RECIPE, formats=[], group_column="x", **QUIET)
    assert not (tmp_path / "run").exists()


# Audit.


def test_an_audit_finds_what_is_wrong_with_entities(tmp_path):
    rows = [
        ("the fox is here", [(4, 7, "PER")]),
        ("a fox and a café", [(2, 5, "LOC"), (12, 16, "LOC")]),
        ("you see the foxes", [(12, 15, "PER")]),
        ("the fox", [(4, 7, "PER"), (0, 7, "PER")]),
    ]
    data = tmp_path / "data"
    data.mkdir()
    for name, chosen in (("train", rows), ("test", rows[:1])):
        lines = [
            json.dumps(
                {
                    "text": text,
                    "spans": [dict(zip(("start", "end", "label"), each, strict=True)) for each in spans],
                }
            )
            for text, spans in chosen
        ]
        (data / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = audit(data, out=tmp_path / "audit", verbose=0)
    [cut] = found.of("cut_word")
    assert (cut.items[0].input, cut.detail) == ("you see the foxes", "PER 'fox' from 12 to 15")
    [surface] = found.of("surface")
    assert surface.detail == "'fox' is PER 2, LOC 1 times"
    assert [item.input for item in surface.items] == ["a fox and a café"]
    assert [item.split for item in found.of("leak")[0].items] == ["train", "test"]
    notes = [finding.detail for finding in found.of("layout")]
    assert any("1 span over a longer one" in note for note in notes)
    assert "several types" in (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="Leave --backbone out"):
        audit(data, backbone="none", verbose=0)


# The command line.


def test_the_command_line_predicts_and_evaluates(finished, folder):
    run, _ = finished
    done = CliRunner().invoke(app, ["predict", str(run.path), "a café here", "--json"])
    assert done.exit_code == 0, done.output
    [line] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found, expected = json.loads(line)["predictions"], run.predict(["a café here"])[0]
    assert [each.pop("probability") for each in found] == pytest.approx(
        [each.pop("probability") for each in expected], abs=1e-5
    )
    assert found == expected
    done = CliRunner().invoke(app, ["evaluate", str(run.path), str(folder)])
    assert done.exit_code == 0, done.output
    assert "entities" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fox\tB-PER\ncafé\n", "got 1 in line 2"),
        ("fox\tB-PER\ncafé\tI-LOC\n", "got I-LOC after B-PER in line 2"),
    ],
)
def test_a_wrong_file_is_one_line_on_the_command_line(tmp_path, content, message, monkeypatch, capsys):
    path = tmp_path / "train.conll"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(
        sys, "argv", ["ktransfer", "train", str(path), "--backbone", "x", "--out", str(tmp_path / "run")]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err


def test_images_have_no_entities(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="task"):
        find_modality(tmp_path).read(tmp_path, task="ner")
