import functools

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from exporting import CLASSES, SIZE, kit_answers, pixels, small_model, write_manifest
from PIL import Image

from ktransfer.commands.export import chosen_options
from ktransfer.data.modality import IMAGES, TEXTS
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import FORMATS, ExportOptions, export_model
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.image.decoding import Resize
from ktransfer.image.file_variants import bmp_of
from ktransfer.image.in_graph.preprocessing import pixels_of_files
from ktransfer.image.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Paths of twelve image files, all of other sizes, in five formats."""
    folder = tmp_path_factory.mktemp("photographs")
    generator, paths = np.random.default_rng(0), []
    for index, ending in enumerate(["jpg", "png", "gif", "bmp"] * 2 + ["jpg"] * 3 + ["webp"]):
        colours = Image.fromarray(generator.integers(0, 256, (3, 4, 3), np.uint8))
        path = folder / f"{index}.{ending}"
        colours.resize((50 + 7 * index, 90 - 3 * index), Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def model():
    """Of answers that are far from one another."""
    found = small_model()
    kernel = found.layers[-1].kernel
    kernel.assign(kernel * 8.0)
    return found


def exported(model, photographs, folder, format, **options):
    given = {"class_names": CLASSES, "examples": photographs, "preprocessing": PREPROCESSING}
    return export_model(model, folder / "artifacts", format, options=ExportOptions(**options), **given)


@pytest.fixture(scope="module")
def in_uint8(model, photographs, tmp_path_factory):
    """A function from a format to a folder and its artifact that takes images in uint8, exported once."""

    @functools.cache
    def made(format):
        folder = tmp_path_factory.mktemp(format)
        return folder, exported(model, photographs, folder, format, uint8=True)

    return made


def answers_of_keras(model, photographs, temperature=1.0):
    return keras.ops.convert_to_numpy(
        keras.ops.softmax(model(PREPROCESSING(photographs), training=False) / temperature)
    )


def test_a_savedmodel_takes_image_files_of_any_size_and_format(model, photographs, tmp_path):
    artifact = exported(model, photographs, tmp_path, "savedmodel")
    loaded = tf.saved_model.load(str(tmp_path / artifact.path))
    files = [open(path, "rb").read() for path in photographs]  # noqa: SIM115
    answers = loaded.signatures["image_bytes"](image_bytes=tf.constant(files))["probabilities"].numpy()
    np.testing.assert_allclose(answers, answers_of_keras(model, photographs), atol=1e-5)
    pixels = loaded.signatures["image_pixels"](image_file=tf.constant(files))["pixels"]
    np.testing.assert_array_equal(pixels, PREPROCESSING(photographs))
    assert artifact.raw_parity.examples == 12
    assert artifact.files_read["max_pixel_delta"] == 0
    assert (artifact.files_read["files"], artifact.files_read["refused_files"]) == (12, 0)
    assert len(artifact.files_read["variants"]) > 140
    assert artifact.signature["image_bytes"]["inputs"][0]["name"] == "image_bytes"
    assert artifact.signature["inputs"][0]["shape"] == [None, SIZE, SIZE, 3]


@pytest.mark.slow
def test_a_savedmodel_that_reads_other_pixels_is_refused(model, photographs, tmp_path, monkeypatch):
    """Though its labels would agree: those of one kind of file only are off, by two grey levels."""

    def off(contents, resize):
        is_gif = tf.equal(tf.strings.substr(contents, 0, 3), b"GIF")
        return pixels_of_files(contents, resize) + tf.where(is_gif, 2.0, 0.0)[:, None, None, None]

    monkeypatch.setattr("ktransfer.image.in_graph.signatures.pixels_of_files", off)
    with pytest.raises(ExportError, match=r"within 1 gray level, got a difference of 2 in GIF"):
        exported(model, photographs[:2], tmp_path, "savedmodel")  # of which none is a GIF
    assert not (tmp_path / "artifacts" / "savedmodel").exists()


@pytest.mark.slow
def test_examples_that_the_graph_refuses_are_counted_and_logged(model, tmp_path, caplog):
    rle = tmp_path / "rle.bmp"
    content = bytearray(bmp_of(np.zeros((4, 4), int), 8, palette=bytes(range(64))))
    content[30], content[-16:] = 1, bytes([4, 0, 0, 0] * 4)
    rle.write_bytes(content)
    with caplog.at_level("WARNING", "ktransfer"):
        artifact = exported(model, [str(rle)] * 2, tmp_path, "savedmodel")
    assert "image_bytes refuses 2 of 2 examples that the run reads: a run-length" in caplog.text
    assert (artifact.files_read["files"], artifact.files_read["refused_files"]) == (0, 2)
    assert artifact.raw_parity.examples > 140  # of own making


def test_pixels_alone_make_a_savedmodel_without_the_signature_of_files(model, tmp_path):
    artifact = export_model(
        model, tmp_path / "artifacts", "savedmodel", class_names=CLASSES, examples=pixels(3)
    )
    assert set(tf.saved_model.load(str(tmp_path / artifact.path)).signatures) == {"serving_default"}
    assert artifact.raw_parity is None


def test_an_onnx_file_takes_images_of_any_size(model, photographs, tmp_path):
    artifact = exported(model, photographs, tmp_path, "onnx", any_size=True)
    session = onnxruntime.InferenceSession(tmp_path / artifact.path)
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    wide = np.asarray(Image.open(photographs[1]).convert("RGB"), "float32")[None]
    answers = session.run(None, {"image": np.repeat(wide, 3, axis=0)})[0]
    np.testing.assert_allclose(answers, np.repeat(answers_of_keras(model, photographs[1:2]), 3, 0), atol=0.02)
    assert artifact.signature["inputs"][0]["shape"] == [None, None, None, 3]
    assert (artifact.raw_parity.examples, artifact.raw_parity.batch_sizes) == (12, (1,))


def test_an_artifact_that_resizes_otherwise_than_the_run_is_refused(
    model, photographs, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "ktransfer.image.serving.resized",
        lambda images, resize: 255.0 - tf.image.resize(images, (SIZE, SIZE)),
    )
    with pytest.raises(ExportError, match="to answer as the model does"):
        exported(model, photographs, tmp_path, "onnx", any_size=True)
    assert not list((tmp_path / "artifacts").glob("*.onnx"))


@pytest.mark.spread("tflite", "onnx")
@pytest.mark.parametrize("format", ["savedmodel", "tflite", "onnx"])
def test_images_in_uint8_answer_as_in_float(model, photographs, in_uint8, format):
    folder, artifact = in_uint8(format)
    assert artifact.signature["inputs"][0]["dtype"] == "uint8"
    opened = open_artifact(format, folder / artifact.path)
    assert opened.signature["inputs"][0]["dtype"] == "uint8"
    image = PREPROCESSING(photographs[:1])
    np.testing.assert_allclose(
        opened.answer({"image": image.astype("uint8")}), answers_of_keras(model, photographs[:1]), atol=1e-5
    )


def test_tflite_takes_one_image_unless_asked_for_more(model, photographs, tmp_path):
    artifact = exported(model, photographs, tmp_path, "tflite")
    assert (artifact.batch, artifact.parity.batch_sizes) == (1, (1,))
    artifact = exported(model, photographs, tmp_path, "tflite", dynamic_batch=True)
    assert (artifact.batch, artifact.parity.batch_sizes) == ("dynamic", (1, 8))


@pytest.mark.spread("tflite", "onnx")
@pytest.mark.parametrize("format", ["savedmodel", "tflite", "onnx"])
def test_a_temperature_is_folded_into_the_graph(model, photographs, tmp_path, format):
    artifact = exported(model, photographs, tmp_path, format, temperature=4.0)
    assert artifact.temperature == 4.0
    image = PREPROCESSING(photographs[:1])
    answers = open_artifact(format, tmp_path / artifact.path).answer({"image": image})
    np.testing.assert_allclose(answers, answers_of_keras(model, photographs[:1], 4.0), atol=1e-5)
    assert np.abs(answers - answers_of_keras(model, photographs[:1])).max() > 0.02  # it does something


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ExportError, match=r"a temperature above 0, got "):
        ExportOptions(temperature=temperature)


@pytest.mark.parametrize(
    ("options", "formats", "task", "message"),
    [
        ({"any_size": True}, ["onnx"], TEXTS, r"images and .* with --any-size \(any_size\), got"),
        (
            {"any_size": True},
            ["tflite", "onnx-int8"],
            IMAGES,
            r"images and .* with --any-size \(any_size\), got",
        ),
        ({"uint8": True}, ["onnx"], TEXTS, r"images.* with --uint8 \(uint8\), got"),
        (
            {"dynamic_batch": True},
            ["onnx"],
            IMAGES,
            r"with --dynamic-batch \(dynamic_batch\), got",
        ),
    ],
)
def test_an_option_that_is_for_something_else_is_refused(options, formats, task, message):
    with pytest.raises(ExportError, match=message):
        ExportOptions(**options).check(formats, task)


def test_options_that_fit_are_taken():
    ExportOptions(any_size=True, uint8=True, dynamic_batch=True).check(["tflite-int8", "onnx"], IMAGES)


def test_any_size_without_files_to_prove_it_on_is_refused(model, tmp_path):
    with pytest.raises(ExportError, match="Expected an image classifier, its preprocessing and image files"):
        export_model(
            model,
            tmp_path / "artifacts",
            "onnx",
            class_names=CLASSES,
            examples=pixels(3),
            options=ExportOptions(any_size=True),
        )


def test_the_model_answers_once_for_all_formats(model, photographs, tmp_path):
    given = {"class_names": CLASSES, "examples": PREPROCESSING(photographs[:8]), "answered": {}}
    export_model(model, tmp_path, "savedmodel", **given)
    known = dict(given["answered"])
    for format in ("tflite", "onnx"):
        export_model(model, tmp_path, format, **given)
    assert given["answered"].keys() == known.keys()
    # They are what the artifacts are held against.
    given["answered"] |= {key: -answer for key, answer in known.items()}
    with pytest.raises(ExportError, match="to answer as the model does"):
        export_model(model, tmp_path, "onnx", **given)


@pytest.mark.spread("tflite", "onnx")
@pytest.mark.parametrize("format", FORMATS)
def test_the_kit_answers_from_a_file_of_images_in_uint8(format, model, photographs, in_uint8):
    folder, artifact = in_uint8(format)
    write_manifest(folder, artifact)
    [answer] = kit_answers(format, folder, photographs[0])
    expected = answers_of_keras(model, photographs[:1])[0]
    assert answer["label"] == CLASSES[expected.argmax()]
    assert answer["probability"] == pytest.approx(expected.max(), abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"any_size": True}, ", of any size"),
        ({"uint8": True, "temperature": 1.5}, ", images in uint8, temperature 1.50"),
        ({}, ""),
    ],
)
def test_what_was_asked_for_is_told(model, photographs, tmp_path, asked, said):
    assert chosen_options(exported(model, photographs, tmp_path, "onnx", **asked)) == said
