"""From probabilities to labels: of several labels an example those whose probabilities reach their thresholds."""

import json

import numpy as np

from .errors import StartError

TASKS = ("single_label", "multi_label", "ner", "regression", "ordinal")


def read_decision(metadata, labels):
    """Return the task of an artifact and its thresholds.

    Args:
        metadata: Strings by name, of the ONNX file: `task` and `thresholds`, both JSON. Files of earlier versions have
            neither, and are single-label.
        labels: Names of the classes.

    Returns:
        The task, and float64 `(classes,)`, the least probability of each label with which it is answered; `None` of
        other tasks than multi-label.

    Raises:
        StartError: The task is unknown, or the thresholds are not one a label.

    Example:
        >>> read_decision({"task": '"multi_label"', "thresholds": "[0.5, 0.25]"}, ["cat", "dog"])
        ('multi_label', array([0.5 , 0.25]))
    """
    task = json.loads(metadata.get("task", f'"{TASKS[0]}"'))
    if task not in TASKS:
        raise StartError(
            f"Expected a task of {', '.join(TASKS[:-1])} or {TASKS[-1]}, got {task!r}. Use the onnx_server of the "
            "ktransfer that exported it."
        )
    if task != "multi_label":
        return task, None
    # A run that was never evaluated has none.
    thresholds = np.array(
        json.loads(metadata["thresholds"]) if "thresholds" in metadata else [0.5] * len(labels)
    )
    if thresholds.shape != (len(labels),):
        raise StartError(
            f"Expected {len(labels)} thresholds, one a label, got {thresholds.size}. Export it again."
        )
    return task, thresholds


def read_interval(metadata):
    """Return the prediction interval of a number, `{"coverage", "width", "transform"}`; `None` where there is none.

    Example:
        >>> read_interval({"interval": '{"coverage": 0.9, "width": 2.0, "transform": null}'})["width"]
        2.0
    """
    return json.loads(metadata.get("interval", "null"))


def measured(values, labels, interval):
    """Return the answer of a regression to one example: the name of the number, itself and its interval.

    Args:
        values: `(1,)`, in the unit of the target.
        labels: The name of the target.
        interval: As `read_interval` gives it.

    Example:
        >>> measured(np.array([10.0]), ["price"], {"coverage": 0.9, "width": 2.0, "transform": None})
        {'label': 'price', 'value': 10.0, 'interval': [8.0, 12.0], 'coverage': 0.9}
    """
    value = float(values[0])
    found = {"label": labels[0], "value": value}
    if interval is None:
        return found
    low, high = value - interval["width"], value + interval["width"]
    if interval.get("transform") == "log":
        factor = float(np.exp(interval["width"]))
        low, high = value / factor, value * factor
    return {**found, "interval": [low, high], "coverage": interval["coverage"]}


def ranked(probabilities, labels, top_k, thresholds=None, *, ordered=False):
    """Return the most probable labels of one example.

    Args:
        probabilities: `(classes,)`.
        labels: Names of the classes.
        top_k: How many; fewer where there are fewer classes.
        thresholds: `(classes,)`. With them each has `chosen`, whether its probability reaches its threshold; those
            come first, and all of them. Defaults to `None`.
        ordered: Whether the labels have an order, so that the median one is the answer and comes first.

    Returns:
        `[{"label", "probability"}, ...]`.

    Example:
        >>> ranked(np.array([0.6, 0.3]), ["cat", "dog"], 1, np.array([0.7, 0.2]))
        [{'label': 'dog', 'probability': 0.3, 'chosen': True}]
    """
    if thresholds is None:
        best = np.argsort(-probabilities, kind="stable")
        if ordered:
            shares = np.cumsum(probabilities, dtype=np.float64)
            middle = int((shares >= 0.5 * shares[-1]).argmax())
            best = np.array([middle, *best[best != middle]])
        best = best[:top_k]
        return [{"label": labels[index], "probability": float(probabilities[index])} for index in best]
    chosen = probabilities >= thresholds
    best = np.lexsort((-probabilities, ~chosen))[: max(top_k, int(chosen.sum()))]
    return [
        {"label": labels[index], "probability": float(probabilities[index]), "chosen": bool(chosen[index])}
        for index in best
    ]
