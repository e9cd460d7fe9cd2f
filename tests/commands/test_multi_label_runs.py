"""Examples with any number of labels, the whole way: tables, training, evaluation, artifacts, report."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from text_zoo import write_preset

from ktransfer.commands.audit import audit
from ktransfer.commands.benchmark import benchmark
from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.export import export
from ktransfer.commands.predict import predict
from ktransfer.commands.train import resume, train
from ktransfer.commands.verify import verify
from ktransfer.demo import PRESET_PATH
from ktransfer.errors import RecipeError
from ktransfer.exporting.options import ExportOptions
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.tasks.multi_label import TASK
from ktransfer.text.augmentation import TextAugmentation

STAGES = (
    Stage(depth=1, epochs=2, learning_rate=1e-3, warmup=0.5, schedule="linear"),
    Stage(depth="all", epochs=1, learning_rate=1e-4),
)
TEXTS = Recipe(stages=STAGES, batch_size=16, augmentation=TextAugmentation(), final_weights="interpolated")
IMAGES = Recipe(stages=STAGES[:1], batch_size=16, augmentation=Augmentation.none())
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}


def write_texts(path, count=120, seed=0):
    """Texts, and which of two words and one pair of words they have; every fifth has none."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        chosen = [word for word in ("fox", "brown", "café") if random.random() < 0.4] if index % 5 else []
        words = random.choice(["the", "quick", "you", "a"], random.integers(2, 9)).tolist()
        for word in chosen:
            words.insert(random.integers(len(words) + 1), word)
        rows.append((f"{' '.join(words)} {index}", "|".join(chosen)))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "tags"), *rows])
    return path


def write_images(folder, count=48, seed=0):
    """Pictures with squares of up to three colours, six of one scene, and a table of them."""
    random = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for index in range(count):
        # Of coarse patches of grey, so that no two are nearly the same.
        grey = random.integers(90, 250, (8, 8, 1), dtype="uint8").repeat(8, axis=0).repeat(8, axis=1)
        pixels = np.repeat(grey, 3, axis=2)
        chosen = [name for name in COLOURS if random.random() < 0.5]
        for place, name in enumerate(chosen):
            top, left = 4 + 20 * place, int(random.integers(4, 40))
            pixels[top : top + 16, left : left + 16] = COLOURS[name]
        name = f"pictures/{index:03}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append((name, ";".join(chosen), f"scene {index // 6}"))
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "tags", "scene"), *rows])
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"))[1]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "tagged.csv")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("pictures") / "tagged")


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory, bert, table):
    lines = []
    out = tmp_path_factory.mktemp("runs") / "texts"
    return train(table, bert, out, recipe=TEXTS, verbose=0, say=lines.append), lines


@pytest.fixture(scope="module")
def of_images(tmp_path_factory, pictures):
    lines = []
    out = tmp_path_factory.mktemp("runs") / "images"
    options = {"recipe": IMAGES, "formats": ["onnx"], "group_column": "scene", "image_size": 64}
    return train(pictures, PRESET_PATH, out, **options, verbose=0, say=lines.append), lines


def test_a_table_of_label_sets_leads_to_three_verified_artifacts(of_texts):
    run, lines = of_texts
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["modality"], manifest["task"], manifest["format"]) == ("text", "multi_label", 2)
    assert manifest["labels"] == ["brown", "café", "fox"]
    assert [entry["format"] for entry in manifest["artifacts"]] == ["savedmodel", "tflite", "onnx"]
    for entry in manifest["artifacts"]:
        assert entry["parity"]["label_agreement"] == 1
        assert entry["parity"]["max_abs_delta"] < 1e-4
    assert any("separated by '|'" in line and "multi-label with 3 labels" in line for line in lines)
    assert len(manifest["fitted"]["decision"]["thresholds"]) == 3
    with (run.path / "history.csv").open(encoding="utf-8") as file:
        assert "val_pr_auc" in next(csv.reader(file))
    assert not [line for line in lines if "no report" in line]


def test_validation_has_the_share_of_every_label(of_texts):
    examples = of_texts[0].manifest["data"]["examples"]
    assert examples["train"] + examples["validation"] == 120
    assert 22 <= examples["validation"] <= 26


def test_answers_are_the_labels_over_their_thresholds(of_texts):
    run, _ = of_texts
    texts = ["the fox 7", "you you 8"]
    probabilities = run.predict_probabilities(texts)
    assert ((probabilities > 0) & (probabilities <= 1)).all()
    chosen = TASK.decide(probabilities, run.decision)
    for row, answers in zip(chosen, run.predict(texts, top_k=1), strict=True):
        named = {each["label"] for each in answers if each["chosen"]}
        assert named == {run.labels[index] for index in np.flatnonzero(row)}
        assert len(answers) == max(1, len(named))
    assert predict(Run.load(run.path), texts)[1][0][0] == "the fox 7"


def test_the_onnx_file_carries_the_task_and_its_thresholds(of_texts):
    import onnx

    run, _ = of_texts
    found = onnx.load(run.path / "artifacts/model.onnx").metadata_props
    facts = {entry.key: json.loads(entry.value) for entry in found if entry.key in ("task", "thresholds")}
    assert facts == {"task": "multi_label", "thresholds": run.decision["thresholds"]}


def test_a_run_is_evaluated_on_a_table_with_its_own_columns(of_texts, tmp_path):
    run, _ = of_texts
    found, split = evaluate(Run.load(run.path), write_texts(tmp_path / "new.csv", 40, seed=9), say=print)
    assert found.examples == 40
    assert split == "train"
    assert list(found.thresholds) == run.decision["thresholds"]
    assert found.tables("texts")[0][0][0] == "label"


@pytest.mark.slow
def test_exports_are_verified_and_timed(of_texts):
    run, _ = of_texts
    run = Run.load(run.path)
    lines = []
    assert verify(run, say=lines.append).ok, lines
    found = benchmark(run, rounds=1, threads=1, examples=20)
    assert [each.label_agreement for each in found.measured] == [1.0] * 4


@pytest.mark.slow
def test_an_int8_file_answers_nearly_as_the_model_does(of_texts):
    run = Run.load(of_texts[0].path)
    [artifact] = export(run, ["onnx-int8"], say=lambda line: None)
    assert artifact.parity.label_agreement > 0.97
    assert artifact.parity.accuracy is not None


@pytest.mark.slow
def test_a_calibrated_file_has_thresholds_that_give_the_same_labels(of_texts, tmp_path):
    run = Run.load(of_texts[0].path)
    options = ExportOptions(temperature=2.0)
    [artifact] = export(run, ["onnx"], options=options, say=lambda line: None)
    assert artifact.parity.label_agreement == 1
    import onnx

    props = {entry.key: entry.value for entry in onnx.load(run.path / artifact.path).metadata_props}
    thresholds = json.loads(props["thresholds"])
    assert thresholds == pytest.approx(TASK.at_temperature(run.decision, 2.0)["thresholds"])
    lines = []
    assert verify(run, say=lines.append).ok, lines
    export(run, ["onnx"], say=lambda line: None)


def test_the_report_shows_labels_and_thresholds(of_texts):
    page = (of_texts[0].path / "report.html").read_text(encoding="utf-8")
    assert "macro F1" in page
    assert "café" in page
    assert "threshold" in page
    assert "area under the precision-recall curve" in page


def test_images_of_a_table_are_split_by_their_groups(of_images, pictures):
    run, lines = of_images
    assert run.manifest["task"] == "multi_label"
    assert run.manifest["data"]["group_column"] == "scene"
    assert run.manifest["data"]["examples"]["validation"] % 6 == 0
    assert any("labels 'tags'" in line for line in lines)
    assert "red" in (run.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_that_is_interrupted_is_resumed_to_the_same_weights(of_images, pictures, tmp_path):
    whole, _ = of_images
    options = {"recipe": IMAGES, "formats": [], "group_column": "scene", "image_size": 64, "verbose": 0}

    class Stop(BaseException):
        pass

    def say(line):
        if line.startswith("validation"):
            raise Stop

    with pytest.raises(Stop):
        train(pictures, PRESET_PATH, tmp_path / "run", say=say, **options)
    run = resume(tmp_path / "run", say=lambda line: None, verbose=0)
    for one, other in zip(run.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.decision == whole.decision


@pytest.mark.slow
def test_the_default_preset_decides_for_label_sets_too(table, bert, tmp_path):
    lines = []
    run = train(table, bert, tmp_path / "run", epochs=1, formats=[], verbose=0, say=lines.append, refit=True)
    assert run.manifest["decision"]["evidence"]["log_loss"] > 0
    assert any(line.startswith("decision") for line in lines)
    assert any(line.startswith("refit") for line in lines)


def test_class_weights_are_refused_before_training(table, bert, tmp_path):
    recipe = dataclasses.replace(TEXTS, class_weight="balanced")
    with pytest.raises(RecipeError, match="each label has a threshold of its own"):
        train(table, bert, tmp_path / "run", recipe=recipe, formats=[], verbose=0, say=lambda line: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_focal_loss_and_quantization_aware_epochs_train(pictures, tmp_path):
    recipe = dataclasses.replace(IMAGES, loss="focal", quantization_aware=1)
    lines = []
    options = {"recipe": recipe, "formats": [], "image_size": 64, "verbose": 0}
    run = train(pictures, PRESET_PATH, tmp_path / "run", say=lines.append, **options)
    assert run.manifest["quantization_aware"]["metric"] == TASK.score_title


@pytest.mark.slow
def test_the_audit_finds_labels_that_are_missing(pictures, tmp_path):
    copy = write_images(tmp_path / "wrong", seed=0)
    rows = list(csv.reader((copy / "train.csv").open(encoding="utf-8")))
    index = next(i for i, row in enumerate(rows) if i and "red" in row[1].split(";"))
    rows[index][1] = ";".join(name for name in rows[index][1].split(";") if name != "red")
    with (copy / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    found = audit(copy, backbone=str(PRESET_PATH), image_size=64, verbose=0)
    suspects = [finding.detail for finding in found.of("suspect_label")]
    assert all(": has " in detail or ": lacks " in detail for detail in suspects)
    assert {"red", "green", "blue"} == set(found.counts["train"])


@pytest.mark.slow
def test_a_function_of_the_name_keeps_groups_together_and_is_kept_with_the_run(pictures, tmp_path):
    def scene(name):
        return str(int(name.rpartition("/")[2].removesuffix(".png")) // 6)

    options = {"recipe": IMAGES, "image_size": 64, "verbose": 0}
    run = train(
        pictures,
        PRESET_PATH,
        tmp_path / "run",
        group_by=scene,
        formats=[],
        say=lambda line: None,
        **options,
    )
    assert run.manifest["data"]["examples"]["validation"] % 6 == 0
    assert run.manifest["reproduce"]["command"] is None
    loaded = Run.load(run.path)
    assert json.loads((run.path / "groups.json").read_text(encoding="utf-8"))["pictures/007.png"] == "1"
    # The same validation examples are found again.
    [artifact] = export(loaded, ["onnx"], say=lambda line: None)
    assert artifact.parity.examples == run.manifest["data"]["examples"]["validation"]
    lines = []
    assert verify(Run.load(run.path), say=lines.append).ok, lines
