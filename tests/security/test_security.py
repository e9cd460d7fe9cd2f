"""What SECURITY.md promises, one by one; damaged files of every kind are in test_fuzz_loaders.py."""

import ast
import importlib.util
import json
import struct
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from PIL import Image

from ktransfer.data import tfds as tfds_source
from ktransfer.data.tables.table import read_table
from ktransfer.errors import DataError, ExportError, RunError
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.features.store import FeatureStore
from ktransfer.image.decoding import Resize, load_image
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.training.best_weights import BestWeights

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("ktransfer", "export", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
]
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "torch",
    "yaml",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def forbidden(source):
    """What in a module can make code of data: imports, calls, and options that allow it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if name in FORBIDDEN_CALLS or options.get("shell", "False") != "False":
            found.append(name)
        if options.get("allow_pickle", "False") != "False":
            found.append(f"{name}(allow_pickle)")
        loads = name.endswith(("models.load_model", "saving.load_model"))
        if loads and options.get("safe_mode") != "True":
            found.append(f"{name} without safe_mode=True")
        if name.endswith(("enable_unsafe_deserialization", "unpack_archive", ".extractall")):
            found.append(name)
    return found


# They read safetensors alone, and say so to transformers; what PyTorch pickles is never read.
ALLOWED = {f"ktransfer/exporting/{name}/runtime.py": ["torch"] for name in ("hf", "hf_peft")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_data_is_made_code_of(path):
    source = path.read_text(encoding="utf-8")
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), [])
    assert forbidden(source) == allowed
    if "torch" in allowed:
        assert "use_safetensors=True" in source
        assert "torch.load" not in source


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "eval('1')",
        "np.load(path, allow_pickle=True)",
        "keras.models.load_model(path)",
        "keras.saving.load_model(path, safe_mode=False)",
        "subprocess.run(command, shell=True)",
        "shutil.unpack_archive(path)",
    ],
)
def test_the_check_for_that_sees_it(source):
    assert len(forbidden(source)) == 1


# Artifacts.


def test_labels_in_an_onnx_file_are_labels(tmp_path):
    tensor = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [tensor], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for labels in ('["a", "\\u001b[2J"]', '{"a": 1}', "3"):
        onnx.helper.set_model_props(model, {"labels": labels})
        onnx.save(model, tmp_path / "model.onnx")
        with pytest.raises(ExportError, match="labels of one line"):
            open_artifact("onnx", tmp_path / "model.onnx")
    onnx.helper.set_model_props(model, {"labels": '["a", "b"]'})
    onnx.save(model, tmp_path / "model.onnx")
    assert open_artifact("onnx", tmp_path / "model.onnx").labels == ["a", "b"]


def test_labels_in_a_tflite_file_are_not_unpacked_without_end(tmp_path, monkeypatch):
    tensor = {"shape_signature": np.array([1, 2]), "dtype": np.float32}
    signature = SimpleNamespace(get_input_details=lambda: {}, get_output_details=lambda: {"y": tensor})
    interpreter = SimpleNamespace(get_signature_runner=lambda: signature)
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", lambda *_, **__: interpreter)
    monkeypatch.setattr(
        "ktransfer.exporting.tflite.flex.flex_ops", lambda path: ()
    )  # there is no model in it
    for content, labels in ((b"a\nb\n", ["a", "b"]), (b"a" * 2**25, None), (b"a\n\x1b[2J\n", None)):
        with zipfile.ZipFile(tmp_path / "m.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.txt", content)
        if labels:
            assert open_artifact("tflite", tmp_path / "m.tflite").labels == labels
            continue
        with pytest.raises(ExportError, match="labels of"):
            open_artifact("tflite", tmp_path / "m.tflite")


# Tokenizers.


@pytest.mark.parametrize(
    "settings",
    [
        {"vocabulary": "/etc/passwd"},
        {"proto": "/etc/passwd"},
        {"sequence_length": 2**40},
    ],
)
def test_a_tokenizer_reads_nothing_that_its_settings_name(tmp_path, settings):
    values = {"tokenizer": "BertTokenizer", "settings": settings, "sequence_length": 8, "longest": None}
    values |= {"inputs": ["token_ids"], "fixed_length": False}
    (tmp_path / "text_preprocessing.json").write_text(json.dumps(values))
    (tmp_path / "vocabulary.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na")
    with pytest.raises(RunError, match="in the settings"):
        TextPreprocessing.load(tmp_path)
    (tmp_path / "text_preprocessing.json").write_text(json.dumps(values | {"settings": {}}))
    assert TextPreprocessing.load(tmp_path)(["a"])["token_ids"].tolist() == [[2, 5, 3, 0, 0, 0, 0, 0]]


# Data.


def test_a_thread_of_pixels_is_not_made_a_square(tmp_path):
    """A PNG of 60,000 x 1 pixels in a few hundred bytes; with bars it would take 10 GB."""
    load = thread(tmp_path / "thread.png")
    with pytest.raises(DataError, match="60000 x 1"):
        load_image(load, Resize(8, 8, mode="pad"))
    assert load_image(load, Resize(8, 8)).shape == (8, 8, 3)


def thread(path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 1, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 60_001, 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(png)
    return path


def test_a_parquet_file_that_unpacks_to_any_size_is_not_unpacked(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"text": ["a" * 1_000] * 10_000, "label": ["x", "y"] * 5_000}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    monkeypatch.setattr("ktransfer.data.tables.table_files._MOST_UNPACKED", 10_000)
    with pytest.raises(DataError, match="unpacked"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("encoding", ["punycode", "zlib_codec", "idna", "a\0b"])
def test_an_encoding_of_something_else_than_text_is_a_data_error(tmp_path, encoding):
    """A manifest names one, which `resume` and `evaluate` read the data by."""
    (tmp_path / "a.csv").write_bytes(b"\xff\xff,label\na,spam\nsee \x80,ham\n")
    with pytest.raises(DataError, match=r"Expected (an encoding of text|PUNYCODE|IDNA)"):
        read_table(tmp_path / "a.csv", encoding=encoding)


def test_weights_with_objects_in_them_are_refused(tmp_path):
    np.savez(tmp_path / "best.npz", value=np.array([{"a": 1}], object), waited=0, origin="x")
    with pytest.raises(RunError, match="allow_pickle=False"):
        BestWeights(rising=True, path=tmp_path / "best.npz")


@pytest.mark.parametrize("dtype", ["object", "O", "|V0", "float32,float32"])
def test_features_of_another_kind_are_not_read(tmp_path, dtype):
    store = FeatureStore(tmp_path)
    store.write("key", (2, 2), "float32", [np.ones((2, 2), "float32")], {})
    meta = json.loads((tmp_path / "key" / "meta.json").read_text())
    (tmp_path / "key" / "meta.json").write_text(json.dumps(meta | {"dtype": dtype}))
    assert store.open("key") is None


def test_a_tfds_data_set_is_not_laid_out_outside_of_the_cache(tmp_path, monkeypatch):
    class OfImage:
        np_dtype = np.dtype("uint8")

    class OfLabel:
        names = ("a", "b")

    features = {"image": OfImage(), "label": OfLabel()}
    info = SimpleNamespace(
        supervised_keys=None, features=features, full_name="../../../evil/1.0.0", splits={}
    )
    tfds = SimpleNamespace(
        features=SimpleNamespace(Image=OfImage, ClassLabel=OfLabel),
        builder_from_directory=lambda _: SimpleNamespace(info=info),
    )
    for name in ("dataset_info.json", "features.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(tfds_source, "import_tfds", lambda spec: tfds)
    monkeypatch.setattr(tfds_source, "find_prepared", lambda spec, data_dir: tmp_path)
    with pytest.raises(DataError, match="leads out of the folder"):
        tfds_source.read_tfds("x", cache_dir=tmp_path / "cache")


# The deployment kit.


@pytest.fixture
def kit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the server unsets it
    return importlib.import_module


def of_kit(name):
    spec = importlib.util.spec_from_file_location(f"{name}_predict", ROOT / "export" / name / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PADDED = {"height": 8, "width": 8, "mode": "pad", "interpolation": "bilinear", "antialias": True}


@pytest.mark.parametrize("name", ["onnx", "tflite", "savedmodel"])
def test_the_runners_open_no_artifact_outside_and_make_no_square_of_a_thread(name, tmp_path):
    runner = of_kit(name)
    run, entry = tmp_path / "run", {"format": name, "path": "../secret"}
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"artifacts": [entry]}))
    with pytest.raises(SystemExit, match="outside of the run"):
        runner.find_artifact(run, name)
    (run / "manifest.json").write_text(json.dumps({"artifacts": [entry | {"path": "artifacts/m"}]}))
    assert runner.find_artifact(run, name)[0] == run / "artifacts" / "m"
    with pytest.raises(SystemExit, match="too long and narrow"):
        runner.read_image(thread(tmp_path / "thread.png"), **PADDED)


def test_the_server_makes_no_square_of_a_thread_and_serves_no_artifact_outside(kit, tmp_path):
    images, errors, model = (kit(f"onnx_server.{name}") for name in ("images", "errors", "model"))
    read = images.ImageReader(PADDED, "float32", max_pixels=40e6)
    with pytest.raises(errors.Refused, match="with its bars"):
        read(thread(tmp_path / "thread.png").read_bytes())
    entry = {"format": "onnx", "path": "../secret", "sha256": "9f", "batch": 1}
    (tmp_path / "secret").write_bytes(b"x")
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"artifacts": [entry]}))
    with pytest.raises(errors.StartError, match="artifact in the run"):
        model.Model(run)
