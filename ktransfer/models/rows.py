"""The rows of what a model gives: where each example has one answer, one row an example."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ktransfer.core.task import Task
from ktransfer.data.examples import Examples
from ktransfer.models.predict import predict_in_batches


class RowAnExample:
    """Rows, targets and answers of a `Preprocessing` whose examples have one answer each."""

    raw_in_graph = True

    def pieces(self, examples: Examples) -> Examples:
        """The examples as a model is trained on them: as they are."""
        return examples

    def rows(
        self, values: np.ndarray, examples: Examples, indices: Sequence[int] | np.ndarray
    ) -> list[np.ndarray]:
        """The row of each example in a model's outputs: `(1, ...)` of `values` `(B, ...)`."""
        return list(values[:, None])

    def row_labels(self, examples: Examples) -> np.ndarray:
        """The labels of the rows of all examples, as the `row_task` has them."""
        return examples.labels

    def targets(self, examples: Examples) -> np.ndarray:
        """The targets of a loss: `(N, C)`."""
        return examples.targets

    def positions(self, texts: Sequence[str]) -> list[np.ndarray] | None:
        """The positions of an example's rows in a model's outputs; `None` for all of them."""
        return None

    def probabilities(
        self: Any,
        model: keras.Model,
        inputs: Sequence[str],
        outputs: int,
        task: Task,
        *,
        batch_size: int = 32,
    ) -> np.ndarray:
        """The probabilities of examples: float32 `(N, outputs)`."""
        found = np.zeros((len(inputs), outputs), "float32")
        if len(inputs):
            encoded, order = self.encode(inputs)
            batches = (
                self.batch([encoded[index] for index in order[start : start + batch_size]])
                for start in range(0, len(inputs), batch_size)
            )
            logits = np.concatenate(list(predict_in_batches(model, batches)))
            found[order] = task.probabilities(logits)
        return found

    def encode(self: Any, inputs: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
        """The examples as `batch` takes them, and the order in which a model runs over them fastest."""
        return list(inputs), self.order(inputs)

    def batch(self: Any, encoded: Sequence[Any], *, exact: bool = False) -> Any:
        """Inputs of the model from what `encode` gave."""
        return self(encoded)

    def encoded_probabilities(
        self: Any, model: keras.Model, encoded: Sequence[Any], outputs: int, task: Task, *, exact: bool
    ) -> np.ndarray:
        """The probabilities of examples that are one batch, from what `encode` gave: float32 `(N, outputs)`."""
        [logits] = predict_in_batches(model, [self.batch(encoded, exact=exact)])
        return task.probabilities(np.asarray(logits))
