"""`tf.data` datasets in batches of another size or of any length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def rebatched(
    dataset: tf.data.Dataset | None, size: int, examples: int | None = None
) -> tf.data.Dataset | None:
    """The dataset in batches of another size, whose number is known.

    Args:
        dataset: Of batches; `None` stays that.
        size: Examples in a batch.
        examples: How many there are; `None` counts them, which takes a pass.

    Example:

        rebatched(train, 8, 1000)
    """
    if dataset is None:
        return None
    if examples is None:
        examples = int(dataset.reduce(0, lambda count, batch: count + tf.shape(tf.nest.flatten(batch)[0])[0]))
    number = tf.data.experimental.assert_cardinality(math.ceil(examples / size))
    return dataset.rebatch(size).apply(number)


def of_any_length(batches: Sequence[tuple[dict[str, Array], Array]]) -> tf.data.Dataset:
    """A `keras.utils.PyDataset` whose batches have lengths of their own.

    Keras takes the shapes of all batches of a `PyDataset` to be those of the first two.

    Args:
        batches: Of `(dict of arrays (B, length, ...), labels)`; its length is known.

    Returns:
        The same as a dataset; a pass over it reads the batches in order.

    Example:
        >>> model.fit(of_any_length(batches))  # doctest: +SKIP
    """
    count = len(batches)
    return dataset_of_batches(lambda: (batches[index] for index in range(count)), batches[0], count)


def dataset_of_batches(
    batches: Callable[[], Iterator[tuple[Any, ...]]],
    like: tuple[Any, ...],
    count: int,
) -> tf.data.Dataset:
    """A pass is what `batches()` gives: `count` batches like this one but for their size and length.

    They are `(dict of arrays (B, length, ...), labels)`, or with weights `(B, length)` of the labels as well.
    """
    inputs, labels, *weights = like
    signature: tuple[Any, ...] = (
        {
            name: tf.TensorSpec((None, None, *array.shape[2:]), array.dtype, name=name)
            for name, array in inputs.items()
        },
        # Those of tokens are as long as their texts.
        tf.TensorSpec(
            (None, None, *labels.shape[2:]) if labels.ndim > 2 or weights else (None, *labels.shape[1:]),
            labels.dtype,
        ),
        *(tf.TensorSpec((None, None), each.dtype) for each in weights),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def padded(targets: np.ndarray, length: int) -> np.ndarray:
    """Targets of a batch as one array.

    Args:
        targets: `(B, ...)`, which is returned as it is, or objects `(B,)`, each `(tokens, C)`.
        length: Tokens that the latter are padded to with zeros.

    Returns:
        `(B, length, C)` of the latter.

    Example:
        >>> each = np.empty(1, object)
        >>> each[0] = np.ones((2, 3), "float32")
        >>> padded(each, 4).shape
        (1, 4, 3)
    """
    if targets.dtype != object:
        return targets
    whole = np.zeros((len(targets), length, targets[0].shape[1]), np.float32)
    for row, each in zip(whole, targets, strict=True):
        row[: len(each)] = each
    return whole


def rows_of_process(size: int, *, devices: int, processes: int, index: int) -> np.ndarray:
    """The rows of a batch that the devices of one process take.

    A batch is repeated as often as it takes to give each device as many rows, so that each row counts the same.

    Args:
        size: Examples in the batch.
        devices: Of all processes.
        processes: Each has as many devices.
        index: Of the process.

    Returns:
        int `(rows,)`, the same number for each process.

    Example:
        >>> [rows_of_process(3, devices=2, processes=2, index=at).tolist() for at in (0, 1)]
        [[0, 1, 2], [0, 1, 2]]
        >>> [rows_of_process(4, devices=2, processes=2, index=at).tolist() for at in (0, 1)]
        [[0, 1], [2, 3]]
    """
    rows = size * (devices // math.gcd(size, devices)) // processes
    return np.arange(index * rows, (index + 1) * rows) % size


def split_batches(dataset: tf.data.Dataset, *, devices: int, processes: int, index: int) -> tf.data.Dataset:
    """The rows of each batch that one process takes, as `rows_of_process` gives them.

    Args:
        dataset: Of batches.
        devices, processes, index: As in `rows_of_process`.

    Example:
        >>> batches = tf.data.Dataset.range(6).batch(4)
        >>> [each.tolist() for each in split_batches(batches, devices=2, processes=2, index=1).as_numpy_iterator()]
        [[2, 3], [5]]
    """
    # The greatest common divisor of any size and the number of devices is that of the remainder.
    divisors = tf.constant([math.gcd(rest, devices) for rest in range(devices)], tf.int32)

    def of_process(*batch: tf.Tensor) -> tf.Tensor:
        size = tf.shape(tf.nest.flatten(batch)[0])[0]
        rows = size * (devices // divisors[size % devices]) // processes
        chosen = tf.range(index * rows, (index + 1) * rows) % size
        found = tf.nest.map_structure(lambda tensor: tf.gather(tensor, chosen), batch)
        return found if len(batch) > 1 else found[0]

    return dataset.map(of_process, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
