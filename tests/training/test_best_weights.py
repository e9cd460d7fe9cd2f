import keras
import numpy as np

from ktransfer.training.best_weights import BestWeights


def variables(*values):
    return [keras.Variable(np.array(value, "float32"), name=f"v{i}") for i, value in enumerate(values)]


def values(members):
    return [float(keras.ops.convert_to_numpy(v)) for v in members]


def test_the_best_of_several_epochs_comes_back():
    best, (weight,) = BestWeights(rising=False), variables(0.0)
    for epoch, loss in enumerate([3.0, 1.0, 2.0]):
        weight.assign(epoch)
        best.offer(loss, [weight], f"epoch {epoch}")
    best.restore([weight])
    assert values([weight]) == [1.0]
    assert (best.value, best.origin, best.waited) == (1.0, "epoch 1", 1)


def test_what_starts_to_train_later_is_put_back_as_it_was_with_the_best():
    best, (early, late) = BestWeights(rising=True), variables(1.0, 5.0)
    best.offer(0.9, [early], "epoch 1")
    best.join([early, late])
    early.assign(2.0)
    late.assign(6.0)
    best.offer(0.8, [early, late], "epoch 2")
    best.restore([early, late])
    assert values([early, late]) == [1.0, 5.0]


def test_without_a_value_there_is_nothing_to_put_back():
    best, (weight,) = BestWeights(rising=True), variables(1.0)
    best.join([weight])
    weight.assign(2.0)
    best.restore([weight])
    assert values([weight]) == [2.0]


def test_an_interrupted_run_knows_the_best_weights_again(tmp_path):
    path, members = tmp_path / "checkpoint" / "best.npz", variables(1.0, 2.0)
    first = BestWeights(rising=True, baseline=0.5, path=path)
    first.join(members)
    first.offer(0.9, members, "epoch 1")
    members[0].assign(7.0)
    first.offer(0.3, members, "epoch 2")
    again = BestWeights(rising=True, baseline=0.1, path=path)
    again.join(members)
    again.restore(members)
    assert values(members) == [1.0, 2.0]
    assert (again.value, again.origin) == (0.9, "epoch 1")
    assert [item.name for item in path.parent.iterdir()] == ["best.npz"]


def test_its_state_goes_over_into_another_one():
    first, members = BestWeights(rising=True), variables(1.0)
    first.offer(0.9, members, "epoch 1")
    first.offer(0.8, members, "epoch 2")
    second = BestWeights(rising=True, baseline=0.95)
    second.set_state(*first.state())
    members[0].assign(2.0)
    second.restore(members)
    assert values(members) == [1.0]
    assert (second.value, second.origin, second.waited) == (0.9, "epoch 1", 1)


def test_a_stage_that_is_resumed_goes_on_counting_and_a_new_one_begins():
    best, members = BestWeights(rising=True), variables(1.0)
    best.offer(0.9, members, "epoch 1")
    best.offer(0.8, members, "epoch 2")
    best.join(members, resumed=True)
    assert best.waited == 1
    best.join(members)
    assert best.waited == 0
