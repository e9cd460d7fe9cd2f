"""What the command line refuses before TensorFlow and Keras are imported."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from ktransfer.demo import PRESET_PATH
from ktransfer.errors import ExportError
from ktransfer.exporting.formats import ALL_FORMATS, format_names

IMAGES = {"labels": ["mug", "key"], "preprocessing": {}, "recipe": {"stages": []}, "status": "trained"}
MANIFESTS = {
    "images": IMAGES,
    "texts": IMAGES | {"task": "text-classification"},
    "no_model": IMAGES,
    "exported": IMAGES | {"artifacts": [{"format": "onnx", "path": "artifacts/model.onnx"}]},
}

ARGUMENTS = {
    **{"image_size": 32, "exclude": None, "allow_leakage": False, "validation_fraction": 0.2},
}
RECIPE = {
    "stages": [{"depth": 1, "epochs": 2, "learning_rate": 0.1}],
    "seed": 0,
    "loss": "cross_entropy",
    "batch_size": 32,
}
MANIFESTS["begun"] = IMAGES | {
    "recipe": RECIPE | {"augmentation": {"flip": True}},
    "reproduce": {"arguments": ARGUMENTS},
}

LR_FIND = ("lr-find", "DATA", "--backbone", "PRESET")
RANK = ("rank", "DATA", "--backbone", "PRESET", "--backbone", "PRESET@0.5")
SEARCH = ("search", "DATA", "--backbone", "PRESET", "--out", "OUT")
TRAIN = ("train", "DATA", "--backbone", "PRESET", "--out", "OUT")
DISTILL = ("distill", "images", "--backbone", "PRESET", "--out", "OUT")
PRUNE = ("prune", "images", "--out", "OUT")
SHRINK = ("shrink", "images", "--out", "OUT")
# Arguments, and what the line on standard error names. Words in capitals stand for paths.
REFUSED = {
    "a typo in a format": (("export", "images", "--format", "tflit"), "Did you mean tflite"),
    "an alias that is no format": (("export", "images", "--format", "coreml"), "coreml"),
    "half of a format": (("export", "images", "--format", "int8"), "tflite-int8 or onnx-int8"),
    "two formats in one": (("export", "images", "--format", "onnx,tflite"), "--format of its own"),
    "an empty format": (("export", "images", "--format", ""), "a format out of"),
    "a typo in a format to train": ((*TRAIN, "--format", "onx"), "Did you mean onnx"),
    "a batch for each of no devices": ((*TRAIN, "--batch-size-per-device", "8"), "Expected --devices"),
    "another batch than the run's": (
        ("train", "--resume", "--out", "begun", "--batch-size", "64"),
        "--batch-size 32 as at the start",
    ),
    "a format and none": ((*TRAIN, "--format", "onnx", "--no-export"), "--no-export"),
    "an option for another format": (("export", "images", "--format", "onnx", "--allow-flex"), "TFLite"),
    "an option for images": (("export", "texts", "--uint8"), "--uint8"),
    "no temperature": (("export", "images", "--calibrated"), "temperature"),
    "a folder that is no run": (("export", "DATA"), "manifest.json"),
    "a run that is not there": (("evaluate", "nowhere", "DATA"), "manifest.json"),
    "a run without a model": (("predict", "no_model", "DATA"), "model.keras"),
    "a damaged run": (("report", "damaged"), "manifest.json"),
    "nothing to verify": (("verify", "images"), "artifacts"),
    "nothing to measure": (("benchmark", "images"), "artifacts"),
    "no threads": (("benchmark", "exported", "--threads", "0"), "--threads"),
    "no rounds": (("benchmark", "exported", "--rounds", "0"), "--rounds"),
    "threads that are a word": (("benchmark", "exported", "--threads", "many"), "--threads"),
    "no labels": (("predict", "images", "DATA", "--top-k", "0"), "--top-k"),
    "an image that is not there": (("predict", "images", "nowhere.jpg"), "nowhere.jpg"),
    "a folder without images": (("predict", "images", "EMPTY"), "empty folder"),
    "an encoding for images": (("predict", "images", "DATA", "--encoding", "latin-1"), "--encoding"),
    "a typo in an encoding": (("predict", "texts", "words", "--encoding", "uft-8"), "Did you mean utf-8"),
    "an encoding that is none of text": (("evaluate", "texts", "DATA", "--encoding", "base64"), "base64"),
    "data that is not there": (("evaluate", "images", "nowhere"), "does not exist"),
    "data of a report that is not there": (("report", "images", "--data", "nowhere"), "does not exist"),
    "data to audit that is not there": (("audit", "nowhere"), "does not exist"),
    "an exclusion list for no folder": (("audit", "DATA", "--fix"), "--out"),
    "an option of a backbone alone": (("audit", "DATA", "--image-size", "32"), "--backbone"),
    "a path of a backbone": (("audit", "DATA", "--backbone", "no/where"), "no/where"),
    "no run folder": (("train", "DATA", "--backbone", "PRESET"), "--out"),
    "no data": (("train", "--backbone", "PRESET", "--out", "OUT"), "DATA"),
    "no backbone": (("train", "DATA", "--out", "OUT"), "--backbone"),
    "data to train that is not there": (
        ("train", "nowhere", "--backbone", "PRESET", "--out", "OUT"),
        "does not exist",
    ),
    "a preset folder without a preset": (
        ("train", "DATA", "--backbone", "EMPTY", "--out", "OUT"),
        "config.json",
    ),
    "a .keras file that is not there": (
        ("train", "DATA", "--backbone", "a.keras", "--out", "OUT"),
        "does not exist",
    ),
    "a test share of all": ((*TRAIN, "--test-split", "1"), "--test-split"),
    "one backbone to rank": (("rank", "DATA", "--backbone", "PRESET"), "two or more"),
    "nothing to rank": (("rank", "--backbone", "a", "--backbone", "b"), "DATA"),
    "data to rank that is not there": (
        ("rank", "nowhere", "--backbone", "a", "--backbone", "b"),
        "does not exist",
    ),
    "no time for a short run": ((*RANK, "--train-budget", "5s"), "at least"),
    "no duration of a short run": ((*RANK, "--train-budget", "long"), "duration"),
    "an option for texts to rank": ((*RANK, "--sequence-length", "8"), "--sequence-length"),
    "a client to rank for that is none": ((*RANK, "--client", "mediapip"), "Did you mean mediapipe"),
    "a client to search for that is none": ((*SEARCH, "--client", "tasks"), "--client"),
    "a client to find a rate for that is none": ((*LR_FIND, "--client", "tasks"), "--client"),
    "a file to rank into": ((*RANK, "--out", "RECIPE"), "is a file"),
    "nothing to search": (("search", "--backbone", "PRESET", "--out", "OUT"), "DATA"),
    "a search with no backbone": (("search", "DATA", "--out", "OUT"), "--backbone"),
    "a search with no folder": (("search", "DATA", "--backbone", "PRESET"), "--out"),
    "a search into a file": (("search", "DATA", "--backbone", "PRESET", "--out", "RECIPE"), "is a file"),
    "a space that is not there": ((*SEARCH, "--space", "nowhere.json"), "--space"),
    "a space that is a recipe": ((*SEARCH, "--space", "RECIPE"), "stages"),
    "a typo in a sampler": ((*SEARCH, "--sampler", "tpee"), "Did you mean tpe"),
    "a typo in a pruner": ((*SEARCH, "--pruner", "hafling"), "halving"),
    "no trials": ((*SEARCH, "--trials", "0"), "--trials"),
    "a budget below one trial": ((*SEARCH, "--budget", "30s"), "at least"),
    "a budget that is none": ((*SEARCH, "--budget", "soon"), "duration"),
    "a test share of all of a search": ((*SEARCH, "--test-split", "1"), "--test-split"),
    "a format and none of a search": ((*SEARCH, "--format", "onnx", "--no-export"), "--no-export"),
    "an option for texts to search": ((*SEARCH, "--text-column", "a"), "--text-column"),
    "a path of a backbone to search": (
        ("search", "DATA", "--backbone", "no/where", "--out", "OUT"),
        "no/where",
    ),
    "a scaling for a preset": ((*TRAIN, "--scaling", "0..1"), "no scaling for a preset"),
    "a run folder that is used": (("train", "DATA", "--backbone", "PRESET", "--out", "DATA"), "other files"),
    "a share of all": ((*TRAIN, "--validation-split", "1"), "--validation-split"),
    "a share below none": ((*TRAIN, "--validation-split", "-0.1"), "--validation-split"),
    "validation data that is not there": ((*TRAIN, "--validation", "nowhere"), "does not exist"),
    "a list that is not there": ((*TRAIN, "--exclude", "nowhere.txt"), "--exclude"),
    "a recipe that is not there": ((*TRAIN, "--recipe", "nowhere.json"), "--recipe"),
    "a recipe that is a folder": ((*TRAIN, "--recipe", "DATA"), "--recipe"),
    "a recipe with a typo": ((*TRAIN, "--recipe", "RECIPE"), "Did you mean batch_size"),
    "a recipe and epochs": ((*TRAIN, "--recipe", "RECIPE", "--epochs", "3"), "--epochs"),
    "a folder of data sets that is not there": ((*TRAIN, "--data-dir", "nowhere"), "--data-dir"),
    "epochs below none": ((*TRAIN, "--epochs", "-1"), "--epochs"),
    "no pixels": ((*TRAIN, "--image-size", "0"), "--image-size"),
    "a seed below none": ((*TRAIN, "--seed", "-1"), "--seed"),
    "a typo in a loss": ((*TRAIN, "--loss", "focl"), "Did you mean focal"),
    "a typo in a class weight": ((*TRAIN, "--class-weight", "Balance"), "Did you mean balanced"),
    "an option for texts": ((*TRAIN, "--sequence-length", "64"), "--sequence-length"),
    "augmentation of texts": ((*TRAIN, "--text-augmentation", "0.1"), "--text-augmentation"),
    "a share of words above all": ((*TRAIN, "--text-augmentation", "2"), "0 to 1"),
    "to go on and to replace": ((*TRAIN, "--resume", "--overwrite"), "--overwrite"),
    "to go on with nothing": (("train", "--resume", "--out", "OUT"), "manifest.json"),
    "to go on with other epochs": (("train", "--resume", "--out", "BEGUN", "--epochs", "7"), "--epochs"),
    "to go on with another seed": (("train", "--resume", "--out", "BEGUN", "--seed", "7"), "--seed"),
    "to go on with another loss": (("train", "--resume", "--out", "BEGUN", "--loss", "focal"), "--loss"),
    "to go on with another size": (
        ("train", "--resume", "--out", "BEGUN", "--image-size", "64"),
        "--image-size",
    ),
    "to go on with another list": (
        ("train", "--resume", "--out", "BEGUN", "--exclude", "RECIPE"),
        "--exclude",
    ),
    "to go on with other leaks": (("train", "--resume", "--out", "BEGUN", "--allow-leakage"), "--allow"),
    "to go on with another split": (
        ("train", "--resume", "--out", "BEGUN", "--validation-split", "0.3"),
        "--validation-split",
    ),
    "to go on with words swapped": (
        ("train", "--resume", "--out", "BEGUN", "--text-augmentation", "0.1"),
        "--text-augmentation",
    ),
    "a rate without a backbone": (("lr-find", "DATA"), "--backbone"),
    "a rate without data": (("lr-find", "nowhere", "--backbone", "PRESET"), "does not exist"),
    "a rate without a command of its data": (("lr-find",), "DATA"),
    "a rate for a backbone that is not there": (("lr-find", "DATA", "--backbone", "no/where"), "no/where"),
    "a typo in a depth": ((*LR_FIND, "--depth", "al"), "Did you mean all"),
    "a depth below none": ((*LR_FIND, "--depth", "-1"), "--depth"),
    "a depth above all": ((*LR_FIND, "--depth", "1.5"), "--depth"),
    "a depth that is NaN": ((*LR_FIND, "--depth", "nan"), "--depth"),
    "rates that fall": ((*LR_FIND, "--lowest", "1", "--highest", "0.1"), "--lowest"),
    "a rate of none": ((*LR_FIND, "--lowest", "0"), "--lowest"),
    "a learning rate that is NaN": ((*LR_FIND, "--highest", "nan"), "--highest"),
    "too few steps": ((*LR_FIND, "--steps", "3"), "--steps"),
    "no seed of a rate": ((*LR_FIND, "--seed", "-1"), "--seed"),
    "a rate for texts": ((*LR_FIND, "--text-column", "a"), "--text-column"),
    "a rate in a file": ((*LR_FIND, "--out", "RECIPE"), "is a file"),
    "a rate within a file": ((*LR_FIND, "--out", "recipe.json/a"), "is a file"),
    "a list for a rate that is not there": ((*LR_FIND, "--exclude", "nowhere.txt"), "--exclude"),
    **{
        f"a typo in the task of {command[0]}": ((*command, "--task", "regresion"), "Did you mean regression")
        for command in (TRAIN, LR_FIND, RANK, SEARCH, ("audit", "DATA"))
    },
    **{
        f"{what} of {command[0]}": ((*command, *given), named)
        for command in (DISTILL, PRUNE, SHRINK)
        for what, given, named in (
            ("a recipe and epochs", ("--recipe", "RECIPE", "--epochs", "3"), "--epochs"),
            ("a typo in a class weight", ("--class-weight", "Balance"), "Did you mean balanced"),
            ("unlabelled data that is not there", ("--unlabelled", "nowhere"), "--unlabelled"),
            ("a typo in a preset", ("--preset", "bst"), "Did you mean best"),
            ("a typo in a format", ("--format", "onx"), "Did you mean onnx"),
        )
    },
    "a student of nothing": (("distill", "images", "--out", "OUT"), "--backbone or --layers"),
    "two students": ((*DISTILL, "--layers", "2"), "--layers"),
    "threads for no latency": ((*PRUNE, "--threads", "2"), "--latency"),
    "a latency that is a word": ((*SHRINK, "--latency", "soon"), "a latency such as"),
    "a size that is a word": ((*SHRINK, "--size", "small"), "a size such as"),
    "a size of no student": ((*SHRINK, "--image-size", "64"), "--backbone"),
    "no trials of a shrink": ((*SHRINK, "--trials", "0"), "--trials"),
    "a typo in a task": (("backbones", "--task", "txt"), "Did you mean text"),
    "parameters that are a word": (("backbones", "--max-params", "ten"), "10M"),
    "parameters below none": (("backbones", "--max-params", "-3"), "10M"),
    "a typo in an action": (("cache", "cler"), "Did you mean clear"),
    "a demo that is there": (("demo", "--out", "DEMO"), "other files"),
}

SCRIPT = """
import contextlib, io, json, sys
from ktransfer.cli import main

for name in ("tensorflow", "keras", "keras_hub", "sklearn", "onnxruntime"):
    sys.modules[name] = None  # its import is an error

found = []
for arguments in json.load(sys.stdin):
    sys.argv = ["ktransfer", *arguments]
    status, error = 0, io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            main()
        except SystemExit as end:
            status = end.code
        except ImportError as failed:
            status = f"imports {failed.name}"
    found.append([status, error.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """By the names of `REFUSED`: exit status and standard error."""
    folder = tmp_path_factory.mktemp("refused")
    for name, manifest in MANIFESTS.items():
        (folder / name).mkdir()
        facts = {"format": 1, "created": "", "versions": {}}
        (folder / name / "manifest.json").write_text(json.dumps(facts | manifest), encoding="utf-8")
        if name != "no_model":
            (folder / name / "model.keras").write_bytes(b"")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "manifest.json").write_text("{", encoding="utf-8")
    for label in ("mug", "key"):
        (folder / "data" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "data" / label / "a.png")
    (folder / "empty").mkdir()
    (folder / "demo" / "random" / "old").mkdir(parents=True)
    (folder / "recipe.json").write_text('{"stages": [], "batch_sise": 8}', encoding="utf-8")
    places = {
        **{
            "DATA": "data",
            "EMPTY": "empty",
            "OUT": "out",
            "DEMO": "demo",
            "RECIPE": "recipe.json",
            "BEGUN": "begun",
        },
        "PRESET": str(PRESET_PATH),
    }
    given = [[places.get(word, word) for word in arguments] for arguments, _ in REFUSED.values()]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(given),
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert not (folder / "out").exists()
    return dict(zip(REFUSED, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_before_heavy_imports(refusals, what):
    status, error = refusals[what]
    assert status == 2, error
    assert REFUSED[what][1] in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_case_and_separators_of_a_format_do_not_count(name):
    spellings = {name, name.upper(), name.title(), name.replace("-", "_"), name.replace("-", " ")}
    assert format_names(sorted(spellings | {name.replace("-", ""), f" {name} "})) == (name,)


def test_formats_keep_their_order_and_come_once():
    assert format_names(["ONNX", "SavedModel", "onnx", "TFLite_int8"]) == (
        "onnx",
        "savedmodel",
        "tflite-int8",
    )
    assert format_names("onnx") == ("onnx",)


@pytest.mark.parametrize(
    ("given", "suggested"),
    [("tflite-in8", "tflite-int8"), ("onnx-fp16", "onnx-float16"), ("saved", "savedmodel"), ("nnx", "onnx")],
)
def test_a_near_miss_of_a_format_is_suggested(given, suggested):
    with pytest.raises(ExportError, match=rf"Did you mean [^?]*{suggested}"):
        format_names([given])
