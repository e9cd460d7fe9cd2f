"""What mobile libraries read in the TFLite file of a text classifier; of images, see the exporter's tests."""

import zipfile

from exporting import CLASSES
from test_tflite import at, metadata, text
from text_zoo import write_preset

from ktransfer.exporting.export_model import export_model
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier


def test_each_input_of_ids_is_named_in_the_order_of_the_graph_and_labels_are_there(tmp_path):
    backbone, preset = write_preset("Bert", tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    model = build_text_classifier(backbone, 3, preprocessing)
    options = {"class_names": CLASSES, "examples": ["the fox"], "preprocessing": preprocessing}
    path = tmp_path / export_model(model, tmp_path / "artifacts", "tflite", **options).path
    graph = at(metadata(path), (3, True))
    start = graph.Vector(graph.Offset(4 + 2 * 2))
    inputs = [type(graph)(graph.Bytes, graph.Indirect(start + 4 * index)) for index in range(3)]
    names = [text(given, 0) for given in inputs]
    assert names == names_of_the_graph(path)
    about = dict(zip(names, (text(given, 1) for given in inputs), strict=True))
    assert about["padding_mask"] == "1 on tokens, 0 on padding"
    assert not any(given.Offset(4 + 2 * field) for given in inputs for field in (3, 4, 5))  # of images
    probabilities = at(graph, (3, True))
    assert text(probabilities, 0) == "probabilities"
    assert text(probabilities, 1) == "Probability of each label; their sum is 1"
    assert text(at(probabilities, (6, True)), 0) == "labels.txt"
    assert text(metadata(path), 0) == "TextClassifier"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt") == b"daisy\nrose\nsun flower\n"


def names_of_the_graph(path):
    from ai_edge_litert.interpreter import Interpreter

    return [given["name"] for given in Interpreter(str(path)).get_input_details()]
