import keras
import numpy as np
import pytest
from keras import ops

from ktransfer.optimizers import GroupedOptimizer


def variables(*values):
    return [keras.Variable(np.array([value], "float32"), name=f"v{i}") for i, value in enumerate(values)]


def grouped(optimizer, members, **stage):
    wrapped = GroupedOptimizer(optimizer, [[v.path for v in group] for group in members])
    wrapped.build([v for group in members for v in group])
    wrapped.begin_stage(**({"rates": [1.0] * len(members)} | stage))
    return wrapped


def values(members):
    return np.array([float(v.numpy()[0]) for v in members])


def gradients(*given):
    return [ops.convert_to_tensor(np.array([g], "float32")) for g in given]


def test_with_equal_rates_it_is_the_optimizer_it_copies():
    plain, split = variables(1.0, 2.0), variables(1.0, 2.0)
    adam = keras.optimizers.AdamW(0.1, weight_decay=0.01)
    adam.build(plain)
    wrapped = grouped(keras.optimizers.AdamW(0.1, weight_decay=0.01), [split[:1], split[1:]])
    for step in range(5):
        adam.apply(gradients(0.3, -0.2 * step), plain)
        wrapped.apply(gradients(0.3, -0.2 * step), split)
    np.testing.assert_allclose(values(split), values(plain), rtol=1e-6)


def test_each_group_moves_at_its_share_of_the_learning_rate():
    members = variables(0.0, 0.0)
    wrapped = grouped(keras.optimizers.SGD(0.5), [members[:1], members[1:]], rates=[1.0, 0.1])
    wrapped.apply(gradients(1.0, 1.0), members)
    np.testing.assert_allclose(values(members), [-0.5, -0.05], rtol=1e-6)


def test_setting_the_learning_rate_sets_every_group():
    members = variables(0.0, 0.0)
    wrapped = grouped(keras.optimizers.SGD(0.5), [members[:1], members[1:]], rates=[1.0, 0.1])
    wrapped.learning_rate = 2.0
    wrapped.apply(gradients(1.0, 1.0), members)
    np.testing.assert_allclose(values(members), [-2.0, -0.2], rtol=1e-6)
    assert float(ops.convert_to_numpy(wrapped.learning_rate)) == 2.0


def test_a_learning_rate_schedule_goes_on_counting_all_steps():
    members = variables(0.0)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.25])
    wrapped = grouped(keras.optimizers.SGD(schedule), [members])
    for expected in (-1.0, -2.0, -2.25):
        wrapped.apply(gradients(1.0), members)
        assert values(members)[0] == pytest.approx(expected)


def test_warmup_climbs_in_equal_steps_from_the_stages_start():
    members = variables(0.0)
    wrapped = grouped(keras.optimizers.SGD(1.0), [members])
    wrapped.apply(gradients(1.0), members)
    wrapped.begin_stage(rates=[1.0], warmup_steps=4)
    steps = []
    for _ in range(6):
        before = values(members)[0]
        wrapped.apply(gradients(1.0), members)
        steps.append(before - values(members)[0])
    assert steps == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0], rel=1e-5)


def test_cosine_falls_from_the_peak_after_warmup_to_zero():
    members = variables(0.0)
    wrapped = grouped(keras.optimizers.SGD(1.0), [members], warmup_steps=1, cosine_steps=5)
    steps = []
    for _ in range(6):
        before = values(members)[0]
        wrapped.apply(gradients(1.0), members)
        steps.append(before - values(members)[0])
    # 0.5 * (1 + cos(pi * k / 4)) for k = 0 to 4 after the one step of warmup, which is at the peak already.
    assert steps == pytest.approx([1.0, 1.0, 0.8535534, 0.5, 0.1464466, 0.0], abs=1e-6)


def test_what_thaws_late_starts_without_a_spike():
    """Adam's first step is the learning rate; with the count of the others it would be 3.16 times that."""
    members = variables(0.0, 0.0)
    wrapped = grouped(keras.optimizers.Adam(0.01), [members[:1], members[1:]])
    members[1].trainable = False
    for _ in range(100):
        wrapped.apply(gradients(1.0), members[:1])
    members[1].trainable = True
    wrapped.apply(gradients(1.0, 1.0), members)
    assert abs(values(members)[1]) == pytest.approx(0.01, rel=1e-3)


def test_what_trained_already_keeps_its_momentum_when_something_thaws():
    plain, split = variables(1.0), variables(1.0, 5.0)
    momentum = keras.optimizers.SGD(0.1, momentum=0.9)
    momentum.build(plain)
    wrapped = grouped(keras.optimizers.SGD(0.1, momentum=0.9), [split[:1], split[1:]])
    for _ in range(3):
        momentum.apply(gradients(1.0), plain)
        wrapped.apply(gradients(1.0), split[:1])
    momentum.apply(gradients(1.0), plain)
    wrapped.apply(gradients(1.0, 1.0), split)
    assert values(split)[0] == pytest.approx(values(plain)[0])


def test_the_global_norm_is_that_of_all_groups():
    members = variables(0.0, 0.0)
    wrapped = grouped(keras.optimizers.SGD(1.0, global_clipnorm=1.0), [members[:1], members[1:]])
    wrapped.apply(gradients(3.0, 4.0), members)
    np.testing.assert_allclose(values(members), [-0.6, -0.8], rtol=1e-5)


def test_what_was_excluded_from_weight_decay_stays_excluded():
    members = variables(1.0, 1.0)
    adam = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    adam.exclude_from_weight_decay(var_list=members[:1])
    wrapped = grouped(adam, [members[:1], members[1:]])
    wrapped.apply(gradients(0.0, 0.0), members)
    np.testing.assert_allclose(values(members), [1.0, 0.95], rtol=1e-6)


def test_it_takes_over_the_state_of_an_optimizer_that_has_trained():
    plain, split = variables(1.0), variables(1.0)
    reference = keras.optimizers.Adam(0.1)
    source = keras.optimizers.Adam(0.1)
    reference.build(plain)
    source.build(split)
    for optimizer, members in ((reference, plain), (source, split)):
        optimizer.apply(gradients(1.0), members)
        optimizer.apply(gradients(-3.0), members)
    wrapped = grouped(source, [split])
    reference.apply(gradients(0.5), plain)
    wrapped.apply(gradients(0.5), split)
    assert values(split)[0] == pytest.approx(values(plain)[0], rel=1e-6)


def test_unwrapped_goes_on_as_the_compiled_kind():
    plain, split = variables(1.0, 1.0), variables(1.0, 1.0)
    reference = keras.optimizers.Adam(0.1)
    reference.build(plain)
    wrapped = grouped(keras.optimizers.Adam(0.1), [split[:1], split[1:]])
    for _ in range(3):
        reference.apply(gradients(1.0, -2.0), plain)
        wrapped.apply(gradients(1.0, -2.0), split)
    unwrapped = wrapped.unwrapped(split)
    assert type(unwrapped) is keras.optimizers.Adam
    reference.apply(gradients(0.5, 0.5), plain)
    unwrapped.apply(gradients(0.5, 0.5), split)
    np.testing.assert_allclose(values(split), values(plain), rtol=1e-6)


def test_it_survives_serialization():
    members = variables(0.0, 0.0)
    wrapped = grouped(keras.optimizers.Adam(0.1), [members[:1], members[1:]], rates=[1.0, 0.5])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(wrapped))
    assert again.groups == wrapped.groups
    assert type(again.template) is keras.optimizers.Adam


def test_a_step_without_any_gradient_is_an_error():
    members = variables(0.0)
    with pytest.raises(ValueError, match="No gradients"):
        grouped(keras.optimizers.SGD(0.1), [members]).apply([None], members)


def test_what_a_checkpoint_holds_of_it_comes_back(tmp_path):
    """As BackupAndRestore saves and restores it: with the weights of a model, every slot once."""

    def compiled():
        inputs = keras.Input((2,))
        model = keras.Model(inputs, keras.layers.Dense(1, name="b")(keras.layers.Dense(2, name="a")(inputs)))
        paths = [[v.path for v in model.get_layer(name).weights] for name in "ba"]
        model.compile(GroupedOptimizer(keras.optimizers.Adam(0.1), paths), "mse")
        model.optimizer.build(model.trainable_variables)
        return model

    model = compiled()
    model.optimizer.begin_stage(rates=[1.0, 0.5], stage=2)
    model.train_on_batch(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    model.save_weights(tmp_path / "model.weights.h5")
    again = compiled()
    again.load_weights(tmp_path / "model.weights.h5")
    for one, other in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(one), ops.convert_to_numpy(other), err_msg=one.path
        )
    assert int(ops.convert_to_numpy(again.optimizer.stage)) == 2


def test_however_often_training_diverged_all_rates_are_a_tenth():
    members = variables(0.0, 0.0)
    wrapped = grouped(keras.optimizers.SGD(0.5), [members[:1], members[1:]], rates=[1.0, 0.1])
    for count in (1, 2):
        wrapped.divergences.assign(count)
        wrapped.apply(gradients(1.0, 1.0), members)
        np.testing.assert_allclose(values(members), [-0.05 * count, -0.005 * count], rtol=1e-6)
    assert float(ops.convert_to_numpy(wrapped.learning_rate)) == 0.5
