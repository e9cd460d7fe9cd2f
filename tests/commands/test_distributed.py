"""One model on several devices and by several processes: the losses of one device, one run, one message."""

import csv
import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from text_zoo import write_preset

from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.augmentation import TextAugmentation

STAGES = (Stage(depth=0, epochs=1, learning_rate=1e-3), Stage(depth=1, epochs=2, learning_rate=1e-3))
HIDDEN = ("XLA_FLAGS", "KERAS_DISTRIBUTION_")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """`(table, preset, recipe)`: 96 texts to train on, six batches of 16."""
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(0)
    rows = ["text,label"]
    for at in range(120):
        words = random.choice(["the", "quick", "brown", "you"], random.integers(2, 12)).tolist()
        if at % 3 == 0:
            words.insert(random.integers(len(words)), "fox")
        rows.append(f"{' '.join(words)} {at},{'animal' if at % 3 == 0 else 'other'}")
    (folder / "a.csv").write_text("\n".join(rows) + "\n")
    recipe = Recipe(stages=STAGES, batch_size=16, augmentation=TextAugmentation())
    (folder / "r.json").write_text(recipe.to_json())
    return folder / "a.csv", write_preset("Bert", folder)[1], folder / "r.json"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def started(arguments, *, index=0, count=1, port=0, devices=1, **environ):
    """`ktransfer train` as a subprocess on JAX."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    environ = inherited | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # Optimizing each program would take most of the time.
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",
        **environ,
    }
    if count > 1:
        environ |= {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
        }
    command = [sys.executable, "-m", "ktransfer", "train", *map(str, arguments)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(processes):
    """`(exit code, standard output, standard error)` of each."""
    found = [None] * len(processes)

    def wait(at):
        out, err = processes[at].communicate()
        found[at] = processes[at].returncode, out, err

    threads = [threading.Thread(target=wait, args=(at,)) for at in range(len(processes))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return found


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_same_history(run, other):
    rows, others = history(run), history(other)
    assert len(rows) == len(others) == 3
    for row, expected in zip(rows, others, strict=True):
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-4), name


def options(given, out, *more):
    table, preset, recipe = given
    return [table, "--backbone", preset, "--recipe", recipe, "--no-export", "--out", out, *more]


@pytest.fixture(scope="module")
def one(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    [(code, _, err)] = ended([started(options(given, out, "--no-cache"))])
    assert code == 0, err[-2000:]
    return out


@pytest.mark.slow
def test_two_devices_of_one_process_train_as_one(given, one, tmp_path):
    arguments = options(given, tmp_path / "run", "--no-cache", "--devices", "all")
    [(code, out, err)] = ended([started(arguments, devices=2)])
    assert code == 0, err[-2000:]
    assert "devices    2 (cpu), data parallel by Keras on JAX" in out
    assert_same_history(tmp_path / "run", one)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_two_processes_train_as_one_and_one_of_them_reports(given, one, tmp_path, cache):
    arguments, port = options(given, tmp_path / "run", cache, "--devices", "all"), free_port()
    found = ended([started(arguments, index=index, count=2, port=port) for index in (0, 1)])
    assert [code for code, _, _ in found] == [0, 0], [err[-2000:] for _, _, err in found]
    assert f"processes  Keras: process 0 of 2, coordinator 127.0.0.1:{port}" in found[0][1]
    assert "validation accuracy" in found[0][1]
    assert found[1][1] == ""
    assert (tmp_path / "run" / "report.html").is_file()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "trained"
    assert_same_history(tmp_path / "run", one)


@pytest.mark.slow
def test_processes_with_other_data_all_end_and_name_it(given, tmp_path):
    table, preset, recipe = given
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("fox", "cat", 1))
    port = free_port()
    processes = [
        started(
            options((data, preset, recipe), tmp_path / "run", "--devices", "all"),
            index=at,
            count=2,
            port=port,
        )
        for at, data in enumerate((table, other))
    ]
    for code, _, err in ended(processes):
        assert code == 2, err[-2000:]
        assert "Expected the same train data on all 2 processes" in err or "validation data" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_what_cannot_be_distributed_is_one_message(given, tmp_path, backend):
    arguments = options(given, tmp_path / "run", "--devices", "3")
    [(code, _, err)] = ended([started(arguments, devices=2, KERAS_BACKEND=backend)])
    assert code == 2
    assert ("a number from 1 to 2, got 3" if backend == "jax" else "Expected KERAS_BACKEND=jax") in err


@pytest.mark.slow
def test_a_coordinator_that_never_answers_is_one_message(given, tmp_path):
    arguments = options(given, tmp_path / "run", "--devices", "all", "--start-seconds", 2)
    port = free_port()
    [(code, _, err)] = ended([started(arguments, index=1, count=2, port=port)])
    assert code == 2
    assert f"Expected the coordinator at 127.0.0.1:{port} to answer within 2 seconds" in err


@pytest.mark.slow
def test_several_processes_without_the_option_are_refused(given, tmp_path):
    [(code, _, err)] = ended([started(options(given, tmp_path / "run"), index=1, count=2, port=1)])
    assert code == 2
    assert "Expected --devices all for 2 processes" in err
