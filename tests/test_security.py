"""What SECURITY.md promises, one by one; damaged files of every kind are in test_fuzz_loaders.py."""

import ast
import importlib.util
import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import advisories
import keras
import numpy as np
import onnx
import pytest
from PIL import Image

from ktransfer.best_weights import BestWeights
from ktransfer.cli import _fail
from ktransfer.data import tfds_source
from ktransfer.data.examples import Examples, printable
from ktransfer.data.images import Resize, load_image
from ktransfer.data.text_tables import read_table
from ktransfer.errors import DataError, ExportError, RecipeError, RunError
from ktransfer.exporters.messages import receive, send
from ktransfer.exporters.runtimes import open_artefact
from ktransfer.feature_store import FeatureStore
from ktransfer.files import write_text
from ktransfer.jobs.artefacts import artefacts
from ktransfer.keras_files import check_config, check_preset, load_keras_file
from ktransfer.preprocessing import Preprocessing
from ktransfer.recipe import Recipe, Stage
from ktransfer.run import Run
from ktransfer.terminal import shortened
from ktransfer.text_preprocessing import TextPreprocessing
from ktransfer.untrusted import inside, is_line, parse_json, read_bytes, require_contained, visible

ROOT = Path(__file__).resolve().parents[1]
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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_data_is_made_code_of(path):
    assert forbidden(path.read_text(encoding="utf-8")) == []


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


# JSON.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100 + "]" * 100, "64 levels"),
        ("[" * 100_000, "levels"),
        (b'"\xff"', "utf-8"),
        ("1" * 5_000, "digits"),
    ],
)
def test_json_that_two_readers_may_understand_differently_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_a_recipe_nested_without_end_is_a_recipe_error():
    with pytest.raises(RecipeError, match="levels"):
        Recipe.from_json("[" * 100_000)


def test_no_more_of_a_file_is_read_than_may_be_and_of_a_pipe_nothing(tmp_path):
    (tmp_path / "long").write_bytes(b"x" * 11)
    assert read_bytes(tmp_path / "long", most=11) == b"x" * 11
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_bytes(tmp_path / "long", most=10)
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"):
            read_bytes(endless)


# Paths.


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\\..\\x", "a\0b", 3, "out/x"]
)
def test_a_path_out_of_its_folder_is_refused(tmp_path, path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"out of the folder|no path"):
        inside(tmp_path / "run", path)
    assert inside(tmp_path / "run", "a/b") == tmp_path / "run" / "a" / "b"


def test_a_link_that_leads_out_and_a_pipe_are_found(tmp_path):
    folder = tmp_path / "run"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "back").symlink_to(folder / "a")
    require_contained(folder)
    (folder / "a" / "history.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(ValueError, match=r"'a/history.csv' is a link"):
        require_contained(folder)
    (folder / "a" / "history.csv").unlink()
    os.mkfifo(folder / "a" / "history.csv")
    with pytest.raises(ValueError, match=r"'a/history.csv' is no file"):
        require_contained(folder)


def test_a_link_in_the_place_of_a_partial_file_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("untouched")
    (tmp_path / ".manifest.partial.json").symlink_to(tmp_path / "precious")
    write_text(tmp_path / "manifest.json", "{}")
    assert (tmp_path / "precious").read_text() == "untouched"
    assert (tmp_path / "manifest.json").read_text() == "{}"


# Terminals.


def test_nothing_that_a_terminal_obeys_is_printed(capsys):
    assert visible("a\x1b]0;x\x07\u202eb\ud800\u2028c") == "a\\x1b]0;x\\x07\\u202eb\\ud800\\u2028c"
    assert printable("a\x1b[2J.jpg") == "a\\x1b[2J.jpg"
    assert shortened("Free \x1b[31mentry") == "Free \\x1b[31mentry"
    with pytest.raises(SystemExit):
        _fail("no \x1b[2J")
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "label", ["", "a\nb", "\x1b[2J", "\x9b2J", "\ud800", "\u202erose", "a\u2028b", 3, None]
)
def test_a_label_is_one_line_of_text(label):
    assert not is_line(label)


def test_labels_in_any_script_are_labels():
    assert all(map(is_line, ["œillet", "バラ", "ورد", "👩‍🌾", "می‌خک", "a b"]))


def test_a_class_named_by_an_escape_sequence_is_refused():
    with pytest.raises(DataError, match="control characters"):
        Examples(("a.jpg",), np.array([0]), ("\x1b[2J",))


def test_a_hundred_thousand_classes_take_no_time():
    names = tuple(map(str, range(100_000)))
    assert Examples(("a.jpg",), np.array([0]), names).class_names[-1] == "99999"


# Runs.


@pytest.fixture
def manifest():
    return {
        "format": 1,
        "status": "trained",
        "labels": ["daisy", "rose"],
        "preprocessing": Preprocessing(Resize(8, 8), 1.0, 0.0).to_dict(),
        "recipe": json.loads(Recipe(stages=[Stage(depth=1, epochs=1, learning_rate=1e-3)]).to_json()),
    }


@pytest.fixture
def run_of(tmp_path, manifest):
    folder = tmp_path / "run"
    folder.mkdir()

    def write(**changes):
        (folder / "manifest.json").write_text(json.dumps(manifest | changes))
        return folder

    return write


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": "rose"}, "labels as list"),
        ({"labels": []}, "each once"),
        ({"labels": ["rose", "rose"]}, "each once"),
        ({"labels": ["rose", "\x1b[2J"]}, "control characters"),
        ({"labels": ["rose", 3]}, "labels of one line"),
        ({"recipe": []}, "recipe as dict"),
        ({"task": "shell"}, "a task of"),
        ({"data": "x"}, "data as dict"),
    ],
)
def test_a_manifest_of_other_types_is_a_run_error(run_of, changes, expected):
    with pytest.raises(RunError, match=expected):
        Run.load(run_of(**changes))


def test_a_run_with_a_way_out_is_not_loaded(run_of, tmp_path):
    folder = run_of()
    Run.load(folder)
    (folder / "history.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"'history.csv' is a link that leads out"):
        Run.load(folder)


@pytest.mark.parametrize("size", [1_000_000, 8.5, True, "8"])
def test_a_picture_of_any_size_is_not_made_for_a_manifest(run_of, manifest, size):
    run = Run.load(run_of(preprocessing=manifest["preprocessing"] | {"height": size}))
    with pytest.raises(RunError, match="How images are read"):
        run.preprocessing  # noqa: B018


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "artefacts/../../secret"])
def test_an_artefact_outside_of_its_run_is_not_opened(run_of, path):
    tensor = {"name": "image", "shape": [1], "dtype": "float32"}
    entry = {"format": "onnx", "path": path, "sha256": "9f", "size_bytes": 1, "batch": 1}
    entry |= {"signature": {"inputs": [tensor], "output": tensor}}
    parity = {"max_abs_delta": 0, "mean_abs_delta": 0, "max_logit_delta": 0, "logit_scale": 1}
    parity |= {"label_agreement": 1, "examples": 1, "batch_sizes": [1]}
    parity |= {"wrong_input_delta": 1, "wrong_input_delta_of_model": 1}
    with pytest.raises(RunError, match=r"leads out of the folder"):
        artefacts(Run.load(run_of(artefacts=[entry | {"parity": parity}])))
    inner = entry | {"parity": parity, "path": "artefacts/model.onnx"}
    assert artefacts(Run.load(run_of(artefacts=[inner])))[0].path == inner["path"]


# Artefacts.


def test_labels_in_an_onnx_file_are_labels(tmp_path):
    tensor = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [tensor], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for labels in ('["a", "\\u001b[2J"]', '{"a": 1}', "3"):
        onnx.helper.set_model_props(model, {"labels": labels})
        onnx.save(model, tmp_path / "model.onnx")
        with pytest.raises(ExportError, match="Labels of one line"):
            open_artefact("onnx", tmp_path / "model.onnx")
    onnx.helper.set_model_props(model, {"labels": '["a", "b"]'})
    onnx.save(model, tmp_path / "model.onnx")
    assert open_artefact("onnx", tmp_path / "model.onnx").labels == ["a", "b"]


def test_labels_in_a_tflite_file_are_not_unpacked_without_end(tmp_path, monkeypatch):
    tensor = {"shape_signature": np.array([1, 2]), "dtype": np.float32}
    signature = SimpleNamespace(get_input_details=lambda: {}, get_output_details=lambda: {"y": tensor})
    interpreter = SimpleNamespace(get_signature_runner=lambda: signature)
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", lambda *_, **__: interpreter)
    for content, labels in ((b"a\nb\n", ["a", "b"]), (b"a" * 2**25, None), (b"a\n\x1b[2J\n", None)):
        with zipfile.ZipFile(tmp_path / "m.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.txt", content)
        if labels:
            assert open_artefact("tflite", tmp_path / "m.tflite").labels == labels
            continue
        with pytest.raises(ExportError, match="Labels of"):
            open_artefact("tflite", tmp_path / "m.tflite")


# Models.


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    keras.Model(model.inputs, model.outputs).save(path)
    with zipfile.ZipFile(path) as found:
        return {name: found.read(name) for name in found.namelist()}


def written(folder, parts, compression=zipfile.ZIP_STORED):
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return path


def with_layer(archive, layer):
    config = json.loads(archive["config.json"])
    last = config["config"]["layers"][-1]
    config["config"]["layers"][-1] = {**last, **layer, "registered_name": None}
    return archive | {"config.json": json.dumps(config)}


def lambda_of(module, name):
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    inner = {"name": "dense", "function": function, "output_shape": [2], "arguments": {"path": "x"}}
    return {"module": "keras.layers", "class_name": "Lambda", "config": inner}


def test_a_plain_model_is_loaded(archive, tmp_path):
    assert load_keras_file(written(tmp_path, archive)).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.datasets.mnist", "load_data"),  # these two Keras' safe mode lets pass
        ("keras.utils", "plot_model"),
        ("keras.utils", "get_file"),
        ("os", "system"),
        ("builtins2", "eval"),
    ],
)
def test_a_function_that_no_model_is_made_of_is_refused(archive, tmp_path, module, name):
    with pytest.raises(ValueError, match=rf"'function {name}' of '{module}'"):
        load_keras_file(written(tmp_path, with_layer(archive, lambda_of(module, name))))


@pytest.mark.parametrize(
    "node",
    [
        {"class_name": "__lambda__", "config": {"value": "x"}},
        {"class_name": "__typespec__", "config": []},
        {"class_name": "Popen", "module": "subprocess", "config": {}},
        {"class_name": "Dense", "config": {"units": 2}},
        {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
        {"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}},
        {"class_name": "load_model", "module": "keras.saving", "config": {}},
        {"deep": [{"down": {"class_name": "system", "module": "os", "config": {}}}]},
    ],
)
def test_an_object_that_no_model_is_made_of_is_refused(node):
    with pytest.raises(ValueError, match=r"no model is made of|an object of class|a path as vocabulary"):
        check_config(node)


def test_a_preset_is_looked_through_before_it_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"class_name": "system", "module": "os", "config": {}}')
    with pytest.raises(ValueError, match="no model is made of"):
        check_preset(tmp_path)


@pytest.mark.parametrize("list_name", ["model.weights.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("weights", ["../other.weights.h5", "/etc/passwd", 3, ["a.h5", "b/c.h5"]])
def test_weights_of_a_preset_lie_in_it(tmp_path, list_name, weights):
    (tmp_path / list_name).write_text(json.dumps({"weight_map": {"/a": weights}}))
    with pytest.raises(ValueError, match="no file of the preset"):
        check_preset(tmp_path)
    (tmp_path / list_name).write_text(json.dumps({"weight_map": {"/a": ["a.h5"], "/b": "b.h5"}}))
    check_preset(tmp_path)


@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "assets/../../escaped", "assets\\..\\x", "run.py"]
)
def test_a_model_file_with_anything_else_in_it_is_refused(archive, tmp_path, name):
    with pytest.raises(ValueError, match="in it"):
        load_keras_file(written(tmp_path, archive | {name: b"x"}))
    assert [path.name for path in tmp_path.parent.rglob("escaped")] == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_model_file_with_two_configurations_is_refused(archive, tmp_path):
    path = written(tmp_path, archive)
    with zipfile.ZipFile(path, "a") as made:
        made.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="twice"):
        load_keras_file(path)


def test_a_model_file_that_unpacks_to_a_thousand_times_its_size_is_refused(archive, tmp_path):
    bomb = archive | {"model.weights.h5": b"\0" * 2**25}
    with pytest.raises(ValueError, match=r"bytes in a file of"):
        load_keras_file(written(tmp_path, bomb, zipfile.ZIP_DEFLATED))


def test_a_run_with_a_model_of_other_labels_is_refused(run_of, archive):
    folder = run_of(labels=["a", "b", "c"])
    written(folder, archive)
    with pytest.raises(RunError, match="classifier of the 3 labels"):
        Run.load(folder).model  # noqa: B018


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
    monkeypatch.setattr("ktransfer.data.text_tables._MOST_UNPACKED", 10_000)
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
def test_the_runners_open_no_artefact_outside_and_make_no_square_of_a_thread(name, tmp_path):
    runner = of_kit(name)
    run, entry = tmp_path / "run", {"format": name, "path": "../secret"}
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"artefacts": [entry]}))
    with pytest.raises(SystemExit, match="outside of the run"):
        runner.find_artefact(run, name)
    (run / "manifest.json").write_text(json.dumps({"artefacts": [entry | {"path": "artefacts/m"}]}))
    assert runner.find_artefact(run, name)[0] == run / "artefacts" / "m"
    with pytest.raises(SystemExit, match="too long and narrow"):
        runner.read_image(thread(tmp_path / "thread.png"), **PADDED)


def test_the_server_makes_no_square_of_a_thread_and_serves_no_artefact_outside(kit, tmp_path):
    images, errors, model = (kit(f"onnx_server.{name}") for name in ("images", "errors", "model"))
    read = images.ImageReader(PADDED, "float32", max_pixels=40e6)
    with pytest.raises(errors.Refused, match="with its bars"):
        read(thread(tmp_path / "thread.png").read_bytes())
    entry = {"format": "onnx", "path": "../secret", "sha256": "9f", "batch": 1}
    (tmp_path / "secret").write_bytes(b"x")
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"artefacts": [entry]}))
    with pytest.raises(errors.StartError, match="artefact in the run"):
        model.Model(run)


# Messages between processes.


def test_a_message_comes_as_it_was_sent():
    stream = io.BytesIO()
    texts = np.array([b"x", "caf\u00e9"], object)
    send(
        stream,
        (["a", None, True, 2.5], {"image": np.arange(6.0).reshape(2, 3), "text": texts}, Path("/x"), b"\0"),
    )
    stream.seek(0)
    listed, arrays, path, content = receive(stream)
    assert (listed, path, content) == (["a", None, True, 2.5], Path("/x"), b"\0")
    np.testing.assert_array_equal(arrays["image"], np.arange(6.0).reshape(2, 3))
    assert arrays["text"].tolist() == texts.tolist()


def test_a_message_is_data_and_one_cut_off_is_none():
    with pytest.raises(TypeError, match="A message of data"):
        send(io.BytesIO(), print)
    stream = io.BytesIO()
    send(stream, [1, 2])
    with pytest.raises(EOFError):
        receive(io.BytesIO(stream.getvalue()[:-1]))
    with pytest.raises(ValueError, match="no message"):
        receive(io.BytesIO(struct.pack("<Q", 4) + b"abcd"))


# Dependencies.

LOCKED = "a==1 \\\n    --hash=sha256:00\n# via\nb==2 ; python_version < '3'\nc==3 ; python_version > '3'\n"


def row(name, version, *vulns):
    return {"name": name, "version": version, "vulns": list(vulns)}


def test_a_lock_is_spoken_against_by_what_is_known_of_its_packages():
    known = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}
    good = {"dependencies": [row("a", "1"), row("c", "3")]}
    assert advisories.problems(LOCKED, good) == []
    bad = {"dependencies": [row("a", "1", known), row("c", "2")]}
    assert advisories.problems(LOCKED, bad) == ["a 1: PYSEC-1, mended in 1.1", "c 3 is not in the snapshot"]
    assert advisories.problems(LOCKED, bad, {"CVE-1": "not used"}) == ["c 3 is not in the snapshot"]
    skipped = {"dependencies": [row("a", "1"), {"name": "c", "skip_reason": "not found"}]}
    assert advisories.problems(LOCKED, skipped) == ["c 3 could not be looked up"]


def test_nothing_is_known_against_what_is_locked():
    if not advisories.SNAPSHOT.exists():
        pytest.skip(
            "no snapshot of advisories: `make advisories` writes one where a source of them is reached"
        )
    lock = advisories.LOCK.read_text(encoding="utf-8")
    assert advisories.problems(lock, json.loads(advisories.SNAPSHOT.read_text(encoding="utf-8"))) == []
