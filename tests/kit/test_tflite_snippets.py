"""The phones' snippets: Kotlin's compiled, and run on stubs of Android and LiteRT; of Swift's, which is not,
the steps of reading the file, one by one."""

import json
import runpy
import struct
import subprocess
import zipfile

import numpy as np
import pytest
from exporting import CLASSES, KIT, SIZE, multi_label_model, pixels, small_model
from images import draw
from kotlin_code import kotlin_jar

from ktransfer.core.task import get_task
from ktransfer.exporting.export_model import export_model

PREPROCESSING = {
    "height": SIZE,
    "width": SIZE,
    "mode": "crop",
    "interpolation": "bilinear",
    "antialias": True,
}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder, facts = tmp_path_factory.mktemp("run"), {"preprocessing": PREPROCESSING}
    given = {"class_names": CLASSES, "examples": pixels(2), "extra": facts}
    return folder / export_model(small_model(), folder / "artifacts", "tflite", **given).path


def test_the_files_on_the_end_of_a_model_are_where_the_swift_snippet_looks_for_them(artifact, tmp_path):
    found = zipped_files(artifact.read_bytes())
    with zipfile.ZipFile(artifact) as archive:
        assert found == {name: archive.read(name) for name in archive.namelist()}
    assert found["labels.txt"].decode().split("\n") == [*CLASSES, ""]
    assert json.loads(found["extra.json"]) == {"preprocessing": PREPROCESSING, "task": "single_label"}
    commented = with_files(tmp_path / "commented.tflite", artifact, labels_txt="one\n")
    assert zipped_files(commented.read_bytes()) == {"labels.txt": b"one\n"}


def zipped_files(model):
    """`zippedFiles` of Classifier.swift, a line for a line."""

    def short(at):
        return model[at] | model[at + 1] << 8

    def long(at):
        return short(at) | short(at + 2) << 16

    last = len(model) - 22
    candidates = range(last, max(0, last - 0xFFFF) - 1, -1)
    end = next(at for at in candidates if long(at) == 0x06054B50 and at + short(at + 20) == last)
    files, entry = {}, long(end + 16)
    for _ in range(short(end + 10)):
        assert (long(entry), short(entry + 10)) == (0x02014B50, 0)
        name = model[entry + 46 : entry + 46 + short(entry + 28)].decode()
        header = long(entry + 42)
        start = header + 30 + short(header + 26) + short(header + 28)
        files[name] = model[start : start + long(entry + 24)]
        entry += 46 + short(entry + 28) + short(entry + 30) + short(entry + 32)
    return files


@pytest.fixture(scope="module")
def kotlin(tmp_path_factory):
    """A function from an image and models to what `Classifier.kt` answers, and to the pixels it made."""
    jar, folder = kotlin_jar(), tmp_path_factory.mktemp("kotlin")

    def run(image, *models, dtype="FLOAT32", shape=(SIZE, SIZE, 3)):
        given = folder / "input"
        given.unlink(missing_ok=True)
        options = {"dtype": dtype, "elements": int(np.prod(shape)), "input": given}
        options |= {"file.encoding": "UTF-8", "stdout.encoding": "UTF-8"}  # before and from Java 19
        command = ["java", *(f"-D{name}={value}" for name, value in options.items())]
        command += ["-cp", jar, "MainKt", image, *models]
        answers = subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8"
        ).stdout.splitlines()
        seen = np.frombuffer(given.read_bytes(), dtype=dtype.lower()).reshape(len(models), *shape)
        return answers, seen

    return run


def with_files(path, model, **files):
    """Write the model with these files zipped onto it, and a comment that looks like an end of the zip."""
    with zipfile.ZipFile(model) as archive:
        size = min(entry.header_offset for entry in archive.infolist())
    path.write_bytes(model.read_bytes()[:size])
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
        archive.comment = struct.pack("<I", 0x06054B50) + bytes(30)
    return path


def test_kotlin_reads_the_labels_and_answers_the_most_probable_first(kotlin, artifact, tmp_path):
    image = draw(tmp_path / "image.png", size=(50, 40))
    (answer,), (seen,) = kotlin(image, artifact)
    assert answer == "sun flower=0.3|rose=0.2?|daisy=0.1?"
    (answer,), (as_bytes,) = kotlin(image, artifact, dtype="UINT8")
    np.testing.assert_array_equal(as_bytes, seen)
    assert as_bytes.max() > 127  # beyond Kotlin's signed bytes


def test_kotlin_chooses_what_the_task_decides_on(kotlin, artifact, tmp_path):
    """Of the stand-in's probabilities 0.1, 0.2 and 0.3, as float32."""
    image, task = draw(tmp_path / "image.png", size=(50, 40)), get_task("multi_label")
    probabilities, models, expected = np.float32([0.1, 0.2, 0.3]), [], []
    # float32 rounds all three up, so each reaches its own decimal fraction.
    for thresholds in ([0.1, 0.2, 0.3], [0.1, 0.9, 0.31], [0.5, 0.5, 0.5], [0.11, 0.19, 0.4]):
        facts = {"preprocessing": PREPROCESSING, "task": "multi_label", "thresholds": thresholds}
        path = tmp_path / f"{len(models)}.tflite"
        labels = "".join(f"{label}\n" for label in CLASSES)
        models.append(with_files(path, artifact, labels_txt=labels, extra_json=json.dumps(facts)))
        answers = task.answers(probabilities, CLASSES, {"thresholds": thresholds}, top_k=3)
        marks = [(each["label"], each["probability"], "" if each["chosen"] else "?") for each in answers]
        expected.append("|".join(f"{label}={value:.1f}{mark}" for label, value, mark in marks))
    answers, _ = kotlin(image, *models)
    assert answers == expected
    assert expected[1] == "daisy=0.1|sun flower=0.3?|rose=0.2?"
    assert expected[2] == "sun flower=0.3?|rose=0.2?|daisy=0.1?"


def test_kotlin_reads_the_thresholds_that_export_writes(kotlin, tmp_path):
    facts = {"preprocessing": PREPROCESSING}
    given = {"class_names": CLASSES, "examples": pixels(2), "extra": facts, "task": "multi_label"}
    given |= {"decision": {"thresholds": [0.05, 0.25, 0.25]}}
    path = tmp_path / export_model(multi_label_model(), tmp_path / "artifacts", "tflite", **given).path
    (answer,), _ = kotlin(draw(tmp_path / "image.png", size=(50, 40)), path)
    assert answer == "sun flower=0.3|daisy=0.1|rose=0.2?"


@pytest.mark.parametrize("size", [(101, 50), (45, 80), (9, 7)])
def test_kotlin_sees_the_pixels_that_training_saw(kotlin, artifact, size, tmp_path):
    read_image = runpy.run_path(str(KIT / "tflite" / "predict.py"))["read_image"]
    image, models, expected = draw(tmp_path / "image.png", size=size), [], []
    for mode in ("crop", "pad", "stretch"):
        readings = [("bilinear", True), ("bilinear", False), ("bicubic", True)]
        for interpolation, antialias in [*readings, *[("mediapipe", False)] * (mode == "stretch")]:
            preprocessing = {
                "height": 32,
                "width": 24,
                "mode": mode,
                "interpolation": interpolation,
                "antialias": antialias,
            }
            facts = json.dumps({"preprocessing": preprocessing})  # no task, as in earlier versions
            path = tmp_path / f"{len(models)}.tflite"
            models.append(with_files(path, artifact, labels_txt="räv\n", extra_json=facts))
            expected.append(read_image(image, **preprocessing))
    answers, seen = kotlin(image, *models, shape=(32, 24, 3))
    assert answers == ["räv=0.1"] * len(models)
    np.testing.assert_allclose(seen, expected, atol=1)
    np.testing.assert_array_equal(seen[-1], expected[-1])  # mediapipe's
