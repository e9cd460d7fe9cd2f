"""The table of the benchmark of searches and rankings, from measurements worked out by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="module")
def benchmark():
    import importlib.util

    path = Path(__file__).parents[2] / "benchmarks" / "search.py"
    spec = importlib.util.spec_from_file_location("search_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_data_set_has_at_least_eight_candidates(benchmark):
    for data in benchmark.RANKED:
        assert len(set(benchmark.candidates(data))) >= 8
    assert benchmark.preset("minilm@0.5", Path("b")).endswith("minilm_l6_h384_uncased@0.5")
    assert benchmark.preset("minilm@1", Path("b")).endswith("uncased")


def test_gain_and_cost_are_means_over_the_seeds(benchmark):
    measured = {}
    for seed, (before, after) in enumerate([(0.8, 0.82), (0.9, 0.89)]):
        measured["a/b", "default", seed] = {"accuracy": before, "seconds": 10.0}
        measured["a/b", "search", seed] = {"accuracy": after, "seconds": 40.0 + 20 * seed}
    [row] = benchmark.table(measured)
    assert row["gain"] == pytest.approx(0.005)
    assert row["lowest_gain"] == pytest.approx(-0.01)
    assert row["cost"] == pytest.approx(5.0)
    assert row["seeds"] == 2


def test_spearman_compares_the_order_of_losses_with_that_of_accuracies(benchmark):
    names = [f"m@{place}" for place in range(8)]
    measured = {("a", "rank", 0): {"losses": {name: place / 10 for place, name in enumerate(names)}}}
    accuracies = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.3]  # the last two the other way round
    for name, accuracy in zip(names, accuracies, strict=True):
        measured["a", f"full:{name}", 0] = {"accuracy": accuracy}
    [row] = benchmark.table(measured)
    assert row["spearman"] == pytest.approx(1 - 6 * 2 / (8 * 63))


def test_what_is_half_measured_has_no_number(benchmark):
    assert benchmark.table({("a", "rank", 0): {"losses": {}}}) == [{"row": "a", "seeds": 0}]
