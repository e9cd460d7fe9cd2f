"""One backbone in ONNX for several adapters: each answers as its merged model, and no other backbone is taken."""

import json

import numpy as np
import onnxruntime
import pytest
import zoo
from adapters import adapted, text_classifier
from exporting import CLASSES
from onnx_server_runs import MOODS, adapter_run, softmax

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.adapter import LoRA

TEXTS = ["the quick brown fox", "you", "the fox", "fox " * 30]


def export(model, preprocessing, folder, adapters, **options):
    names = [*CLASSES, "tulip"][: model.output_shape[-1]]
    given = {"class_names": names, "examples": TEXTS, "preprocessing": preprocessing, "adapters": adapters}
    return export_model(model, folder / "artifacts", "onnx-adapters", **given | options)


def test_runs_of_one_backbone_share_its_file_and_answer_by_their_own(tmp_path):
    # Other ranks, layers, scales and numbers of classes.
    first, preprocessing = text_classifier(tmp_path)
    second, _ = text_classifier(tmp_path, classes=4)
    find_backbone(second).set_weights(find_backbone(first).get_weights())
    before = find_backbone(first).get_weights()
    adapters = adapted(first, LoRA(rank=4), 9, seed=1)
    merged = find_backbone(first).get_weights()
    artifacts = [
        export(first, preprocessing, tmp_path / "a", adapters, extra={"author": "x"}),
        export(
            second,
            preprocessing,
            tmp_path / "b",
            adapted(second, LoRA(rank=2, alpha=6, targets=["query"]), 9, seed=2),
            options=ExportOptions(temperature=2.0),
        ),
    ]
    assert not all(map(np.array_equal, before, merged))
    assert all(map(np.array_equal, merged, find_backbone(first).get_weights()))  # as it was given
    folders = [tmp_path / name / "artifacts" / "onnx_adapters" for name in "ab"]
    for artifact in artifacts:
        assert artifact.parity.max_abs_delta < 1e-5
        assert artifact.batch == artifact.sequence == "dynamic"
        assert artifact.min_runtime["version"] == "1.20"
    backbones = [(folder / "backbone.onnx").read_bytes() for folder in folders]
    assert backbones[0] == backbones[1]
    assert all((folder / "adapter.onnx_adapter").stat().st_size < len(backbones[0]) / 4 for folder in folders)
    facts = json.loads((folders[0] / "adapter.json").read_text(encoding="utf-8"))
    assert (facts["labels"], facts["author"], facts["task"]) == (CLASSES, "x", "single_label")
    # In any program: one session, and an adapter for each call.
    session = onnxruntime.InferenceSession(str(folders[0] / "backbone.onnx"))
    inputs = {name: np.asarray(value, "int32") for name, value in preprocessing(TEXTS).items()}
    for folder, model, temperature in ((folders[1], second, 2.0), (folders[0], first, 1.0)):
        adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
        adapter.Load(str(folder / "adapter.onnx_adapter"))
        options.add_active_adapter(adapter)
        logits = model.predict_on_batch(preprocessing(TEXTS)) / temperature
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(session.run(None, inputs, options)[0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo.BACKBONES)
def test_images_are_answered_with_adapters_on_convolutions(tmp_path, family):
    model = build_classifier(
        zoo.BACKBONES[family](), 3, Preprocessing(Resize(zoo.SIZE, zoo.SIZE), 1 / 127.5, -1.0)
    )
    adapters = adapted(model, LoRA(rank=2), 9, seed=1)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, zoo.SIZE, zoo.SIZE, 3)).astype("float32")
    artifact = export(model, None, tmp_path, adapters, examples=pixels)
    assert artifact.parity.max_abs_delta < 1e-4
    assert adapters.names


def test_a_model_without_adapters_is_refused(tmp_path):
    model, preprocessing = text_classifier(tmp_path)
    with pytest.raises(ExportError, match="a run with adapters for onnx-adapters"):
        export(model, preprocessing, tmp_path, None)


def test_another_backbone_than_the_adapters_own_is_not_opened(tmp_path):
    effects = [[5, 0], [0, 0], [0, 1], [1, 0]]
    folder = adapter_run(tmp_path, effects, MOODS) / "artifacts" / "onnx_adapters"
    opened = open_artifact("onnx-adapters", folder)
    assert opened.labels == MOODS
    ids = np.int32([[2, 2, 3]])
    np.testing.assert_allclose(
        opened.answer({"token_ids": ids, "padding_mask": ids > 0})[0], softmax(1, 2), atol=1e-6
    )
    content = (folder / "backbone.onnx").read_bytes()
    (folder / "backbone.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ExportError, match=r"Expected the backbone \w{12} for the adapter"):
        open_artifact("onnx-adapters", folder)
    (folder / "adapter.json").write_text("{}")
    with pytest.raises(ExportError, match="a folder of the format onnx-adapters"):
        open_artifact("onnx-adapters", folder)
