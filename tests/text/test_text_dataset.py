import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from ktransfer.data.examples import Examples
from ktransfer.errors import DataError
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.dataset import epoch_order, text_dataset
from ktransfer.text.preprocessing import TextPreprocessing

WORDS = [f"w{number}" for number in range(40)]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
INPUTS = ("token_ids", "segment_ids", "padding_mask")
# Text `i` is word `i`, 1 to 28 times: 3 to 30 tokens.
TEXTS = [" ".join([WORDS[index]] * (1 + index % 28)) for index in range(35)]
EXAMPLES = Examples(TEXTS, np.arange(35) % 3, ("a", "b", "c"), kind="text")


@pytest.fixture(scope="module")
def preprocessing():
    return TextPreprocessing(keras_hub.models.BertTokenizer(vocabulary=PIECES), INPUTS, 24)


def passed(dataset):
    """`(which word each row holds, labels, lengths of the batches)` of one pass."""
    batches = list(dataset)
    words = np.concatenate([ids["token_ids"][:, 1] for ids, _ in batches]) - 5
    labels = np.concatenate([labels for _, labels in batches])
    return words.tolist(), labels, [ids["token_ids"].shape[1] for ids, _ in batches]


def test_without_training_the_order_is_that_of_the_examples_and_nothing_is_varied(preprocessing):
    dataset = text_dataset(
        EXAMPLES, preprocessing=preprocessing, batch_size=8, augmentation=TextAugmentation(deletion=1.0)
    )
    assert dataset.cardinality() == 5
    words, labels, lengths = passed(dataset)
    assert words == list(range(35))
    assert labels.tolist() == EXAMPLES.labels.tolist()
    assert lengths == [12, 24, 24, 24, 12]
    first = next(iter(dataset))[0]
    for name, array in preprocessing(TEXTS[:8]).items():
        np.testing.assert_array_equal(first[name], array)


def test_the_types_and_shapes_are_those_of_the_contract(preprocessing):
    dataset = text_dataset(EXAMPLES, preprocessing=preprocessing, batch_size=8)
    ids, labels = dataset.element_spec
    assert list(ids) == list(INPUTS)
    assert {(spec.dtype, tuple(spec.shape)) for spec in ids.values()} == {(tf.int32, (None, None))}
    assert (labels.dtype, tuple(labels.shape)) == (tf.int32, (None,))
    shares = text_dataset(EXAMPLES, preprocessing=preprocessing, batch_size=8, one_hot=True)
    _, labels = next(iter(shares))
    assert (labels.dtype, labels.shape) == (tf.float32, (8, 3))
    assert labels.numpy().argmax(1).tolist() == EXAMPLES.labels[:8].tolist()


def test_training_sees_each_text_once_a_pass_in_another_order_with_its_own_label(preprocessing):
    dataset = text_dataset(EXAMPLES, preprocessing=preprocessing, batch_size=8, training=True)
    (one, labels, _), (two, _, _) = passed(dataset), passed(dataset)
    assert sorted(one) == sorted(two) == list(range(35))
    assert one != two
    assert labels.tolist() == EXAMPLES.labels[one].tolist()


def test_the_passes_follow_from_the_seed_and_can_be_gone_on_with(preprocessing):
    def passes(count, **options):
        dataset = text_dataset(
            EXAMPLES,
            preprocessing=preprocessing,
            batch_size=8,
            training=True,
            augmentation=TextAugmentation(deletion=0.3, swap=0.3),
            **options,
        )
        return [[ids["token_ids"].numpy().tolist() for ids, _ in dataset] for _ in range(count)]

    three = passes(3, seed=4)
    assert passes(3, seed=4) == three
    assert passes(1, seed=4, first_pass=2) == three[2:]
    assert passes(1, seed=5)[0] != three[0]


def test_augmentation_differs_between_passes_and_is_tokenized_anew(preprocessing):
    same = Examples([" ".join(WORDS[:10])] * 6, [0, 1] * 3, ("a", "b"), kind="text")
    dataset = text_dataset(
        same,
        preprocessing=preprocessing,
        batch_size=6,
        training=True,
        augmentation=TextAugmentation(deletion=0.5),
    )
    rows = [row for _ in range(2) for ids, _ in dataset for row in ids["token_ids"].numpy().tolist()]
    # Padding left out, as each batch has its own.
    assert len({tuple(filter(None, row)) for row in rows}) >= 11


def test_texts_of_like_length_share_batches_when_training(preprocessing):
    random = np.random.default_rng(0)
    counts = random.integers(1, 22, 640)
    examples = Examples([" ".join(["w1"] * count) for count in counts], counts % 2, ("a", "b"), kind="text")
    padded = {}
    for training in (False, True):
        dataset = text_dataset(examples, preprocessing=preprocessing, batch_size=16, training=training)
        padded[training] = sum(int(tf.size(ids["token_ids"])) for ids, _ in dataset)
    assert padded[False] == 640 * 24
    assert padded[True] < 0.75 * padded[False]
    assert padded[True] > (counts + 2).sum()


def test_an_order_is_a_permutation_whose_last_short_batch_is_left_to_chance():
    lengths = np.random.default_rng(1).integers(3, 100, 1003)
    order = epoch_order(lengths, batch_size=10, seed=0, epoch=3)
    assert sorted(order.tolist()) == list(range(1003))
    assert order[-3:].tolist() == np.random.default_rng([0, 3]).permutation(1003)[-3:].tolist()
    spread = np.ptp(lengths[order[:1000]].reshape(-1, 10), axis=1)
    assert np.median(spread) < 10
    # Batches are shuffled: their lengths do not rise.
    means = lengths[order[:1000]].reshape(-1, 10).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.3
    assert not np.array_equal(order, epoch_order(lengths, batch_size=10, seed=0, epoch=4))
    np.testing.assert_array_equal(order, epoch_order(lengths, batch_size=10, seed=0, epoch=3))


@pytest.mark.parametrize("count", [1, 7, 8])
def test_fewer_texts_than_a_batch_and_exactly_one_batch_are_dealt_with(count):
    order = epoch_order(np.arange(count), batch_size=8, seed=0, epoch=0)
    assert sorted(order.tolist()) == list(range(count))


def test_a_backbone_of_one_length_gets_that_length(preprocessing):
    fixed = TextPreprocessing(preprocessing.tokenizer, ("token_ids", "segment_ids"), 24, fixed_length=True)
    dataset = text_dataset(EXAMPLES.subset([0, 1]), preprocessing=fixed, batch_size=1)
    assert [ids["token_ids"].shape for ids, _ in dataset] == [(1, 24)] * 2


def test_options_that_cannot_be_and_files_are_refused(preprocessing):
    with pytest.raises(DataError, match=r"at least 1, got 0"):
        text_dataset(EXAMPLES, preprocessing=preprocessing, batch_size=0)
    files = Examples(("a.jpg",), [0], ("a", "b"))
    with pytest.raises(DataError, match=r"that are texts, got .*'file'"):
        text_dataset(files, preprocessing=preprocessing, batch_size=1)
