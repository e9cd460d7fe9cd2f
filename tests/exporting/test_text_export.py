"""Text classifiers in every format: what holds beyond what the images' tests hold already."""

import copy
import functools
import json
import logging

import keras
import keras_hub
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from exporting import CLASSES, kit_answers, small_model, write_text_manifest
from text_zoo import FAMILIES, byte_pair, write_preset

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import FORMATS, Artifact, ExportOptions, export_model
from ktransfer.exporting.parity import measure_parity
from ktransfer.exporting.patches.fourier import fourier_as_matrices
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.exporting.tflite import exporter as litert
from ktransfer.tasks.single_label import TASK
from ktransfer.text import in_graph_tokenizer as raw_text
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.serving import Texts
from ktransfer.text.tokenizer_json import write_tokenizer

LENGTH = 24  # tokens
TEXTS = [
    *("the quick brown fox", "you", "", "B'day, you've the café!", "the fox! you the fox! you", "you\0fox"),
    *("a quick fox " * 12, "you and me", "brown", "日本語 👍🏽"),
]


def text_classifier(family, folder, **options):
    backbone, preset = write_preset(family, folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    model = build_text_classifier(backbone, len(CLASSES), preprocessing, **options)
    head = model.layers[-1]
    head.set_weights([3 * weight for weight in head.get_weights()])  # a trained head is not as undecided
    return model, preprocessing


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return text_classifier("Bert", tmp_path_factory.mktemp("bert"))


ANY_BATCH = ExportOptions(dynamic_batch=True)


def exported(classifier, folder, format, texts=TEXTS, **options):
    model, preprocessing = classifier
    options = {"class_names": CLASSES, "examples": texts, "preprocessing": preprocessing, **options}
    return export_model(model, folder / "artifacts", format, **options)


@pytest.fixture(scope="module")
def of_bert(bert, tmp_path_factory):
    """A function from a format to the folder and the artifact of `bert`, exported once."""

    @functools.cache
    def made(format):
        folder = tmp_path_factory.mktemp(format)
        return folder, exported(bert, folder, format)

    return made


def probabilities(classifier, texts):
    model, preprocessing = classifier
    return TASK.probabilities(model.predict_on_batch(preprocessing(texts)))


def answers_to_texts(path, texts):
    return open_artifact("savedmodel", path).answer({"text": texts})


# Every family in every format.


# SavedModels of byte pairs take longest; two families in each of the others.
@pytest.mark.spread("Bert-savedmodel", "Bert-tflite", "GPT2-onnx", "FNet-onnx", "DebertaV3-tflite")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_as_its_artifact_at_any_batch_and_length(family, format, tmp_path):
    classifier = text_classifier(family, tmp_path)
    preprocessing = classifier[1]
    artifact = exported(classifier, tmp_path, format, options=ANY_BATCH)
    # FNet and RoFormer-v2 feel padding; of DeBERTa TFLite lacks Abs and Sign of int64 with a dynamic length.
    fixed = preprocessing.fixed_length or (family, format) == ("DebertaV3", "tflite")
    assert (artifact.batch, artifact.sequence) == ("dynamic", LENGTH if fixed else "dynamic")
    assert artifact.parity.batch_sizes == (1, 8)
    assert artifact.parity.max_abs_delta < 1e-6
    assert artifact.parity.wrong_input_delta > 1e-2
    lengths = artifact.parity.sequence_lengths
    assert lengths == (LENGTH,) if fixed else len(lengths) > 1
    # Not by the exporter's own comparison, on a batch and a length it has not seen.
    run = open_artifact(format, tmp_path / artifact.path).answer
    ids = preprocessing.pack(preprocessing.tokenize(TEXTS[1:3]), LENGTH if fixed else 11)
    expected = TASK.probabilities(classifier[0].predict_on_batch(ids))
    np.testing.assert_allclose(run(ids), expected, atol=1e-5)
    if format == "savedmodel":
        assert (artifact.raw_parity.examples, artifact.differing_texts) == (len(TEXTS), 0)
        answers = answers_to_texts(tmp_path / artifact.path, [text.encode() for text in TEXTS])
        np.testing.assert_allclose(answers, probabilities(classifier, TEXTS), atol=1e-5)


def test_a_fourier_transform_by_matrices_is_the_transform():
    x = np.random.default_rng(0).normal(size=(2, 2, 12, 10)).astype("float32")
    with fourier_as_matrices():
        real, imaginary = keras.ops.fft2((x[0], x[1]))
    expected = np.fft.fft2(x[0] + 1j * x[1])
    np.testing.assert_allclose(np.array(real) + 1j * np.array(imaginary), expected, atol=1e-4)
    np.testing.assert_allclose(keras.ops.fft2((x[0], x[1]))[0], expected.real, atol=1e-4)


# What an artifact says of itself.


IDS = [
    {"name": name, "shape": [None, None], "dtype": "int32"}
    for name in ("token_ids", "segment_ids", "padding_mask")
]
OUTPUT = {"name": "probabilities", "shape": [None, 3], "dtype": "float32"}


def by_name(signature):
    return {**signature, "inputs": sorted(signature["inputs"], key=lambda given: given["name"])}


def test_the_signature_names_ids_and_of_a_saved_model_the_text(of_bert):
    ids = by_name({"inputs": IDS, "output": OUTPUT})
    assert by_name(of_bert("onnx")[1].signature) == ids
    artifact = copy.deepcopy(of_bert("savedmodel")[1])
    assert by_name(artifact.signature.pop("ids")) == ids
    text = {"name": "text", "shape": [None], "dtype": "string"}
    assert artifact.signature == {"inputs": [text], "output": OUTPUT}
    assert Artifact.from_dict(json.loads(json.dumps(artifact.to_dict()))) == artifact


def test_an_onnx_file_names_its_axes_and_holds_no_range_of_pixels(bert, tmp_path):
    path = tmp_path / exported(bert, tmp_path, "onnx", extra={"preprocessing": {"longest": 64}}).path
    graph = onnx.load(path).graph
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    ids = {given["name"]: ["batch", "sequence"] for given in IDS}
    assert axes == {**ids, "probabilities": ["batch", 3]}
    assert {value.type.tensor_type.elem_type for value in graph.input} == {onnx.TensorProto.INT32}
    facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert {name: json.loads(value) for name, value in facts.items()} == {
        "labels": CLASSES,
        "preprocessing": {"longest": 64},
        "task": "single_label",
    }


# Raw text.


def test_a_saved_model_cuts_a_long_text_and_takes_what_preprocessing_takes(bert, of_bert):
    folder, artifact = of_bert("savedmodel")
    path = folder / artifact.path
    texts = ["the fox " * 1000, "the \ud800 fox", "the\0fox", "the " * 60_000 + "fox"]
    answers = answers_to_texts(path, [text.encode("utf-8", "replace") for text in texts])
    np.testing.assert_allclose(answers, probabilities(bert, texts), atol=1e-5)
    # Bytes that are no text at all are answered.
    assert np.isfinite(answers_to_texts(path, [b"\xff\xfe fox"])).all()


def test_the_ids_of_a_saved_model_are_padded_to_the_longest_text_only(bert):
    in_graph = tf.function(raw_text.GraphTokenizer(bert[1]).inputs)
    ids = in_graph(tf.constant(["the fox", "you"]))
    assert ids["token_ids"].numpy().tolist() == [[2, 5, 8, 3], [2, 12, 3, 0]]
    assert ids["padding_mask"].numpy().tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert not ids["segment_ids"].numpy().any()


@pytest.mark.spread(1)
@pytest.mark.parametrize(
    "text",
    [
        *(pytest.param(t, marks=pytest.mark.slow) for t in ("the fox  ", "you\n\n", "the\u3000\u3000", " ")),
        "B'day \t\n",
        "",
    ],
)
def test_byte_pairs_in_a_graph_keep_spaces_at_the_end_together(text, tmp_path):
    vocabulary = byte_pair(keras_hub.tokenizers.GPT2Tokenizer, after=["ĠĠ", "ĊĊ", "<|endoftext|>"]).vocabulary
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(vocabulary=vocabulary, merges=["Ġ Ġ", "Ċ Ċ"])
    preprocessing = TextPreprocessing(tokenizer, ("token_ids", "padding_mask"), LENGTH)
    in_graph = tf.function(raw_text.GraphTokenizer(preprocessing).tokens)
    assert in_graph(tf.constant([text])).to_list() == [preprocessing.tokenize([text])[0][1:-1].tolist()]


def test_a_tokenizer_that_answers_otherwise_in_a_graph_is_refused(bert, tmp_path, monkeypatch):
    tokens = raw_text.GraphTokenizer.tokens
    monkeypatch.setattr(raw_text.GraphTokenizer, "tokens", lambda self, text: tokens(self, text)[:, ::-1])
    with pytest.raises(
        ExportError, match=r"Expected the savedmodel \(raw text\) artifact to answer as the model"
    ):
        exported(bert, tmp_path, "savedmodel")
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_texts_that_sentencepiece_may_cut_two_ways_are_counted_and_compared_as_cut(tmp_path, monkeypatch):
    classifier = text_classifier("Albert", tmp_path)
    tokens = raw_text.GraphTokenizer.tokens
    monkeypatch.setattr(raw_text.GraphTokenizer, "tokens", lambda self, text: tokens(self, text)[:, ::-1])
    artifact = exported(classifier, tmp_path, "savedmodel")  # the same pieces, so as probable
    assert 0 < artifact.differing_texts < len(TEXTS)
    assert artifact.raw_parity.max_abs_delta < 1e-5


# What cannot be dynamic, and what is refused.


def test_axes_are_fixed_in_turn_until_the_format_can_have_them(bert, tmp_path, monkeypatch, caplog):
    write, tried = litert.write, []

    def nothing_dynamic(serving, path, *, fixed, **contents):
        tried.append(fixed)
        if "batch" not in fixed:
            raise ExportError("No.")
        write(serving, path, fixed=fixed, **contents)

    monkeypatch.setattr(litert, "write", nothing_dynamic)
    with caplog.at_level(logging.WARNING, "ktransfer"):
        artifact = exported(bert, tmp_path, "tflite", options=ANY_BATCH)
    assert tried == [{}, {"sequence": LENGTH}, {"batch": 1, "sequence": LENGTH}]
    assert (artifact.batch, artifact.sequence) == (1, LENGTH)
    assert (artifact.parity.batch_sizes, artifact.parity.sequence_lengths) == ((1,), (LENGTH,))
    assert {tuple(given["shape"]) for given in artifact.signature["inputs"]} == {(1, LENGTH)}
    assert "tflite does not work with a dynamic sequence; trying sequence 24" in caplog.text
    assert "tflite does not work with a dynamic batch; trying batch 1, sequence 24" in caplog.text


@pytest.mark.spread(1)
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_mixed_precision_text_model_is_exported_in_float32(format, tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    backbone = load_text_backbone(preset, dtype="mixed_float16")
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    model = build_text_classifier(backbone, 3, preprocessing)
    artifact = exported((model, preprocessing), tmp_path, format, options=ANY_BATCH)
    assert artifact.parity.max_abs_delta < 1e-6
    assert backbone.compute_dtype == "float16"  # the user's model is as it was
    answers = open_artifact(format, tmp_path / artifact.path).answer(preprocessing(TEXTS))
    np.testing.assert_allclose(answers, probabilities((model, preprocessing), TEXTS), atol=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"examples": "the fox"}, r"a list of at least one text .*, got 'the fox'"),
        ({"examples": []}, "at least one text"),
        ({"examples": [1, 2]}, "at least one text"),
        ({"class_names": ["a", "b"]}, "3 different class names"),
        ({"preprocessing": None}, "text classifier with its preprocessing"),
        ({"model": "image"}, r"token_ids.*got one from \(None, 32, 32, 3\)"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(bert, wrong, message, tmp_path):
    model, preprocessing = bert
    arguments = {"class_names": CLASSES, "examples": TEXTS, "preprocessing": preprocessing, **wrong}
    model = small_model() if arguments.pop("model", None) else model
    with pytest.raises(ExportError, match=message):
        export_model(model, tmp_path, "onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_image_model_is_not_measured_on_texts(tmp_path):
    with pytest.raises(ExportError, match="at least one image"):
        export_model(small_model(), tmp_path, "onnx", class_names=CLASSES, examples=TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_ignores_the_padding_mask_fails(bert):
    preprocessing = bert[1]

    def logits(inputs, mask=True):
        ids = inputs["token_ids"][..., None] % (3, 4, 5)
        real = inputs["padding_mask"][..., None] if mask else np.ones_like(ids)
        return (ids * real).sum(1) / real.sum(1)

    def ignores(inputs):
        return TASK.probabilities(logits(inputs, mask=False))

    examples = Texts(TEXTS, preprocessing)
    measure_parity(lambda inputs: TASK.probabilities(logits(inputs)), logits, examples).check("onnx", 1e-6)
    parity = measure_parity(ignores, logits, examples)
    assert parity.sequence_lengths[-1] == LENGTH
    with pytest.raises(ExportError, match="probabilities that differ"):
        parity.check("onnx", 1e-2)


def test_the_control_turns_the_tokens_round_under_the_old_mask(bert):
    seen = []

    def logits(inputs):
        seen.append(inputs)
        return np.zeros((len(inputs["token_ids"]), 3))

    measure_parity(lambda inputs: TASK.probabilities(logits(inputs)), logits, Texts(["the fox"], bert[1]))
    wrong = seen[-1]
    assert wrong["token_ids"].tolist() == [[0, 0, 0, 0, 3, 8, 5, 2]] * 2
    assert wrong["padding_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 2


# The kit.


@pytest.mark.spread("tflite", "onnx")
@pytest.mark.parametrize("format", FORMATS)
def test_the_kit_answers_a_line_a_text_without_keras(bert, format, of_bert):
    folder, artifact = of_bert(format)
    facts = write_tokenizer(bert[1], folder / "artifacts", texts=TEXTS)
    write_text_manifest(folder, artifact, bert[1], facts)
    texts = [text for text in TEXTS if "\0" not in text]
    answers = kit_answers(format, folder, *texts)
    expected = probabilities(bert, texts)
    assert [answer["label"] for answer in answers] == [CLASSES[index] for index in expected.argmax(-1)]
    np.testing.assert_allclose([answer["probability"] for answer in answers], expected.max(-1), atol=1e-5)


@pytest.mark.slow
def test_the_kit_pads_ids_where_the_artifact_takes_one_length(tmp_path, monkeypatch):
    classifier = text_classifier("Bert", tmp_path)
    write = litert.write

    def fixed_length(serving, path, *, fixed, **contents):
        write(serving, path, fixed={"sequence": 7} | fixed, **contents)

    monkeypatch.setattr(litert, "write", fixed_length)
    artifact = exported(classifier, tmp_path, "tflite")
    assert artifact.sequence == LENGTH
    facts = write_tokenizer(classifier[1], tmp_path / "artifacts")
    write_text_manifest(tmp_path, artifact, classifier[1], facts)
    (answer,) = kit_answers("tflite", tmp_path, "the quick fox")
    expected = probabilities(classifier, ["the quick fox"])[0]
    assert answer["probability"] == pytest.approx(expected.max(), abs=1e-5)
