import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import CLASSES, SIZE

from ktransfer.exporting.export_model import export_model
from ktransfer.exporting.onnx import quantization as onnx_quantization
from ktransfer.exporting.onnx.quantization import make_smaller
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.exporting.tflite import conversion as tflite_conversion
from ktransfer.exporting.tflite.conversion import convert
from ktransfer.quantization.layer_sensitivity import choices, closest, error_against


def test_what_costs_most_may_stay_in_float_wherever_it_lies():
    costs = {0: 0.1, 1: 3.0, 2: 5.0, 3: 4.0}
    found = choices(lambda part: costs[part[0]], [10, 10, 10, 10, 960], share=0.02)
    assert found == [(), (0, 1), (2, 3)]


def test_what_has_no_weights_is_measured_and_kept_with_what_lies_beside_it():
    measured = []

    def cost(part):
        measured.append(part)
        return len(part)

    weights = [0, 5, 0, 0, 5, 990, 0]
    assert choices(cost, weights, share=0.005)[-1] == (1, 2, 3)
    assert choices(cost, weights, share=0.005, neighbors=(-1, 1))[-1] == (0, 1, 2, 3)
    assert measured == [[1, 2, 3], [4], [0, 1, 2, 3], [2, 3, 4]]


def test_no_more_than_its_share_of_the_weights_stays_in_float():
    weights = [500, 9, 8, 7, 476]
    assert choices(lambda part: sum(part), weights, share=0.016) == [(), (2, 3)]


def test_an_operation_that_no_share_has_room_for_is_not_measured():
    measured = []
    choices(lambda part: measured.append(part) or 1.0, [10, 900, 90], share=0.01)
    assert measured == [[0]]


def test_a_deep_network_is_measured_in_forty_parts_that_hold_each_operation_once():
    measured = []
    choices(lambda part: measured.append(part) or 1.0, [1] * 150 + [99_850], share=0.01)
    assert len(measured) == 40
    assert [operation for part in measured for operation in part] == list(range(150))
    assert {len(part) for part in measured} == {3, 4}


def test_what_costs_nothing_is_not_left_in_float():
    assert choices(lambda part: float(part == [1]), [500, 5, 5, 490], share=0.01) == [(), (1,)]


def test_a_candidate_that_answers_no_number_is_the_farthest():
    models = {"exact": [[0.5, 0.5]], "near": [[0.4, 0.6]], "broken": [[np.nan, np.nan]]}
    error = error_against(lambda name: lambda _: np.array(models[name]), "exact", [{}] * 3)
    assert error("exact") == 0
    assert error("near") == pytest.approx((np.log(0.8) ** 2 + np.log(1.2) ** 2) / 2)
    assert error("broken") == np.inf


def test_more_stays_in_float_where_the_answers_would_collapse_and_only_there():
    errors = {0.012: [9.0, 5.0], 0.1: [0.6, 0.4, 0.5], 0.25: [0.1]}
    assert closest(lambda candidate: candidate, errors.get) == 0.4
    assert closest(lambda candidate: candidate, {0.012: [0.3, 0.2]}.get) == 0.2


# A network that int8 ruins in its middle: beside a channel of 1000 times their range no step is left for the
# others, on which the answer hangs.


def images(count):
    rng = np.random.default_rng(0)
    return np.rint(rng.uniform(0, 255, (count, 1, 1, 3)) * rng.uniform(0.7, 1, (count, SIZE, SIZE, 3)))


@pytest.fixture(scope="module")
def ruined(tmp_path_factory):
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("ruined")
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Conv2D(128, 3, activation="relu")(x)
    wide = keras.layers.Conv2D(3, 1)
    narrow = keras.layers.Conv2D(128, 1)
    x = keras.layers.Conv2D(64, 3, activation="relu")(narrow(wide(x)))
    logits = keras.layers.Dense(len(CLASSES))(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, logits)
    kernel, bias = wide.get_weights()
    wide.set_weights([kernel * [1000, 1, 1], bias])
    kernel, bias = narrow.get_weights()
    kernel[:, :, 0] = 0
    narrow.set_weights([kernel, bias])
    answers = model(images(40))
    model.layers[-1].set_weights(
        [model.layers[-1].get_weights()[0] / np.std(answers, 0), -np.mean(answers, 0) / np.std(answers, 0)]
    )
    export_model(model, folder, "onnx", class_names=CLASSES, examples=images(8).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32, "image")])
    def serve(image):
        return {"probabilities": tf.nn.softmax(model(image, training=False))}

    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.weights]
    tf.saved_model.save(module, str(folder / "savedmodel"), {"serving_default": serve})
    return folder, np.asarray(keras.ops.softmax(model(images(40))))


def int8_answers(format, folder):
    calibration = [{"image": image[None].astype("float32")} for image in images(40)]
    path = folder / f"int8.{format}"
    if format == "onnx":
        make_smaller(folder / "model.onnx", path, "int8", calibration)
    else:
        path.write_bytes(convert(folder / "savedmodel", "int8", calibration))
    answer = open_artifact(format, path).answer
    return np.concatenate([answer(inputs) for inputs in calibration])


@pytest.mark.parametrize("format", [pytest.param("tflite", marks=pytest.mark.slow), "onnx"])
def test_a_layer_in_the_middle_that_int8_ruins_is_found_and_stays_in_float(format, ruined, monkeypatch):
    folder, expected = ruined
    found = int8_answers(format, folder)
    assert np.abs(found - expected).max() < 0.1

    def by_depth(error, weights, share, **options):
        return choices(lambda part: 0.0, weights, 0.012)

    for module in (tflite_conversion, onnx_quantization):
        monkeypatch.setattr(module, "choices", by_depth)
    assert np.abs(int8_answers(format, folder) - expected).max() > 0.5
