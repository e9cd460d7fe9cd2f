import keras

from ktransfer.models.flops import multiply_adds


def test_convolutions_count_once_for_each_position():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.BatchNormalization()(x)
    outputs = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x))
    expected = 16 * 3 * 3 * 3 * 4 + 16 * 3 * 3 * 4 + 4 * 5
    assert multiply_adds(keras.Model(inputs, outputs)) == expected


def test_a_model_inside_counts_and_embeddings_do_not():
    ids = keras.Input((6,), dtype="int32")
    inner = keras.Model(ids, keras.layers.Dense(2)(keras.layers.Embedding(100, 4)(ids)))
    outer = keras.Input((6,), dtype="int32")
    assert multiply_adds(keras.Model(outer, inner(outer))) == 6 * 4 * 2


def test_unknown_sides_come_from_what_is_given():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(inputs))
    assert multiply_adds(model, keras.KerasTensor((1, 10, 20, 3))) == 200 * 12
    assert multiply_adds(model) == 256 * 256 * 12


def test_resnet_50_is_about_what_is_published():
    # He et al. 2015, table 1: 3.8e9.
    model = keras.applications.ResNet50(weights=None)
    assert 3.7e9 < multiply_adds(model) < 4.0e9
