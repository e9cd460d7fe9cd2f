"""Errors of an exchange between processes, and data as it is without a distribution."""

import contextlib
from types import SimpleNamespace

import pytest

from ktransfer.errors import RecipeError, RunError
from ktransfer.training import distribution
from ktransfer.training.distribution import fitting, require_batch, split_data, start

LOST = "UNKNOWN: Gloo AllGather failed: Read error [127.0.0.1]:18816: Connection reset by peer"


@pytest.fixture
def of_two(monkeypatch):
    found = SimpleNamespace(processes=2, index=0, splitting=contextlib.nullcontext)
    monkeypatch.setattr(distribution, "current", lambda: found)


def test_a_lost_process_is_one_message(of_two):
    with pytest.raises(RunError, match=r"all 2 processes to go on.*Gloo.*--resume"), fitting():
        raise ValueError(LOST)


@pytest.mark.parametrize("error", [ValueError("shapes differ"), KeyError("Gloo"), RecipeError("no")])
def test_other_errors_stay_as_they_are(of_two, error):
    with pytest.raises(type(error)), fitting():
        raise error


def test_without_other_processes_nothing_is_caught():
    with pytest.raises(ValueError, match="Gloo"), fitting():
        raise ValueError(LOST)


def test_data_is_left_as_it_is_without_a_distribution():
    data = object()
    assert split_data(data) is data


@pytest.mark.parametrize(
    ("batch", "devices", "fits"), [(8, 8, True), (7, 8, False), (1, 1, True), (None, 9, True)]
)
def test_a_batch_has_an_example_for_each_device(batch, devices, fits):
    with contextlib.nullcontext() if fits else pytest.raises(RecipeError, match="for each of 8 devices"):
        require_batch(batch, devices)


def test_another_backend_is_refused():
    with pytest.raises(RunError, match="KERAS_BACKEND=jax"):
        start("all")
