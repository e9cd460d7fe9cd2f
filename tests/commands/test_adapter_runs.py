"""Runs with adapters, exported with these apart from the backbone."""

import dataclasses
import shutil

import numpy as np
import pytest
from onnx_server.adapters import AdapterModel, Backbone
from test_text_commands import RECIPE, write_table
from text_zoo import write_preset

from ktransfer.commands.export import export
from ktransfer.commands.train import train
from ktransfer.errors import ExportError, RecipeError, RunError
from ktransfer.recipes.adapter import LoRA

ADAPTED = dataclasses.replace(RECIPE, adapter=LoRA(rank=2))
QUIET = {"verbose": 0, "say": lambda line: None}
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"), hidden_dim=32, intermediate_dim=64)[1]


def test_a_format_with_adapters_apart_needs_adapters_before_anything_is_trained(tmp_path, preset):
    table = write_table(tmp_path / "animals.csv")
    with pytest.raises(RecipeError, match="an adapter in a run whose formats have it apart, onnx-adapters"):
        train(table, preset, tmp_path / "run", recipe=RECIPE, formats=["onnx-adapters"], **QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_runs_answer_on_one_backbone(tmp_path, preset):
    runs = []
    for seed in (0, 1):
        table = write_table(tmp_path / f"animals{seed}.csv", seed=seed)
        recipe = dataclasses.replace(ADAPTED, seed=seed)
        runs.append(
            train(table, preset, tmp_path / f"run{seed}", recipe=recipe, formats=["onnx-adapters"], **QUIET)
        )
    backbone = Backbone(runs[0].path)
    texts = ["the quick fox", "you the brown", "fox"]
    for run in runs:
        model = AdapterModel(run.path, backbone)
        found = np.concatenate([model([model.read(text)]) for text in texts])
        np.testing.assert_allclose(found, run.predict_probabilities(texts), atol=1e-5)
    files = [run.path / "artifacts" / "onnx_adapters" for run in runs]
    for name, same in (("backbone.onnx", True), ("adapter.onnx_adapter", False)):
        assert ((files[0] / name).read_bytes() == (files[1] / name).read_bytes()) is same
    # The pretrained kernels are read where they were.
    (tmp_path / "other").mkdir()
    other = write_preset("Bert", tmp_path / "other", hidden_dim=32, intermediate_dim=64)[1]
    shutil.copy(f"{other}/model.weights.h5", preset)
    with pytest.raises(RunError, match="was trained on, with kernels of the fingerprint"):
        export(runs[0], ["onnx-adapters"], say=lambda line: None)
    (runs[0].path / "adapters.safetensors").unlink()
    with pytest.raises(ExportError, match=r"without adapters.safetensors"):
        export(runs[0], ["onnx-adapters"], say=lambda line: None)
