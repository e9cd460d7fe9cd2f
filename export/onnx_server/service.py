"""From what clients send to probabilities, within the limits."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

from .batching import Batcher
from .errors import Refused


class Service:
    """The model behind its queue; what takes longer than a moment happens in threads.

    Args:
        model: As `model.Model`.
        settings: `Settings`.

    Example:
        >>> async with Service(model, settings) as service:
        ...     probabilities = await service.classify([Path("rose.jpg").read_bytes()])
    """

    def __init__(self, model, settings, observe=lambda *measured: None):
        self.model = model
        self._timeout_s = settings.answer_timeout_s
        self._readers = ThreadPoolExecutor(settings.workers * settings.threads, "reader")
        self.batcher = Batcher(
            model,
            max_batch=min(settings.max_batch, model.max_batch or settings.max_batch),
            max_wait_s=settings.max_wait_ms / 1000,
            max_pending=settings.max_pending,
            workers=settings.workers,
            observe=observe,
        )

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
        """Return an array of probabilities for each image's bytes, or each text."""
        with self.batcher.admit(len(examples)):
            async with self._in_time():
                rows = await asyncio.gather(
                    *(self.in_thread(self.model.read, example) for example in examples)
                )
                return await asyncio.gather(*(self.batcher.answer(row) for row in rows))

    async def infer(self, rows):
        """Return an array of probabilities for each row of tensors."""
        with self.batcher.admit(len(rows)):
            async with self._in_time():
                return await asyncio.gather(*(self.batcher.answer(row) for row in rows))

    @contextlib.asynccontextmanager
    async def _in_time(self):
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as late:
            raise Refused(
                504, f"An answer takes longer than {self._timeout_s:g} s. Try again later.", retry_after_s=1
            ) from late
