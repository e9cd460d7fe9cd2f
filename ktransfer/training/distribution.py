"""Data-parallel training on several devices, of one process or of several: Keras' own distribution on JAX."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from ktransfer.data.rebatching import rows_of_process, split_batches
from ktransfer.errors import RecipeError, RunError
from ktransfer.security.safe_io import visible
from ktransfer.utils.processes import Processes, find_processes

START_SECONDS = 120  # that the coordinator may take to answer
_LOST_SECONDS = 30  # after which a process that does not answer is lost


class SplitBatches(keras.distribution.DataParallel):
    """Data parallelism whose batches are split over the devices in `fit`, and whole on each device elsewhere.

    What runs outside of `fit`, such as the frozen pass and evaluation, has the same result on every process and needs
    no exchange. Of a single process those batches are split too, where their size is a multiple of the devices'.

    Args:
        devices: As `keras.distribution.list_devices` names them.
        processes: How many processes there are.
        index: Which of them this is.
    """

    def __init__(self, devices: list[str], processes: int, index: int) -> None:
        super().__init__(devices=devices, auto_shard_dataset=False)
        self.processes, self.index = processes, index
        self._split = False

    @property
    def count(self) -> int:
        """The number of devices."""
        return int(self.device_mesh.devices.size)

    def get_data_layout(self, data_shape: Any) -> Any:
        """The layout of a batch: split along its first axis, or whole."""
        if self._split or (self.processes == 1 and data_shape and data_shape[0] % self.count == 0):
            return super().get_data_layout(data_shape)
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    @contextlib.contextmanager
    def splitting(self) -> Iterator[None]:
        """Split every batch: to be entered for `fit`, whose data is what `split_data` returns."""
        before, self._split = self._split, True
        try:
            yield
        finally:
            self._split = before


def current() -> SplitBatches | None:
    """The distribution that `start` has set, if any."""
    found = keras.distribution.distribution()
    return found if isinstance(found, SplitBatches) else None


def is_first() -> bool:
    """Whether this process is the one that writes, reports and exports.

    Example:
        >>> is_first()
        True
    """
    found = current()
    return found is None or found.index == 0


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Split batches over the devices while `fit` runs; an error of another process becomes one message.

    Raises:
        RunError: Another process was lost.
    """
    found = current()
    if found is None:
        yield
        return
    with found.splitting(), _other_processes(found.processes):
        yield


def split_data(data: Any) -> Any:
    """The rows of batches that the devices of this process take; the data as it is without a distribution.

    A batch whose size is no multiple of the number of devices is repeated until it is: the mean over it, and so the
    loss and the step, stay the same.

    Args:
        data: `tf.data.Dataset` or `keras.utils.PyDataset` of batches.

    Example:
        >>> split_data([1, 2])
        [1, 2]
    """
    found = current()
    if found is None or data is None:
        return data
    if isinstance(data, keras.utils.PyDataset):
        return _SplitRows(data, found)
    return split_batches(data, devices=found.count, processes=found.processes, index=found.index)


class _SplitRows(keras.utils.PyDataset):
    """The rows of this process of each batch."""

    def __init__(self, data: keras.utils.PyDataset, distribution: SplitBatches) -> None:
        super().__init__()
        self._data, self._of = data, distribution

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        batch, of = self._data[index], self._of
        size = len(keras.tree.flatten(batch)[0])
        rows = rows_of_process(size, devices=of.count, processes=of.processes, index=of.index)
        return keras.tree.map_structure(lambda array: array[rows], batch)


def start(devices: str, *, batch_size: int | None = None, seconds: float = START_SECONDS) -> list[str]:
    """Set the distribution for the models that are built from now on.

    Args:
        devices: `"all"`, or how many of this host's.
        batch_size: Examples a step, of all devices together; `None` if it is not known yet.
        seconds: That the other processes may take to begin.

    Returns:
        Lines for the log.

    Raises:
        RunError: The backend cannot do it, there are fewer devices, or the coordinator does not answer.
        RecipeError: A batch is smaller than the number of devices.

    Example:

        start("all")   # ["devices    2 (cpu), data parallel by Keras on JAX"]
    """
    if keras.backend.backend() != "jax":
        raise RunError(
            f"Expected KERAS_BACKEND=jax for --devices, got {keras.backend.backend()}. Set it: a run that is "
            "trained on JAX is exported by TensorFlow all the same."
        )
    processes = find_processes(os.environ)
    lines = []
    if processes is not None:
        if devices != "all":
            raise RunError(
                f"Expected --devices all with {processes.count} processes, got {devices}. Choose devices by "
                "CUDA_VISIBLE_DEVICES, and processes by the launcher."
            )
        lines.append(f"processes  {processes.line()}")
        _connect(processes, seconds)
    found = keras.distribution.list_devices()
    count, index = (1, 0) if processes is None else (processes.count, processes.index)
    if devices != "all":
        if not devices.isdecimal() or not 1 <= int(devices) <= len(found):
            raise RunError(
                f"Expected --devices all or a number from 1 to {len(found)}, got {devices}. These are the devices that "
                f"JAX has: {', '.join(found[:8])}."
            )
        found = found[: int(devices)]
    require_batch(batch_size, len(found))
    keras.distribution.set_distribution(SplitBatches(found, count, index))
    lines.append(f"devices    {len(found)} ({found[0].partition(':')[0]}), data parallel by Keras on JAX")
    return lines


def batch_of_all(each: int, asked: int | None = None) -> tuple[int, str]:
    """The batch size of all devices together, and a line about it for the log.

    Args:
        each: Examples a step of one device.
        asked: The batch size that was asked for as well. Defaults to `None`.

    Raises:
        RecipeError: The two contradict each other.

    Example:
        >>> batch_of_all(16)[0]
        16
    """
    found = current()
    devices = 1 if found is None else found.count
    total = each * devices
    if asked is not None and asked != total:
        raise RecipeError(
            f"Expected --batch-size {total}, which is {each} on each of {devices} devices, got {asked}. Leave one out."
        )
    return total, (
        f"batch      {total} = {each} x {devices} devices; learning rates stay the recipe's (linear scaling: with SGD, "
        "multiply them by as much as the batch grows)"
    )


def require_batch(batch_size: int | None, devices: int) -> None:
    """Raise `RecipeError` where a batch has fewer examples than there are devices.

    Example:
        >>> require_batch(32, 8)
    """
    if batch_size is not None and batch_size < devices:
        raise RecipeError(
            f"Expected at least one example for each of {devices} devices in a batch, got a batch size of "
            f"{batch_size}. Set a larger batch_size in the recipe, or pass fewer --devices."
        )


def require_same_everywhere(facts: Mapping[str, str]) -> None:
    """Compare facts of all processes, so that all of them end where one differs.

    Args:
        facts: By their name; the same names on all processes.

    Raises:
        RunError: A process has another value; the message names it and the fact.

    Example:
        >>> require_same_everywhere({"data": "9f2c"})
    """
    found = current()
    if found is None or found.processes == 1:
        return
    from jax.experimental import multihost_utils

    digests = [
        np.frombuffer(hashlib.sha256(facts[name].encode()).digest(), np.uint8) for name in sorted(facts)
    ]
    with _other_processes(found.processes):
        everywhere = np.asarray(multihost_utils.process_allgather(np.stack(digests)))
    for at, name in enumerate(sorted(facts)):
        others = [
            index for index, digest in enumerate(everywhere[:, at]) if (digest != everywhere[0, at]).any()
        ]
        if others:
            which = ", ".join(map(str, others[:5]))
            own = visible(facts[name])
            shown = f" Here, in process {found.index}, it is {own:.120}." if len(own) <= 120 else ""
            raise RunError(
                f"Expected the same {name} on all {found.processes} processes, got another one on process {which} than "
                f"on process 0.{shown} Use the same versions, options and data everywhere."
            )


def _connect(processes: Processes, seconds: float) -> None:
    import jax

    host, _, port = processes.coordinator.rpartition(":")
    if processes.index:
        _await(host, int(port), seconds)
    try:
        # Keras' own `initialize` calls this one, without its time limits.
        jax.distributed.initialize(
            processes.coordinator,
            processes.count,
            processes.index,
            initialization_timeout=max(1, round(seconds)),
            heartbeat_timeout_seconds=_LOST_SECONDS,
            shutdown_timeout_seconds=_LOST_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = visible(" ".join(str(error).split()))[:160].rstrip(".")
        raise RunError(
            f"Expected {processes.count} processes to begin within {seconds:g} seconds, got {reason}. Start all of "
            f"them, and let them reach {processes.coordinator}."
        ) from error


def _await(host: str, port: int, seconds: float) -> None:
    """Wait until the coordinator listens; JAX itself would end the process without a message."""
    end, reason = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=max(0.1, min(5, end - time.monotonic()))).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.2)
    raise RunError(
        f"Expected the coordinator at {host}:{port} to answer within {seconds:g} seconds, got {reason or 'no answer'}. "
        "Start process 0, and open that port between the machines."
    )


@contextlib.contextmanager
def _other_processes(count: int) -> Iterator[None]:
    """One message where an exchange between processes fails."""
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # On CPUs it is a ValueError, with the name of the library that exchanges.
        exchanged = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if count == 1 or not exchanged:
            raise
        reason = visible(" ".join(str(error).split()))[:200].rstrip(".")
        raise RunError(
            f"Expected all {count} processes to go on, got one that was lost ({reason}). Start all of them again with "
            "--resume."
        ) from error
