"""Quantized text classifiers: what holds beyond what the images' tests hold already."""

import numpy as np
import onnx
import pytest
from exporting import CLASSES
from test_text_export import LENGTH, TEXTS, exported, probabilities, text_classifier

from ktransfer.exporting.runtimes import open_artifact


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return text_classifier("Bert", tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize(
    "format", [pytest.param("tflite-int8", marks=pytest.mark.slow), "onnx-float16", "onnx-int8"]
)
def test_a_quantized_text_classifier_takes_ids_and_answers_about_as_the_model(format, bert, tmp_path):
    artifact = exported(bert, tmp_path, format, calibration=TEXTS, limits={"agreement": 0.8})
    assert [given["dtype"] for given in artifact.signature["inputs"]] == ["int32"] * 3
    _, preprocessing = bert
    opened = open_artifact(format, tmp_path / artifact.path)
    assert opened.labels == CLASSES
    length = LENGTH if artifact.sequence == LENGTH else None
    ids = preprocessing.pack(preprocessing.tokenize(TEXTS[: artifact.parity.batch_sizes[-1]]), length)
    expected = probabilities(bert, TEXTS[: artifact.parity.batch_sizes[-1]])
    np.testing.assert_allclose(opened.answer(ids), expected, atol=0.1)


def test_texts_of_any_length_are_quantized_as_they_come(bert, tmp_path):
    artifact = exported(bert, tmp_path, "onnx-int8", calibration=TEXTS, limits={"agreement": 0.8})
    graph = onnx.load(tmp_path / artifact.path).graph
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= {node.op_type for node in graph.node}
    # Those of attention too, which come as products of another kind.
    weights = {value.name for value in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert not [node for node in products if node.input[1] in weights]
    assert (artifact.batch, artifact.sequence) == ("dynamic", "dynamic")
    assert len(artifact.parity.sequence_lengths) > 1
