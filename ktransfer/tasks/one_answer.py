"""What tasks have in common of which an example has one answer, a vector of probabilities."""

from collections.abc import Sequence

import numpy as np


class OneAnswer:
    """The part of `ktransfer.core.task.Task` that is the same wherever an example has one row of answers."""

    per_token, every_class, weights_in_loss = False, True, False

    @property
    def row_task(self):
        return self

    def output_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        return tuple(class_names)

    def output_axes(self, input_axes, outputs):
        return (input_axes[0], outputs)

    def head_rows(self, row_labels, class_weight, *, seed):
        return np.arange(len(row_labels)), None

    def findings(self, inputs, labels, class_names):
        return []

    def confidence(self, probabilities):
        return float(np.max(probabilities, axis=-1).mean())
