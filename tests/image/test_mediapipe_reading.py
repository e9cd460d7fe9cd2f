"""Images sized as MediaPipe Tasks do: by hand, in a graph, and by the kit's programs."""

import numpy as np
import pytest
from exporting import KIT, SIZE, pixels, small_model
from images import draw
from PIL import Image

from ktransfer.errors import ExportError, RecipeError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.image.decoding import Resize, as_mediapipe, load_image, resize_pixels
from ktransfer.image.in_graph.preprocessing import resized
from ktransfer.image.preprocessing import Preprocessing

RESIZE = as_mediapipe(Resize(20, 28))
SIZES = [(61, 43), (20, 28), (15, 50), (9, 7), (1, 1), (300, 200)]


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixels_are_those_worked_out_by_hand():
    line = np.repeat(np.uint8([[[0], [64], [128]]]), 3, axis=2)

    def sized(width):
        return resize_pixels(line, as_mediapipe(Resize(1, width)))[0, :, 0].tolist()

    assert sized(3) == [0, 64, 128]
    assert sized(2) == [0, 96]  # at 0 and 1.5, not at the centers of pixels
    assert sized(1) == [0]
    # At 3 / 5 = 0.6, to the nearest of 32: 19 / 32; beyond the last pixel it is the last.
    assert sized(5) == [0, 38, 76, 116, 128]


def test_rows_and_columns_are_rounded_once():
    square = np.repeat(np.uint8([[[0], [1]], [[0], [1]]]), 3, axis=2)
    square[1, 1] = 2
    assert resize_pixels(square, as_mediapipe(Resize(4, 4)))[1, 1].tolist() == [1, 1, 1]  # 0.625


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_graph_has_the_same_pixels(size, exact):
    image = image_of(*size)
    found = resized(np.float32(image)[None], RESIZE, exact=exact)[0]
    np.testing.assert_array_equal(found, resize_pixels(image, RESIZE))


@pytest.mark.parametrize("format", ["onnx", "savedmodel", "tflite"])
def test_the_kit_sees_the_same_pixels(format, tmp_path):
    namespace = {"__name__": "kit"}
    exec((KIT / format / "predict.py").read_text(), namespace)
    facts = Preprocessing(RESIZE, 1.0, 0.0).to_dict()
    for size in SIZES:
        path = draw(tmp_path / "image.png", size=size)
        np.testing.assert_array_equal(namespace["read_image"](path, **facts), load_image(path, RESIZE))


def test_the_server_sees_the_same_pixels(tmp_path):
    from onnx_server.images import sized

    path = draw(tmp_path / "image.png", size=(61, 45))
    found = sized(Image.open(path), **Preprocessing(RESIZE, 1.0, 0.0).to_dict())
    np.testing.assert_array_equal(found, load_image(path, RESIZE))


def test_a_manifest_holds_it():
    facts = Preprocessing(RESIZE, 1.0, 0.0).to_dict()
    assert facts["interpolation"] == "mediapipe"
    assert Preprocessing.from_dict(facts).resize == RESIZE


@pytest.mark.parametrize("options", [{"mode": "crop"}, {"mode": "stretch", "antialias": True}])
def test_it_has_one_mode_and_no_antialias(options):
    with pytest.raises(RecipeError, match="Expected mode='stretch' and antialias=False with mediapipe"):
        Resize(8, 8, **{"antialias": False, "interpolation": "mediapipe", **options})


def test_only_a_run_that_was_trained_so_is_exported_for_the_client(tmp_path):
    path = str(draw(tmp_path / "image.png", size=(50, 40)))
    options = {
        "class_names": ["a", "b", "c"],
        "examples": [path],
        "options": ExportOptions(client="mediapipe"),
    }

    def export(resize):
        given = {"preprocessing": Preprocessing(resize, 1.0, 0.0)}
        return export_model(small_model(), tmp_path / "artifacts", "tflite", **given, **options)

    with pytest.raises(
        ExportError, match="than crop and bilinear do; only a run that was trained with --client"
    ):
        export(Resize(SIZE, SIZE))
    assert not (tmp_path / "artifacts" / "model.tflite").exists()
    assert export(as_mediapipe(Resize(SIZE, SIZE))).client == {"name": "mediapipe"}


def test_pixels_alone_are_taken_as_they_are(tmp_path):
    options = {"class_names": ["a", "b", "c"], "options": ExportOptions(client="mediapipe")}
    artifact = export_model(small_model(), tmp_path / "artifacts", "tflite", examples=pixels(2), **options)
    assert artifact.client == {"name": "mediapipe"}
