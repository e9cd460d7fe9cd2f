"""Examples of many requests in one run of the model."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .errors import Refused


class Runner(NamedTuple):
    """A function that answers rows, and one for sizes and times; a batch with several runners is run once for each.

    Args:
        run: From a list of rows to an array of as many answers; called in a thread.
        observe: Called with the size, the seconds of the run and each row's seconds of waiting.
    """

    run: Callable
    observe: Callable


class _Waiting(NamedTuple):
    row: dict
    answer: asyncio.Future
    since: float
    runner: Runner


class Batcher:
    """Collects examples on the event loop and has threads run the model on them.

    A batch is run when it is full, when its first example has waited `max_wait_s`, or when no example is on
    its way that it could wait for, so that a lone client never waits.

    Args:
        run: From a list of rows to an array of as many answers; called in a thread.
        max_batch: Most rows in a batch.
        max_wait_s: Seconds.
        max_pending: Most rows taken in and not answered.
        workers: Batches run at the same time.
        observe: Called with the size, the seconds of the run and each row's seconds of waiting.

    Example:
        >>> async with Batcher(model, max_batch=8, max_wait_s=0.002) as batcher:
        ...     with batcher.admit(1):
        ...         probabilities = await batcher.answer(row)
    """

    def __init__(
        self, run, *, max_batch, max_wait_s, max_pending=256, workers=1, observe=lambda *measured: None
    ):
        self._runner = Runner(run, observe)
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._max_pending = max_pending
        self._workers = workers
        self._queue = asyncio.Queue()
        self.pending = 0

    async def __aenter__(self):
        self._threads = ThreadPoolExecutor(self._workers, "inference")
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self._workers)]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    @property
    def alive(self):
        """Whether it still answers."""
        return not any(task.done() for task in self._tasks)

    @property
    def full(self):
        """Whether not one more example is taken in."""
        return self.pending >= self._max_pending

    @contextlib.contextmanager
    def admit(self, count):
        """Count so many examples as pending; `Refused` 413 or 429 where there is no place for them."""
        if count > self._max_pending:
            raise Refused(
                413,
                f"Expected at most {self._max_pending} examples in a request, got {count}. "
                "Send them in several.",
            )
        if self.pending + count > self._max_pending:
            raise Refused(
                429,
                f"Expected room for {count} more, got {self.pending} examples that wait for an answer. "
                "Try again later.",
                retry_after_s=1,
            )
        self.pending += count
        try:
            yield
        finally:
            self.pending -= count

    async def answer(self, row, runner=None):
        """Return the answer to one admitted row; a caller that is cancelled takes its row along.

        Args:
            row: As the runner takes it.
            runner: `Runner`; `None` takes that of the batcher.
        """
        future = asyncio.get_running_loop().create_future()
        waiting = _Waiting(row, future, time.perf_counter(), runner or self._runner)
        self._queue.put_nowait(waiting)
        return await future

    async def _serve(self):
        while True:
            batch = [waiting for waiting in await self._collect() if not waiting.answer.done()]
            for runner in dict.fromkeys(waiting.runner for waiting in batch):
                await self._run(runner, [waiting for waiting in batch if waiting.runner == runner])

    async def _run(self, runner, batch):
        begin = time.perf_counter()
        answers = await self._answers(runner, [waiting.row for waiting in batch])
        seconds = time.perf_counter() - begin
        runner.observe(len(batch), seconds, [begin - waiting.since for waiting in batch])
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():  # cancelled meanwhile
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)

    async def _collect(self):
        batch = [await self._queue.get()]
        left = batch[0].since + self._max_wait_s - time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                while len(batch) < min(self._max_batch, self.pending):
                    # Yields to the event loop only where nothing is there, so a late batch is filled too.
                    batch.append(await self._queue.get())
        return batch

    async def _answers(self, runner, rows):
        """Return an answer or an exception for each; what one row breaks, the others outlive."""
        run = asyncio.get_running_loop().run_in_executor(self._threads, runner.run, rows)
        (answers,) = await asyncio.gather(run, return_exceptions=True)
        if not isinstance(answers, Exception):
            return answers
        if len(rows) == 1:
            return [answers]
        return [answer for row in rows for answer in await self._answers(runner, [row])]
