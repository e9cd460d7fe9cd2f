"""Limits, the choice among candidates, the Pareto front, and the bisection over the share to keep."""

import itertools

import numpy as np
import pytest

from ktransfer.errors import RecipeError
from ktransfer.recipes.targets import parse_latency, parse_size
from ktransfer.shrinking.candidates import (
    Candidate,
    Limits,
    choose_candidate,
    interval_of,
    next_keep,
    not_dominated,
)


def candidate(size=1000, score=0.9, latency=2.0, base=0.9, **fields):
    given = {
        "network": "run",
        "start": "run",
        "keep": 1.0,
        "format": "tflite",
        "interval": (score - 0.05, score + 0.05),
        "lost_error": 0.01,
        "examples": 100,
        "parameters": 10,
        "multiply_adds": 10,
    }
    return Candidate(**given | fields, size_bytes=size, score=score, lost=base - score, latency_ms=latency)


def test_what_is_kept_meets_every_limit_and_no_smaller_file_does():
    random = np.random.default_rng(0)
    for _ in range(200):
        found = [
            candidate(int(size), float(score), float(took))
            for size, score, took in zip(
                random.integers(100, 2000, 6),
                random.uniform(0.8, 0.95, 6),
                random.uniform(1, 4, 6),
                strict=True,
            )
        ]
        for drop, latency, size in itertools.product((None, 0.02), (None, 2.5), (None, 900)):
            if drop is latency is size is None:
                continue
            limits = Limits(drop=drop, latency_ms=latency, size_bytes=size)
            held = [
                each
                for each in found
                if (drop is None or 0.9 - each.score <= drop)
                and (latency is None or each.latency_ms <= latency)
                and (size is None or each.size_bytes <= size)
            ]
            chosen, reached = choose_candidate(found, limits)
            assert reached == bool(held)
            if held and drop is not None:
                assert chosen.size_bytes == min(each.size_bytes for each in held)
            elif held:
                assert chosen.score == max(each.score for each in held)


def test_the_nearest_is_kept_where_no_file_meets_the_limits():
    small, good = candidate(500, 0.5), candidate(900, 0.88)
    assert choose_candidate([small, good], Limits(drop=0.01)) == (good, False)
    assert choose_candidate([small, good], Limits(size_bytes=100)) == (small, False)
    assert choose_candidate([small, good], Limits(size_bytes=600, drop=0.01)) == (small, False)


def test_the_front_holds_what_no_other_beats():
    found = [
        candidate(1000, 0.9, 2.0),
        candidate(500, 0.9, 2.0),
        candidate(400, 0.8, 3.0),
        candidate(600, 0.8, 1.0),
    ]
    assert not_dominated(found) == found[1:]
    assert not_dominated([found[0], found[0]]) == [found[0]] * 2


def test_a_search_without_caps_ends_at_the_smallest_share_that_holds():
    for least in np.linspace(0.06, 0.99, 40):
        tried = {}
        while (keep := next_keep(tried)) is not None:
            assert keep not in tried
            tried[keep] = keep >= least
        smallest = min((keep for keep, holds in tried.items() if holds), default=1.0)
        assert least <= smallest <= least + 0.07
        assert len(tried) <= 5


def test_a_ceiling_is_reached_by_levels_that_are_not_too_far_apart():
    for ceiling in (0.05, 0.2, 0.45, 0.9):
        tried, last = {}, 1.0
        while (keep := next_keep(tried, ceiling=ceiling)) is not None:
            assert keep >= last / 2.51 or keep < ceiling
            tried[keep], last = keep <= ceiling, keep
        assert ceiling in tried
    assert next_keep({0.5: False}, ceiling=0.5) is None


def test_intervals_hold_the_mean():
    low, high = interval_of(np.array([1.0] * 90 + [0.0] * 10))
    assert (round(low, 3), round(high, 3)) == (0.826, 0.945)  # Wilson
    low, high = interval_of(np.linspace(0.2, 0.8, 400))
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1734 / 20, rel=0.01)


@pytest.mark.parametrize("text", ["5", "0.005s", "5ms", "5000us", " 5 ms "])
def test_latencies_are_read_in_any_unit(text):
    assert parse_latency(text) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("text", "size"), [("1.5MB", 1_500_000), ("1.5 mib", 1_572_864), ("800kB", 800_000), ("7", 7), (7.0, 7)]
)
def test_sizes_are_read_in_any_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "fast", "0ms", "-1ms", "5m", "nan", "inf", "1e400", "5 5"])
def test_what_is_no_quantity_is_refused(text):
    for parse in (parse_latency, parse_size):
        with pytest.raises(RecipeError, match="such as"):
            parse(text)


@pytest.mark.parametrize("drop", [-0.1, 1.0, 5])
def test_an_impossible_loss_is_refused(drop):
    with pytest.raises(RecipeError, match="from 0 to below 1"):
        Limits(drop=drop)
