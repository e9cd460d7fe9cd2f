"""Keras files of anybody's."""

import json
import zipfile

import keras
import pytest

from ktransfer.security.keras_archive import check_config, check_preset, load_keras_file


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
