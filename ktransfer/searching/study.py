"""An Optuna study that outlives its processes: who works on it, what a killed one left, and who owns its storage."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from ktransfer.errors import RunError, listed
from ktransfer.searching.space import Range, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from ktransfer.core.typing import PathLike


SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("halving", "hyperband", "median", "none")
JOURNAL = "journal.log"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_OWNER, _WORKER, _AGAIN = "ktransfer", "worker", "again"
_FRESH = 60.0  # seconds in which a trial without a worker may belong to a process that has just begun it
_LOCKED = 30  # seconds after which the lock of a killed process on the journal is taken over


class TrialStudy:
    """A study in a folder, on which several processes work at once.

    Args:
        folder: Of the search; locks of the processes lie in it, and the journal where no storage is given.
        storage: A URL of Optuna, such as `sqlite:///search.db`; `None` takes a journal file in the folder.
        name: Of the study.
        owner: What tells this search from others, JSON-able; another one's storage is refused.
        sampler, pruner: From `make_sampler` and `make_pruner`.

    Raises:
        RunError: The storage cannot be opened, or another search owns it.

    Example:

        with TrialStudy("search", None, "flowers", {"data": "9f2c"}, sampler, pruner) as study:
            trial = study.ask(20)
    """

    def __init__(
        self,
        folder: PathLike,
        storage: str | None,
        name: str,
        owner: Mapping[str, Any],
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder = Path(folder)
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._locks = self.folder / "workers"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._alive = FileLock(self._locks / f"{self.worker}.lock")
        try:
            self.study = optuna.create_study(
                storage=_storage(self.folder, storage),
                study_name=name,
                sampler=sampler,
                pruner=pruner,
                direction="minimize",
                load_if_exists=True,
            )
        except OSError:
            raise
        except Exception as error:  # of SQLAlchemy, its drivers, or a journal of something else
            raise RunError(
                f"Expected a storage that Optuna can open, got {storage or self.folder / JOURNAL}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Check the URL, or choose another --out."
            ) from error
        with self.exclusively():
            self._own(json.loads(json.dumps(owner)), storage)

    def _own(self, owner: dict[str, Any], storage: str | None) -> None:
        where = storage or self.folder / JOURNAL
        found = self.study.user_attrs.get(_OWNER)
        if found is None:
            if self.study.get_trials(deepcopy=False):
                raise RunError(
                    f"Expected a storage of this search, got {where}, whose study {self.study.study_name} another "
                    "program made. Choose another --storage or --out."
                )
            self.study.set_user_attr(_OWNER, owner)
            return
        if differs := [key for key in owner if found.get(key) != owner[key]]:
            raise RunError(
                f"Expected a storage of this search, got {where}, which a search with another "
                f"{listed(differs)} owns. Choose another --out, or repeat that search."
            )

    def __enter__(self) -> TrialStudy:
        self._alive.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self._alive.release()
        with contextlib.suppress(OSError):
            Path(self._alive.lock_file).unlink()

    @contextlib.contextmanager
    def exclusively(self, what: str = "ask") -> Iterator[None]:
        """Hold off the other processes of the folder."""
        with FileLock(self._locks / f"{what}.lock"):
            yield

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, also those that killed processes left."""
        return self.study.get_trials(deepcopy=False)

    @property
    def finished(self) -> list[FrozenTrial]:
        """The trials that count: each that ended, once."""
        trials = self.trials
        left = tried_again(trials)
        return [each for each in trials if each.state in FINISHED and each.number not in left]

    def begin(self, params: Mapping[str, Any]) -> None:
        """Try these parameters first, where there is no trial yet."""
        with self.exclusively():
            if params and not self.trials:
                self.study.enqueue_trial(dict(params))

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that were neither pruned nor failed, the best first."""
        found = [each for each in self.trials if each.state == TrialState.COMPLETE]
        return sorted(found, key=lambda each: (each.value, each.number))

    def ask(self, count: int, *, say: Callable[[str], None] = lambda line: None) -> Trial | None:
        """The next trial, or `None` where so many are finished or in other processes' hands.

        What a killed process left is marked as failed, and its parameters are tried again first.
        """
        with self.exclusively():
            self._reclaim(say)
            running = [each for each in self.trials if each.state == TrialState.RUNNING]
            if len(self.finished) + len(running) >= count:
                return None
            trial = self.study.ask()
            trial.set_user_attr(_WORKER, self.worker)
            return trial

    def give_up(self, trial: Trial) -> None:
        """Leave a trial that this process will not finish for later."""
        with self.exclusively():
            self._leave(self.trials[trial.number])

    @property
    def left(self) -> set[int]:
        """The numbers of the trials that processes left, and that are tried again under others."""
        return tried_again(self.trials)

    @property
    def others(self) -> list[FrozenTrial]:
        """Trials that other processes are at."""
        return [
            each
            for each in self.trials
            if each.state == TrialState.RUNNING and each.user_attrs.get(_WORKER) != self.worker
        ]

    def _reclaim(self, say: Callable[[str], None]) -> None:
        for each in self.trials:
            if each.state != TrialState.RUNNING or not self._is_left(each):
                continue
            self._leave(each)
            say(f"trial {each.number:<5}was left by a process that ended; it is tried again")

    def _leave(self, trial: FrozenTrial) -> None:
        if trial.number not in self.left:  # first, so that a process that is killed here loses nothing
            self.study.enqueue_trial(trial.params, user_attrs={_AGAIN: trial.number})
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Whether the process that a trial belongs to has ended."""
        worker = trial.user_attrs.get(_WORKER)
        if worker is None:
            begun = trial.datetime_start
            return begun is None or time.time() - begun.timestamp() > _FRESH or not self._others_alive()
        if worker == self.worker:
            return False
        path = self._locks / f"{worker}.lock"
        if path.exists():
            return not _is_held(path)
        # On another machine with a folder of its own nothing can be seen of it.
        return worker.startswith(f"{socket.gethostname()}-")

    def _others_alive(self) -> bool:
        paths = [path for path in self._locks.glob("*-*.lock") if path.stem != self.worker]
        return any(map(_is_held, paths))


def tried_again(trials: Iterable[FrozenTrial]) -> set[int]:
    """The numbers of the trials that processes left when they ended, and that are tried again under others."""
    return {each.user_attrs[_AGAIN] for each in trials if _AGAIN in each.user_attrs}


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock file."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _storage(folder: Path, url: str | None) -> Any:
    if url is not None:
        return url
    path = folder / JOURNAL
    lock_class = JournalFileOpenLock if os.name == "nt" else JournalFileSymlinkLock
    lock = lock_class(str(path), grace_period=_LOCKED)
    if path.exists():
        lock.acquire()
        try:
            repair_journal(path)
        finally:
            lock.release()
    return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def repair_journal(path: PathLike) -> bool:
    """Cut off the last line of a journal where it is not whole, as a full disk leaves it; whether it was so.

    Example:

        repair_journal("search/journal.log")
    """
    with open(path, "rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return False
        file.truncate(whole)
    return True


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """The values of a trial, by the name of each parameter."""
    drawn: dict[str, Any] = {}
    for name, values in space.parameters.items():
        if not isinstance(values, Range):
            drawn[name] = trial.suggest_categorical(name, [_plain(each) for each in values.options])
        elif values.is_whole:
            step = int(values.step or 1)
            high = int(values.low) + (int(values.high) - int(values.low)) // step * step
            drawn[name] = trial.suggest_int(name, int(values.low), high, step=step, log=values.log)
        else:
            drawn[name] = trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)
    return values_of_trial(drawn, space)


def values_of_trial(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The values that the parameters of a trial stand for."""
    found = {}
    for name, value in params.items():
        values = space.parameters[name]
        if not isinstance(values, Range):
            value = next(each for each in values.options if _same(_plain(each), value))
        found[name] = value
    return found


def params_of(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Values of a space as the parameters of a trial."""
    return {
        name: value if isinstance(space.parameters[name], Range) else _plain(value)
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    return (
        value
        if value is None or isinstance(value, bool | int | float | str)
        else json.dumps(value, sort_keys=True)
    )


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _place(study: optuna.Study, trial: FrozenTrial) -> int:
    """The number of trials before one, each that is tried again counted once."""
    trials = study.get_trials(deepcopy=False)
    left = tried_again(trials)
    return sum(each.number < trial.number and each.number not in left for each in trials)


class _Grid(optuna.samplers.BaseSampler):
    """The points of a grid in an order that follows from the seed, one a trial."""

    def __init__(self, grid: Mapping[str, list[Any]], seed: int) -> None:
        self._grid, self._sizes = grid, [len(values) for values in grid.values()]
        self._order = np.random.default_rng(seed).permutation(math.prod(self._sizes))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        point = self._order[_place(study, trial) % len(self._order)]
        places = dict(zip(self._grid, np.unravel_index(point, self._sizes), strict=True))
        return self._grid[param_name][int(places[param_name])]


class _ByNumber(optuna.samplers.BaseSampler):
    """Draws of a trial follow from the seed and how many trials counted before it, not from the process."""

    def __init__(self, make: Callable[[int], optuna.samplers.BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._of: tuple[int, optuna.samplers.BaseSampler] | None = None

    def _sampler(self, study: optuna.Study, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if self._of is None or self._of[0] != trial.number:
            self._of = trial.number, self._make((self._seed * 100_003 + _place(study, trial)) % 2**32)
        return self._of[1]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return self._sampler(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return self._sampler(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler(study, trial).sample_independent(study, trial, param_name, param_distribution)


def make_sampler(name: str, space: Space, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """A sampler by name.

    Args:
        name: One of `SAMPLERS`.
        space: What is searched.
        seed: Of the draws.
        trials: How many there are to be; TPE draws the first quarter at random, at least 5.

    Raises:
        RecipeError: The grid of a space cannot be.
    """
    if name == "grid":
        grid = {name: [_plain(each) for each in values] for name, values in space.grid().items()}
        return _Grid(grid, seed)
    if name == "random":
        return _ByNumber(lambda number: optuna.samplers.RandomSampler(seed=number), seed)
    startup = max(5, trials // 4)

    def tpe(number: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that options are experimental
            return optuna.samplers.TPESampler(
                seed=number, n_startup_trials=startup, multivariate=True, constant_liar=True
            )

    return _ByNumber(tpe, seed)


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """A pruner by name.

    Args:
        name: One of `PRUNERS`: successive halving (Li et al. 2020, a third goes on after epochs 1, 3, 9), Hyperband (Li
            et al. 2018), those worse than the median, or none.
        epochs: The most that a trial has.
    """
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max(1, epochs), reduction_factor=3)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    return optuna.pruners.NopPruner()
