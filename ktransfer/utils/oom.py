"""Retry with smaller batches after an out-of-memory error."""

import re
from collections.abc import Callable
from typing import TypeVar

from ktransfer.errors import RunError

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, TensorFlow or JAX say that there is no more memory.

    Recognized by name and text: TensorFlow's errors have no name without importing it, and some are an
    `InternalError` of a library that could not allocate.

    Example:

        is_out_of_memory(MemoryError())   # True
    """
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or bool(re.search(r"(?i)resource_?exhausted|out of memory", text))


def halved(size: int, whole: int) -> int:
    """The largest size up to half of `size` of which `whole` is a multiple.

    Example:

        halved(10, 10), halved(5, 10)   # 5, 2
    """
    return next(part for part in range(size // 2, 0, -1) if whole % part == 0)


def in_smaller_batches(
    attempt: Callable[[int], Result],
    batch_size: int,
    say: Callable[[str], None],
    *,
    start: int | None = None,
) -> Result:
    """Call `attempt` with a batch size, and again with smaller ones as long as memory runs out.

    Args:
        attempt: Takes examples in a batch.
        batch_size: The size that is wanted.
        say: Callable that receives a sentence about each smaller size.
        start: A smaller size to begin with, known to be needed.

    Returns:
        What it returns.

    Raises:
        RunError: One example at a time is too much.

    Example:

        in_smaller_batches(lambda size: model.predict(images, batch_size=size), 256, print)
    """
    size = start or batch_size
    while True:
        try:
            return attempt(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise RunError(
                    "Expected memory for one example at a time, got out of memory with it. Choose a smaller "
                    "image size, sequence length or backbone, or unfreeze fewer blocks."
                ) from error
        # Past the handler: what it caught holds on to the tensors of the step.
        smaller = halved(size, batch_size)
        say(
            f"out of memory in batches of {size}: trained on in parts of {smaller}, "
            f"whose gradients add up to batches of {batch_size}"
        )
        size = smaller
