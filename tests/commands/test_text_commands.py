"""A table of texts and a text backbone to a run folder, and what is asked of it then."""

import dataclasses
import json

import numpy as np
import pytest
from text_zoo import write_preset

from ktransfer.audit.exclusions import read_exclusions
from ktransfer.commands.audit import audit
from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.predict import predict
from ktransfer.commands.splits import read_splits
from ktransfer.commands.train import resume, train
from ktransfer.errors import DataError, RecipeError
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.preprocessing import TextPreprocessing

RECIPE = Recipe(
    stages=(Stage(depth=1, epochs=2, learning_rate=1e-3, warmup=0.5, schedule="linear"),),
    batch_size=8,
    augmentation=TextAugmentation(),
)


def write_table(path, count=80, seed=0):
    """Texts with a fox and without; one class is four times the other."""
    random = np.random.default_rng(seed)
    rows = ["text,label"]
    for index in range(count):
        words = random.choice(["the", "quick", "brown", "you"], random.integers(2, 12)).tolist()
        if index % 5 == 0:
            words.insert(random.integers(len(words)), "fox")
        rows.append(f"{' '.join(words)} {index},{'animal' if index % 5 == 0 else 'other'}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"))[1]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data") / "animals.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, preset, table):
    lines = []
    out = tmp_path_factory.mktemp("runs") / "run"
    run = train(table, preset, out, recipe=RECIPE, formats=["onnx"], verbose=0, say=lines.append)
    return run, lines


def begun(run, **changes):
    """Of what was said, what follows the first word of a line."""
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in run}


def test_one_call_leads_from_a_table_to_a_verified_artifact(finished):
    run, _ = finished
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "trained"
    assert manifest["modality"] == "text"
    assert manifest["labels"] == ["animal", "other"]
    assert manifest["data"]["text_column"] == "text"
    assert manifest["tokenizer"]["path"] == "artifacts/tokenizer.json"
    assert (run.path / "artifacts" / "tokenizer.json").is_file()
    [artifact] = manifest["artifacts"]
    assert [entry["name"] for entry in artifact["signature"]["inputs"]] == manifest["preprocessing"]["inputs"]
    assert artifact["parity"]["max_abs_delta"] < 1e-4
    assert (run.path / "history.csv").read_text().count("\n") == 3


def test_columns_length_and_uneven_classes_are_said(finished):
    said = begun(finished[1])
    assert said["columns"] == "texts 'text', labels 'label', guessed"
    assert said["data"] == "64 train, 16 validation; 2 classes"
    assert "other has 51 examples and animal 13; with --class-weight balanced" in said["hint"]
    # Each word is a token, and so is the number at the end; two special ones are around them.
    texts = read_splits(finished[0].manifest["data"], 0)[0].train.inputs
    tokens = sorted(len(text.split()) + 2 for text in texts)
    known = f"(median {tokens[32]}, 95 of 100 up to {tokens[60]}, longest {tokens[-1]})"
    assert f"texts of up to 16 tokens {known}" in said["backbone"]
    assert "16 x 8 for each text" in said["cache"]


def test_a_run_on_texts_loads_elsewhere_with_its_tokenizer(finished):
    run = Run.load(finished[0].path)
    assert isinstance(run.preprocessing, TextPreprocessing)
    texts = ["the fox", "you you you brown quick the", "brown"]
    alone = np.concatenate([run.predict_probabilities([text]) for text in texts])
    np.testing.assert_allclose(run.predict_probabilities(texts), alone, atol=1e-5)
    np.testing.assert_allclose(run.predict_probabilities(texts), finished[0].predict_probabilities(texts))


def test_texts_are_judged_by_the_columns_that_the_run_was_trained_on(finished, tmp_path):
    lines = []
    path = tmp_path / "more.csv"
    path.write_text("id,label,text\n1,other,you you\n2,animal,the fox\n3,other,the quick\n")
    result, split = evaluate(finished[0], path, say=lines.append)
    assert (result.examples, split) == (3, "train")
    assert lines == ["note       not used: 1 column (id)", f"data       3 texts, all of {path}"]
    path.write_text("id,label,text\n1,mineral,you you\n")
    with pytest.raises(DataError, match=r"Expected labels out of animal, other.*'mineral' in row 2"):
        evaluate(finished[0], path)


def test_texts_that_were_trained_on_are_counted_when_judged(finished, table):
    lines = []
    evaluate(finished[0], table, say=lines.append)
    assert "trained on 64 of these texts" in lines[1]


def test_predict_takes_texts_tables_and_text_files(finished, tmp_path):
    run, _ = finished
    (tmp_path / "rows.csv").write_text("text\nthe fox\nyou\n")
    (tmp_path / "one.txt").write_text("the quick\nbrown fox\n")
    noun, found = predict(run, ["brown fox", str(tmp_path / "rows.csv"), str(tmp_path / "one.txt")], top_k=1)
    assert noun == "text"
    assert [text for text, _ in found] == ["brown fox", "the fox", "you", "the quick\nbrown fox\n"]
    assert found[1][1] == run.predict(["the fox"], top_k=1)[0]
    with pytest.raises(DataError, match="got an empty one"):
        predict(run, [" "])


@pytest.mark.slow
def test_an_interrupted_run_on_texts_goes_on(tmp_path, preset, table, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    options = {"formats": (), "verbose": 0, "say": lambda line: None}
    with monkeypatch.context() as patch:
        patch.setattr("ktransfer.commands.fit._fine_tune", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(table, preset, tmp_path / "run", recipe=RECIPE, **options)
    assert resume(tmp_path / "run", **options).manifest["status"] == "trained"


@pytest.mark.slow
def test_without_the_cache_a_run_on_texts_trains_alike(tmp_path, preset, table, finished):
    options = {"recipe": RECIPE, "formats": (), "verbose": 0, "say": lambda line: None}
    run = train(table, preset, tmp_path / "run", cache=False, **options)
    losses = [
        np.genfromtxt(r.path / "history.csv", delimiter=",", names=True)["loss"] for r in (run, finished[0])
    ]
    assert len(losses[0]) == 2
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_text_augmentation_loss_and_class_weight_are_options(tmp_path, preset, table):
    lines = []
    run = train(
        table,
        preset,
        tmp_path / "run",
        recipe=RECIPE,
        class_weight="balanced",
        loss="focal",
        augmentation=TextAugmentation(swap=0.1),
        formats=(),
        verbose=0,
        say=lines.append,
    )
    assert run.recipe == dataclasses.replace(
        RECIPE, class_weight="balanced", loss="focal", augmentation=TextAugmentation(swap=0.1)
    )
    assert "hint" not in begun(lines)
    assert begun(lines)["cache"] == "none for stage 0: the examples vary at every epoch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 64}, r"options for text-classification.* got --image-size\."),
        (
            {"recipe": dataclasses.replace(RECIPE, augmentation=Augmentation())},
            "Expected TextAugmentation",
        ),
        ({"text_column": "body"}, "Expected one column 'body'"),
        ({"sequence_length": 1000}, "Expected a sequence length from 3 to the 64 tokens"),
    ],
)
def test_what_does_not_fit_texts_is_refused_and_nothing_is_written(options, message, tmp_path, preset, table):
    with pytest.raises((DataError, RecipeError), match=message):
        train(table, preset, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_options_for_texts_are_refused_with_images(tmp_path, preset):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match="got --text-column, --sequence-length"):
        train(tmp_path / "images", preset, tmp_path / "run", text_column="text", sequence_length=8)


def test_texts_on_both_sides_of_given_files_stop_the_training(tmp_path, preset, table):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.csv").write_text(table.read_text())
    known = table.read_text().splitlines()[1].split(",")[0]
    (data / "val.csv").write_text(f"text,label\n{known.upper()},animal\nfox,animal\n")
    lines = []
    recipe = dataclasses.replace(RECIPE, stages=())
    options = {"recipe": recipe, "formats": (), "verbose": 0, "say": lines.append}
    with pytest.raises(DataError, match=r"1 leak, such as .*--allow-leakage"):
        train(data, preset, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    train(data, preset, tmp_path / "run", allow_leakage=True, **options)
    assert begun(lines)["warning"].startswith("1 leak, such as")

    audit(data, out=tmp_path / "audit", fix=True, verbose=0)
    run = train(data, preset, tmp_path / "other", exclude=tmp_path / "audit" / "exclude.txt", **options)
    left_out = list(read_exclusions(tmp_path / "audit" / "exclude.txt").values())
    assert left_out.count("leak") == 1
    assert run.manifest["data"]["examples"] == {"train": 80 - len(left_out), "validation": 2}
    assert resume(run.path, verbose=0, say=lambda line: None).manifest["status"] == "trained"
