import keras
import numpy as np
import pytest
from keras import ops
from unfreezing import IMAGES, LABELS, classifier, snapshot

from ktransfer.recipes.recipe import Stage
from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing

# Of each of ten examples, and the means of batches of three of them and of the one that is left.
PARTS, WHOLE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1.0, 4.0, 7.0, 9.0]


def trained(optimizer, gradients, parts=None):
    variable = keras.Variable(np.array([5.0], "float32"), name="v")
    layerwise = LayerwiseOptimizer(optimizer)
    plan = layerwise.add_plan([])
    layerwise.begin_stage(plan, shares=[], warmup_steps=2, schedule="cosine", steps=8)
    layerwise.set_trainable([variable])
    if parts:
        layerwise.accumulate_gradients(*parts)
    for _ in range(2):
        if parts:
            layerwise.parts.begin_epoch()
        for gradient in gradients:
            with layerwise.active():
                optimizer.apply([ops.convert_to_tensor(np.array([gradient], "float32"))], [variable])
    return float(variable.numpy()[0]), layerwise.count()


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
        lambda: keras.optimizers.Adam(0.1, global_clipnorm=2.0),
        lambda: keras.optimizers.Adam(0.1, clipvalue=3.0),
    ],
)
def test_parts_take_the_steps_of_whole_batches_the_last_smaller_one_too(make):
    whole = trained(make(), WHOLE)
    parts = trained(make(), PARTS, (3, 1, 10))
    assert parts == (pytest.approx(whole[0], rel=1e-6), 8)
    assert whole[1] == 8


def test_by_hand_one_batch_of_unequal_parts():
    # Five examples of gradient 1, 2, 3, 4, 5 in parts of two: means 1.5, 3.5, 5, which count 2/5, 2/5, 1/5.
    found, steps = trained(keras.optimizers.SGD(1.0), [1.5, 3.5, 5.0], (8, 2, 5))
    # Warmup: a half, then the whole of the rate; two epochs of one step with gradient 3.
    assert steps == 2
    assert found == pytest.approx(5.0 - 0.5 * 3.0 - 1.0 * 3.0)


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}])
def test_in_fit_with_class_weights_as_with_whole_batches(options):
    def run(part_size):
        model, backbone = classifier(keras.optimizers.AdamW(1e-3, weight_decay=0.1), **options)
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
        callback = ProgressiveUnfreezing(backbone, [Stage(depth="all", epochs=1)], verbose=0)
        if part_size < 8:
            callback.parts = 8, part_size, 21
        model.fit(
            IMAGES[:21],
            LABELS[:21],
            batch_size=part_size,
            epochs=1,
            shuffle=False,
            verbose=0,
            class_weight={0: 3.0, 1: 1.0, 2: 0.5},
            callbacks=[callback],
        )
        return snapshot(model.weights)

    for a, b in zip(run(8), run(4), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
