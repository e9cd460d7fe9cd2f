"""A study that outlives its processes: killed, joined, owned by others, with a journal that is not whole."""

import json
import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from ktransfer.errors import RunError
from ktransfer.searching.space import Space
from ktransfer.searching.study import (
    PRUNERS,
    SAMPLERS,
    TrialStudy,
    make_pruner,
    make_sampler,
    params_of,
    repair_journal,
    suggest,
    values_of_trial,
)

SPACE = Space(
    {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "epochs": {"low": 1, "high": 9},
        "depth": [0, 0.5, "all"],
        "augmentation": ["none", {"flip": True}],
    }
)
GRID = Space({"epochs": {"low": 1, "high": 3}, "depth": [0, "all"]})


def opened(folder, *, sampler="random", seed=0, count=8, owner=None, storage=None, space=SPACE):
    return TrialStudy(
        folder,
        storage,
        "it",
        owner or {"data": "a"},
        make_sampler(sampler, space, seed, count),
        make_pruner("halving", 9),
    )


def loss(values):
    return abs(values["learning_rate"] - 1e-3) + values["epochs"] / 100 + (values["depth"] != "all")


def work(study, count, *, most=None, space=SPACE, objective=loss):
    while (most is None or most > 0) and (trial := study.ask(count)) is not None:
        study.study.tell(trial, objective(suggest(trial, space)))
        most = None if most is None else most - 1


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_goes_on_draws_as_one_that_never_stopped(tmp_path, sampler):
    with opened(tmp_path / "whole", sampler=sampler) as study:
        work(study, 8)
        whole = [each.params for each in study.trials]
    for most in (3, 1, None):
        with opened(tmp_path / "parts", sampler=sampler) as study:
            work(study, 8, most=most)
    assert [each.params for each in study.trials] == whole
    assert len({json.dumps(params) for params in whole}) == 8


def test_the_first_trial_is_the_one_that_is_given(tmp_path):
    first = {"learning_rate": 1e-3, "epochs": 4, "depth": "all", "augmentation": {"flip": True}}
    with opened(tmp_path) as study:
        study.begin(params_of(first, SPACE))
        study.begin(params_of(first, SPACE))
        work(study, 3)
        assert values_of_trial(study.trials[0].params, SPACE) == first
        assert len(study.finished) == 3


def test_a_grid_is_gone_through_once(tmp_path):
    with opened(tmp_path, sampler="grid", space=GRID) as study:
        work(study, 6, space=GRID, objective=lambda values: values["epochs"])
    found = {(each.params["epochs"], each.params["depth"]) for each in study.trials}
    assert found == {(epochs, depth) for epochs in (1, 2, 3) for depth in (0, "all")}


WORKER = """
import sys, time
sys.path.insert(0, {here!r})
from test_study import opened, suggest, loss, SPACE
from pathlib import Path
with opened(Path(sys.argv[1]), sampler=sys.argv[2]) as study:
    while (trial := study.ask(int(sys.argv[3]))) is not None:
        values = suggest(trial, SPACE)
        time.sleep(float(sys.argv[4]))
        study.study.tell(trial, loss(values))
        print(trial.number, flush=True)
"""


def started(folder, *, sampler="random", count=12, seconds=0.0):
    code = WORKER.format(here=os.path.dirname(__file__))
    command = [sys.executable, "-c", code, str(folder), sampler, str(count), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(trials, count):
    """Each trial that counts, and that it was counted once."""
    again = {each.user_attrs["again"] for each in trials if "again" in each.user_attrs}
    counted = [each for each in trials if each.state == TrialState.COMPLETE]
    assert len(counted) == count
    assert all(trials[number].state == TrialState.FAIL for number in again)
    assert not [each for each in trials if each.state in (TrialState.RUNNING, TrialState.WAITING)]
    return counted


def test_two_processes_count_each_trial_once(tmp_path):
    processes = [started(tmp_path, seconds=0.05) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split() for process in processes]
    numbers = sorted(int(number) for lines in said for number in lines)
    with opened(tmp_path) as study:
        assert len(ended(study.trials, 12)) == 12
    assert numbers == list(range(12))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_ten_kills_lose_no_trial_and_change_no_result(tmp_path):
    kill_and_compare(tmp_path, kills=10)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_a_killed_process_loses_no_trial_and_changes_no_result(tmp_path):
    kill_and_compare(tmp_path, kills=2)


def kill_and_compare(folder, kills):
    count = kills + 2
    with opened(folder / "whole") as study:
        work(study, count)
        whole = [each.params for each in study.trials]
    for _ in range(kills):
        process = started(folder / "killed", count=count, seconds=0.4)
        process.stdout.readline()  # one trial is done, the next one begun
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with opened(folder / "killed") as study:
        work(study, count)
        found = ended(study.trials, count)
    # One killed before the other was told what it drew may be drawn anew, as it would have been.
    assert [each.params for each in found] == whole
    assert study.complete[0].value == min(loss(values_of_trial(params, SPACE)) for params in whole)


def test_a_trial_in_hand_of_a_living_process_is_left_alone(tmp_path):
    with opened(tmp_path) as one, opened(tmp_path) as other:
        held = one.ask(2)
        assert other.ask(2).number == 1
        assert other.ask(2) is None
        assert [each.number for each in other.others] == [held.number]


def test_a_trial_that_is_given_up_is_tried_again(tmp_path):
    with opened(tmp_path) as study:
        trial = study.ask(1)
        drawn = suggest(trial, SPACE)
        study.give_up(trial)
        again = study.ask(1)
        assert suggest(again, SPACE) == drawn
        assert study.finished == []


@pytest.mark.parametrize("differs", ["data", "space"])
def test_the_storage_of_another_search_is_refused(tmp_path, differs):
    owner = {"data": "a", "space": {"epochs": [1]}}
    with opened(tmp_path, owner=owner):
        pass
    with pytest.raises(RunError, match=f"another {differs}"):
        opened(tmp_path, owner=owner | {differs: "b"})


def test_a_study_of_another_program_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    study = optuna.create_study(storage=url, study_name="it")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(RunError, match="another program"):
        opened(tmp_path, storage=url)


def test_a_database_holds_a_study_as_well(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    for most in (2, None):
        with opened(tmp_path, storage=url) as study:
            work(study, 4, most=most)
    assert len(study.finished) == 4


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.db", "oracle://x"])
def test_a_storage_that_cannot_be_opened_is_refused(tmp_path, url):
    with pytest.raises(RunError, match="Expected a storage that Optuna can open"):
        opened(tmp_path, storage=url)


@pytest.mark.parametrize("lost", [1, 5, 20])
def test_a_journal_whose_last_line_is_not_whole_goes_on(tmp_path, lost):
    with opened(tmp_path) as study:
        work(study, 3)
    path = tmp_path / "journal.log"
    path.write_bytes(path.read_bytes()[:-lost])
    with opened(tmp_path) as study:
        work(study, 5)
        assert len(study.finished) == 5
    assert repair_journal(path) is False


def test_a_journal_of_something_else_is_refused(tmp_path):
    (tmp_path / "journal.log").write_text("this is no journal\n" * 3, encoding="utf-8")
    with pytest.raises(RunError, match="Expected a storage that Optuna can open"):
        opened(tmp_path)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_ends_what_is_far_behind(tmp_path, name):
    study = optuna.create_study(pruner=make_pruner(name, 9))
    ended = 0
    for number in range(12):
        trial = study.ask()
        for step in range(1, 10):
            trial.report(float(number), step)
            if trial.should_prune():
                ended += 1
                break
        study.tell(trial, float(number), skip_if_finished=True)
    assert (ended == 0) == (name == "none")


def test_the_samplers_are_those_of_the_command_line():
    from ktransfer.cli import search as command

    assert SAMPLERS == command.SAMPLERS
    assert PRUNERS == command.PRUNERS
