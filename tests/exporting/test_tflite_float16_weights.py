import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from exporting import pixels, small_model

from ktransfer.exporting.tflite.float16_weights import convert_weights_to_float16


@pytest.fixture(scope="module")
def content():
    """A convolution of 216 weights, which stays, and a dense layer of 5,400, which does not."""
    return tf.lite.TFLiteConverter.from_keras_model(small_model()).convert()


def constants(content, kind):
    """Numbers of values of the constant tensors of a type."""
    model = schema.ModelT.InitFromPackedBuf(content)
    buffers = [(tensor, model.buffers[tensor.buffer].data) for tensor in model.subgraphs[0].tensors]
    return [
        int(np.prod(tensor.shape)) for tensor, data in buffers if tensor.type == kind and data is not None
    ]


def answers(content, images):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    [given], [taken] = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(taken["index"])[0])
    return np.array(found)


def test_large_float_weights_take_half_the_space_and_small_ones_stay(content):
    halved = convert_weights_to_float16(content)
    large = [count for count in constants(content, schema.TensorType.FLOAT32) if count >= 256]
    assert large
    assert constants(halved, schema.TensorType.FLOAT16) == large
    assert all(count < 256 for count in constants(halved, schema.TensorType.FLOAT32))
    assert len(content) - len(halved) > 2 * sum(large) - 1024  # bytes; the operation takes some


def test_the_answers_stay_but_for_the_digits_that_half_precision_has_not(content):
    expected = answers(content, pixels(3))
    found = answers(convert_weights_to_float16(content), pixels(3))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert (found != expected).any()


def test_what_has_no_large_float_weights_stays_as_it_is():
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    images = np.ones((1, 4, 4, 1), "float32")
    np.testing.assert_array_equal(
        answers(convert_weights_to_float16(content), images), answers(content, images)
    )
    assert not constants(convert_weights_to_float16(content), schema.TensorType.FLOAT16)
