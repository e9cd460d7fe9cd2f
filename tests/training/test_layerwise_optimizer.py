import keras
import numpy as np
import pytest
from keras import ops

from ktransfer.errors import RecipeError
from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer


def variables(*values):
    return [keras.Variable(np.array([value], "float32"), name=f"v{i}") for i, value in enumerate(values)]


class Grouped:
    """An optimizer with a head, the first group, and a block for each other one."""

    def __init__(self, optimizer, members, *, rates=None, trained=None, **stage):
        self.optimizer, self.layerwise = optimizer, LayerwiseOptimizer(optimizer)
        self.plan = self.layerwise.add_plan(members[1:])
        self.begin(members, rates=rates, trained=trained, **stage)

    def begin(self, members, *, rates=None, trained=None, **stage):
        shares = (rates or [1.0] * len(members))[1:]
        self.layerwise.begin_stage(self.plan, shares=shares, **stage)
        everything = [variable for group in members for variable in group]
        self.layerwise.set_trainable(everything if trained is None else trained)

    def apply(self, grads, variables):
        with self.layerwise.active():
            self.optimizer.apply(grads, variables)


def values(members):
    return np.array([float(v.numpy()[0]) for v in members])


def gradients(*given):
    return [ops.convert_to_tensor(np.array([g], "float32")) for g in given]


def test_with_equal_rates_it_is_the_optimizer_it_copies():
    plain, split = variables(1.0, 2.0), variables(1.0, 2.0)
    adam = keras.optimizers.AdamW(0.1, weight_decay=0.01)
    adam.build(plain)
    wrapped = Grouped(keras.optimizers.AdamW(0.1, weight_decay=0.01), [split[:1], split[1:]])
    for step in range(5):
        adam.apply(gradients(0.3, -0.2 * step), plain)
        wrapped.apply(gradients(0.3, -0.2 * step), split)
    np.testing.assert_allclose(values(split), values(plain), rtol=1e-6)


def test_each_group_moves_at_its_share_of_the_learning_rate():
    members = variables(0.0, 0.0)
    wrapped = Grouped(keras.optimizers.SGD(0.5), [members[:1], members[1:]], rates=[1.0, 0.1])
    wrapped.apply(gradients(1.0, 1.0), members)
    np.testing.assert_allclose(values(members), [-0.5, -0.05], rtol=1e-6)


def test_setting_the_learning_rate_sets_every_group():
    members = variables(0.0, 0.0)
    wrapped = Grouped(keras.optimizers.SGD(0.5), [members[:1], members[1:]], rates=[1.0, 0.1])
    wrapped.optimizer.learning_rate = 2.0
    wrapped.apply(gradients(1.0, 1.0), members)
    np.testing.assert_allclose(values(members), [-2.0, -0.2], rtol=1e-6)
    assert float(ops.convert_to_numpy(wrapped.optimizer.learning_rate)) == 2.0


def test_a_learning_rate_schedule_goes_on_counting_all_steps():
    members = variables(0.0)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.25])
    wrapped = Grouped(keras.optimizers.SGD(schedule), [members])
    for expected in (-1.0, -2.0, -2.25):
        wrapped.apply(gradients(1.0), members)
        assert values(members)[0] == pytest.approx(expected)


def test_warmup_climbs_in_equal_steps_from_the_stages_start():
    members = variables(0.0)
    wrapped = Grouped(keras.optimizers.SGD(1.0), [members])
    wrapped.apply(gradients(1.0), members)
    wrapped.begin([members], warmup_steps=4)
    steps = []
    for _ in range(6):
        before = values(members)[0]
        wrapped.apply(gradients(1.0), members)
        steps.append(before - values(members)[0])
    assert steps == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0], rel=1e-5)


def test_cosine_falls_from_the_peak_after_warmup_to_zero():
    members = variables(0.0)
    wrapped = Grouped(keras.optimizers.SGD(1.0), [members], warmup_steps=1, schedule="cosine", steps=5)
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
    wrapped = Grouped(keras.optimizers.Adam(0.01), [members[:1], members[1:]], trained=members[:1])
    for _ in range(100):
        wrapped.apply(gradients(1.0), members[:1])
    wrapped.begin([members[:1], members[1:]])
    wrapped.apply(gradients(1.0, 1.0), members)
    assert abs(values(members)[1]) == pytest.approx(0.01, rel=1e-3)


def test_what_trained_already_keeps_its_momentum_when_something_thaws():
    plain, split = variables(1.0), variables(1.0, 5.0)
    momentum = keras.optimizers.SGD(0.1, momentum=0.9)
    momentum.build(plain)
    wrapped = Grouped(keras.optimizers.SGD(0.1, momentum=0.9), [split[:1], split[1:]], trained=split[:1])
    for _ in range(3):
        momentum.apply(gradients(1.0), plain)
        wrapped.apply(gradients(1.0), split[:1])
    momentum.apply(gradients(1.0), plain)
    wrapped.begin([split[:1], split[1:]])
    wrapped.apply(gradients(1.0, 1.0), split)
    assert values(split)[0] == pytest.approx(values(plain)[0])


def test_the_global_norm_is_that_of_all_groups():
    members = variables(0.0, 0.0)
    wrapped = Grouped(keras.optimizers.SGD(1.0, global_clipnorm=1.0), [members[:1], members[1:]])
    wrapped.apply(gradients(3.0, 4.0), members)
    np.testing.assert_allclose(values(members), [-0.6, -0.8], rtol=1e-5)


def test_what_was_excluded_from_weight_decay_stays_excluded():
    members = variables(1.0, 1.0)
    adam = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    adam.exclude_from_weight_decay(var_list=members[:1])
    wrapped = Grouped(adam, [members[:1], members[1:]])
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
    wrapped = Grouped(source, [split])
    reference.apply(gradients(0.5), plain)
    wrapped.apply(gradients(0.5), split)
    assert values(split)[0] == pytest.approx(values(plain)[0], rel=1e-6)


def test_outside_active_it_is_the_plain_optimizer():
    plain, split = variables(1.0, 1.0), variables(1.0, 1.0)
    reference, optimizer = keras.optimizers.Adam(0.1), keras.optimizers.Adam(0.1)
    reference.build(plain)
    Grouped(optimizer, [split[:1], split[1:]], rates=[1.0, 0.01])
    for _ in range(3):
        reference.apply(gradients(1.0, -2.0), plain)
        optimizer.apply(gradients(1.0, -2.0), split)
    np.testing.assert_array_equal(values(split), values(plain))


def test_a_step_without_any_gradient_is_an_error():
    members = variables(0.0)
    with pytest.raises(ValueError, match="No gradients"):
        Grouped(keras.optimizers.SGD(0.1), [members]).apply([None], members)


def test_however_often_training_diverged_all_rates_are_a_tenth():
    members = variables(0.0, 0.0)
    wrapped = Grouped(keras.optimizers.SGD(0.5), [members[:1], members[1:]], rates=[1.0, 0.1])
    for count in (1, 2):
        wrapped.layerwise.divergences = count
        wrapped.apply(gradients(1.0, 1.0), members)
        np.testing.assert_allclose(values(members), [-0.05 * count, -0.005 * count], rtol=1e-6)
    assert float(ops.convert_to_numpy(wrapped.optimizer.learning_rate)) == 0.5


def test_its_state_is_taken_over_in_another_process():
    def make():
        members = variables(0.0, 0.0)
        return members, Grouped(keras.optimizers.Nadam(0.1), [members[:1], members[1:]], trained=members[:1])

    (expected, one), (found, other) = make(), make()
    names = lambda members: {f"v{i}": v for i, v in enumerate(members)}  # noqa: E731
    for _ in range(3):
        one.apply(gradients(1.0), expected[:1])
    one.begin([expected[:1], expected[1:]], rates=[1.0, 0.5], warmup_steps=4)
    one.apply(gradients(1.0, 2.0), expected)
    facts = one.layerwise.facts()
    arrays = one.layerwise.arrays({id(v): name for name, v in names(expected).items()})
    for variable, value in zip(found, values(expected), strict=True):
        variable.assign([value])
    other.layerwise.set_arrays(arrays, names(found))
    other.layerwise.set_trainable(found)
    other.layerwise.set_facts(facts)
    for grouped, members in ((one, expected), (other, found)):
        grouped.apply(gradients(0.5, -1.0), members)
    np.testing.assert_array_equal(values(found), values(expected))


def test_state_that_cannot_be_carried_over_is_refused_before_a_step():
    class Odd(keras.optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.pairs = [[self.add_variable_from_reference(v, name="odd")] for v in variables]

    members = variables(0.0, 0.0)
    with pytest.raises(RecipeError, match="Odd"):
        Grouped(Odd(0.1), [members[:1], members[1:]])


def test_two_optimizers_at_once_are_refused():
    optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1)))
    with pytest.raises(RecipeError, match="MultiOptimizer"):
        LayerwiseOptimizer(optimizer)
