"""The classification extension of the protocol: the most probable classes instead of all probabilities."""

import numpy as np

from .errors import Refused, shown
from .json_body import whole_number

_NAMES = ("classification", "class_count")  # Triton's in JSON, and its clients' argument


def class_count(parameters):
    """Return how many classes are asked for by an output's parameters, `None` for all probabilities.

    Args:
        parameters: A dictionary; the count is `classification` or `class_count`.

    Raises:
        Refused: 400, the count is no positive integer, or there are two.

    Example:
        >>> class_count({"classification": 3})
        3
    """
    given = {name: parameters[name] for name in _NAMES if name in parameters}
    if len(given) > 1:
        raise Refused(400, f"Expected one number of classes, got {shown(given)}. Send one of them.")
    for name, value in given.items():
        count = whole_number(value)
        if count is None or count < 1:
            raise Refused(
                400, f"Expected a number of classes for {name}, got {shown(value)}. Send 1 or more."
            )
        return count
    return None


def classified(answers, labels, count):
    """Return the most probable classes of each row, as `probability:index:label`.

    Args:
        answers: Probabilities, `(B, classes)`.
        labels: Names of the classes.
        count: Classes for each row; there are never more than the model has.

    Example:
        >>> classified(np.array([[0.1, 0.9]]), ["bad", "good"], 1)
        [['0.900000:1:good']]
    """
    best = np.argsort(-answers, axis=1, kind="stable")[:, :count]
    return [
        [f"{row[index]:f}:{index}:{labels[index]}" for index in indices]
        for row, indices in zip(answers, best, strict=True)
    ]
