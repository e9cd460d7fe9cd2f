"""From what clients send to probabilities, within the limits."""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .batching import Batcher, Runner
from .errors import Refused
from .model_stats import ModelStats


class Service:
    """The model behind its queue; what takes longer than a moment happens in threads.

    Args:
        model: As `model.Model`.
        settings: `Settings`.
        observe: Called with the size, the seconds of the run and each row's seconds of waiting of every
            batch. Defaults to nothing.
        within: The service whose queue and threads are used; it is entered and left for both. Defaults to `None`.

    Attributes:
        stats: `ModelStats`.
        adapters: Services of the model's adapters by name, all with one queue.

    Example:
        >>> async with Service(model, settings) as service:
        ...     probabilities, cut = await service.classify([Path("rose.jpg").read_bytes()])
    """

    def __init__(self, model, settings, observe=lambda *measured: None, within=None):
        self.model = model
        self.stats = ModelStats()
        self._timeout_s = settings.answer_timeout_s

        def observe_all(*measured):
            self.stats.batch(*measured)
            observe(*measured)

        self._runner = Runner(model, observe_all)
        self.max_batch = min(settings.max_batch, model.max_batch or settings.max_batch)
        if within is None:
            self._readers = ThreadPoolExecutor(settings.workers * settings.threads, "reader")
            self.batcher = Batcher(
                model,
                max_batch=self.max_batch,
                max_wait_s=settings.max_wait_ms / 1000,
                max_pending=settings.max_pending,
                workers=settings.workers,
                observe=observe_all,
            )
        else:
            self._readers, self.batcher = within._readers, within.batcher
        self.adapters = {
            name: Service(each, settings, observe, within=self) for name, each in model.adapters.items()
        }

    async def __aenter__(self):
        await self.batcher.__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.batcher.__aexit__(*error)
        self._readers.shutdown()

    async def in_thread(self, function, *arguments):
        """Return what a function gives that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)

    async def classify(self, examples):
        """Return the probabilities of images' bytes or texts, and which texts were cut.

        Args:
            examples: Bytes of image files, or texts.

        Returns:
            An array of probabilities for each example, or of texts with entities the list of these, and the list of
            the indices of texts that had more tokens than the model takes.

        Raises:
            Refused: An example that cannot be read, named by its index where there are several; too many
                examples; probabilities that are NaN or infinite.
        """
        with self._request(len(examples)):
            async with self._in_time():
                begin = time.perf_counter()
                reading = (self.in_thread(self.model.read, example) for example in examples)
                rows = await asyncio.gather(*reading, return_exceptions=True)
                _raise_first(rows, self.model.read.kind)
                self.stats.read(len(rows), time.perf_counter() - begin)
                answers = await self._answers(rows)
        return answers, [index for index, row in enumerate(rows) if getattr(row, "is_cut", False)]

    async def _answers(self, rows):
        """Return the answer to each example; one of a text whose entities are wanted has a row for each window."""
        windows = [row if isinstance(row, list) else [row] for row in rows]
        # A text counts as one already, whatever it has.
        with self.batcher.admit(sum(max(len(each) - 1, 0) for each in windows)):
            flat = await asyncio.gather(
                *(self.batcher.answer(row, self._runner) for each in windows for row in each)
            )
        _check_finite(flat)
        found = iter(flat)
        answers = [[next(found) for _ in each] for each in windows]
        return [
            self.model.read.found(row, each) if isinstance(row, list) else each[0]
            for row, each in zip(rows, answers, strict=True)
        ]

    async def infer(self, rows):
        """Return an array of probabilities for each row of tensors.

        Args:
            rows: `{input: array}` without the batch axis.

        Raises:
            Refused: Too many rows; a row that the model cannot take; probabilities that are NaN or infinite.
        """
        with self._request(len(rows)):
            async with self._in_time():
                answering = (self.batcher.answer(row, self._runner) for row in rows)
                answers = await asyncio.gather(*answering, return_exceptions=True)
            for index, answer in enumerate(answers):
                if isinstance(answer, Exception):  # whatever the runtime raises, such as for an id
                    raise Refused(
                        400,
                        f"Expected tensors that the model can take, got example {index}, for which it fails "
                        f"with: {str(answer)[:300]}. Send others.",
                    ) from answer
            _check_finite(answers)
        return answers

    @contextlib.contextmanager
    def _request(self, count):
        begin, done = time.perf_counter(), False
        try:
            with self.batcher.admit(count):
                yield
            done = True
        finally:
            self.stats.request(time.perf_counter() - begin, success=done)

    @contextlib.asynccontextmanager
    async def _in_time(self):
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as late:
            raise Refused(
                504,
                f"Expected an answer within {self._timeout_s:g} s, got none. Try again later.",
                retry_after_s=1,
            ) from late


def _raise_first(rows, kind):
    """Raise the first error of several; of one that is the client's its index is named, and all others'."""
    failed = [index for index, row in enumerate(rows) if isinstance(row, BaseException)]
    if not failed:
        return
    error = rows[failed[0]]
    if len(rows) == 1 or not isinstance(error, Refused):
        raise error
    more = f" (also refused: {', '.join(map(str, failed[1:21]))})" if failed[1:] else ""
    raise error.at(f"{kind}[{failed[0]}]{more}")


def _check_finite(answers):
    for index, answer in enumerate(answers):
        if not np.isfinite(answer).all():
            raise Refused(
                422,
                f"Expected finite probabilities, got NaN or infinity for example {index}. "
                "Send other values: the model gives no finite answer for these.",
            )
