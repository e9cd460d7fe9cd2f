"""The batcher alone."""

import asyncio
import random
import threading

import numpy as np
import pytest
from onnx_server.batching import Batcher
from onnx_server.errors import Refused


async def answered(batcher, row):
    with batcher.admit(1):
        return await batcher.answer(row)


def test_each_caller_gets_the_answer_to_its_own_row_whatever_the_timing():
    sizes = []

    def squared(rows):
        sizes.append(len(rows))
        return np.array(rows) ** 2

    async def caller(batcher, number):
        await asyncio.sleep(random.Random(number).uniform(0, 0.03))
        if number % 7 == 0:  # one that does not wait for its answer
            task = asyncio.create_task(answered(batcher, number))
            await asyncio.sleep(0)
            task.cancel()
            return number**2
        return await answered(batcher, number)

    async def all_callers():
        async with Batcher(squared, max_batch=5, max_wait_s=0.001, max_pending=500, workers=3) as batcher:
            answers = await asyncio.gather(*(caller(batcher, number) for number in range(500)))
            return answers, batcher.pending

    answers, pending = asyncio.run(all_callers())
    assert answers == [number**2 for number in range(500)]
    assert pending == 0
    assert 1 < max(sizes) <= 5


def test_a_row_that_breaks_the_model_fails_alone():
    def reciprocal(rows):
        return [1 / row for row in rows]

    async def run():
        async with Batcher(reciprocal, max_batch=3, max_wait_s=1, max_pending=3) as batcher:
            rows = (answered(batcher, row) for row in (4, 0, 2))
            return await asyncio.gather(*rows, return_exceptions=True), batcher.alive

    (first, broken, last), alive = asyncio.run(run())
    assert (first, last, alive) == (0.25, 0.5, True)
    assert isinstance(broken, ZeroDivisionError)


def test_a_batch_that_nothing_joins_is_run_after_the_wait():
    async def run():
        async with Batcher(list, max_batch=2, max_wait_s=0.05) as batcher:
            with batcher.admit(1):  # on its way for ever
                return await asyncio.wait_for(answered(batcher, "row"), 600)

    assert asyncio.run(run()) == "row"


def test_rows_that_wait_are_run_together():
    go, sizes = threading.Event(), []

    def held(rows):
        go.wait(600)
        sizes.append(len(rows))
        return rows

    async def run():
        async with Batcher(held, max_batch=4, max_wait_s=0.001) as batcher:
            tasks = [asyncio.create_task(answered(batcher, row)) for row in range(10)]
            await asyncio.sleep(0.05)
            go.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == list(range(10))
    assert sizes == [4, 4, 2]


def test_what_was_observed_is_the_batch_and_each_wait():
    seen = []

    async def run():
        options = {"max_batch": 2, "max_wait_s": 1, "observe": lambda *measured: seen.append(measured)}
        async with Batcher(list, **options) as batcher:
            await asyncio.gather(answered(batcher, 1), answered(batcher, 2))

    asyncio.run(run())
    ((size, seconds, waits),) = seen
    assert (size, len(waits)) == (2, 2)
    assert seconds >= 0
    assert all(wait >= 0 for wait in waits)


def test_more_than_it_holds_is_refused_now_or_for_good():
    batcher = Batcher(list, max_batch=1, max_wait_s=0, max_pending=3)
    with batcher.admit(2):
        with pytest.raises(Refused) as later, batcher.admit(2):
            pass
        with pytest.raises(Refused) as never, batcher.admit(4):
            pass
    assert (later.value.status, later.value.headers) == (429, {"Retry-After": "1"})
    assert (never.value.status, never.value.headers) == (413, {})
    assert batcher.pending == 0
