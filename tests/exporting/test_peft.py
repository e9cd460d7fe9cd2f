"""Adapters as a folder that peft loads by itself onto transformers' classifier, and what is refused."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from adapters import adapted, text_classifier
from exporting import CLASSES, KIT
from safetensors.numpy import load_file

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import export_model
from ktransfer.models.adapters import adaptable_layers, as_two_matrices
from ktransfer.recipes.adapter import LoRA

TEXTS = ["the quick brown fox", "you", "the fox", "fox " * 30]
HERE = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft")),
    reason="PyTorch, transformers and peft are not installed: pip install ktransfer[peft]",
)


@pytest.fixture(autouse=True)
def without_the_kit(monkeypatch):
    """A folder of the kit is called triton, as is a package that PyTorch looks for."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(KIT)])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


def export(model, preprocessing, folder, adapters):
    given = {"class_names": CLASSES, "examples": TEXTS, "preprocessing": preprocessing, "adapters": adapters}
    return export_model(model, folder / "artifacts", "peft", **given)


@HERE
@pytest.mark.slow
def test_peft_alone_answers_as_the_model_and_merges_the_same(tmp_path):
    model, preprocessing = text_classifier(tmp_path)
    adapters = adapted(model, LoRA(rank=4, alpha=6), 9, seed=1)
    artifact = export(model, preprocessing, tmp_path, adapters)
    assert artifact.parity.max_abs_delta < 1e-4
    assert artifact.raw_parity.max_abs_delta < 1e-4
    folder = tmp_path / artifact.path
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert len(config["target_modules"]) == len(adapters.names)
    weights = load_file(folder / "adapter_model.safetensors")
    for name in config["target_modules"]:
        rank = config["rank_pattern"].get(name, config["r"])
        assert weights[f"base_model.model.{name}.lora_A.weight"].shape[0] == rank
        assert weights[f"base_model.model.{name}.lora_B.weight"].shape[1] == rank
    # The base has nothing of the run but the number of its labels.
    base = load_file(folder / "base" / "model.safetensors")
    [averaging] = [name for name in config["modules_to_save"] if name != "classifier"]
    assert weights[f"base_model.model.{averaging}.weight"].any()
    assert not base[f"{averaging}.weight"].any()
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    script = (
        "import json, sys, torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForSequenceClassification as Model, AutoTokenizer\n"
        "place = sys.argv[1] + '/base'\n"
        "base, tokenizer = Model.from_pretrained(place), AutoTokenizer.from_pretrained(place)\n"
        "model = PeftModel.from_pretrained(base, sys.argv[1]).eval()\n"
        "inputs = tokenizer(json.load(open(sys.argv[2])), padding=True, truncation=True, return_tensors='pt')\n"
        "with torch.no_grad(): adapted = model(**inputs).logits.tolist()\n"
        "merged = model.merge_and_unload()\n"
        "with torch.no_grad(): merged = merged(**inputs).logits.tolist()\n"
        "print(json.dumps([adapted, merged]))\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "texts.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.predict_on_batch(preprocessing(TEXTS))
    for logits in json.loads(done.stdout):
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@HERE
@pytest.mark.slow
def test_what_has_no_adapters_is_refused(tmp_path):
    model, preprocessing = text_classifier(tmp_path)
    with pytest.raises(ExportError, match="a run with adapters for peft"):
        export(model, preprocessing, tmp_path, None)
    assert not list((tmp_path / "artifacts").glob("*"))


def test_two_matrices_of_a_layer_give_its_whole_update(tmp_path):
    model, _ = text_classifier(tmp_path)
    before = kernels(model)
    adapters = adapted(model, LoRA(rank=4, alpha=6), 9, seed=1)
    after = kernels(model)
    for index, name in enumerate(adapters.names):
        a, b = as_two_matrices(model, adapters, index)
        change = (after[name] - before[name]).reshape(len(a), -1)
        np.testing.assert_allclose(a @ b, change, atol=1e-5)


def kernels(model):
    return {target.name: np.array(target.layer.kernel) for target in adaptable_layers(model)}
