"""The processes that a launcher has started, by the environment variables that it sets for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ktransfer.errors import RunError

_FIRST_PORT, _PORTS = 61_440, 4_096  # of the ports that systems lend, those that SLURM's own leave free


@dataclass(frozen=True)
class Processes:
    """Processes that train one model.

    Args:
        coordinator: `host:port` of the first process.
        count: How many there are.
        index: Which of them this is, from 0 on.
        launcher: Which launcher's variables say it.

    Raises:
        RunError: The index is none of these, or the address has no port.

    Example:
        >>> Processes("10.0.0.1:1234", 2, 0, "SLURM").line()
        'SLURM: process 0 of 2, coordinator 10.0.0.1:1234'
    """

    coordinator: str
    count: int
    index: int
    launcher: str

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise RunError(
                f"Expected a process from 0 to {self.count - 1}, got {self.index} by the variables of {self.launcher}. "
                "Start as many processes as they say."
            )
        if not re.fullmatch(r".+:\d+", self.coordinator):
            raise RunError(
                f"Expected the address of the coordinator as host:port, got {self.coordinator!r} by the variables of "
                f"{self.launcher}. Set KERAS_DISTRIBUTION_JOB_ADDRESSES."
            )

    def line(self) -> str:
        """A line about them for the log."""
        return f"{self.launcher}: process {self.index} of {self.count}, coordinator {self.coordinator}"


def find_processes(environ: Mapping[str, str]) -> Processes | None:
    """The processes that environment variables describe; `None` where there is one only.

    Looked for in this order: Keras' own variables, Kubeflow's, those of an indexed job (JobSet), SLURM's, Open MPI's.

    Args:
        environ: Such as `os.environ`.

    Raises:
        RunError: A variable is not there or no number.

    Example:
        >>> slurm = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "n[07-08]", "SLURM_JOB_ID": "5"}
        >>> find_processes(slurm)
        Processes(coordinator='n07:61445', count=2, index=1, launcher='SLURM')
    """
    for launcher, (count, index) in _LAUNCHERS.items():
        counts = [environ[name] for name in count if environ.get(name)]
        indices = [environ[name] for name in index if environ.get(name)]
        if not counts or not indices:
            continue
        number = _number(counts[0], count[0])
        if number > 1:
            coordinator = _coordinator(environ, launcher)
            return Processes(coordinator, number, _number(indices[0], index[0]), launcher)
    return None


# By launcher the variables of how many processes there are, and of which one this is.
_LAUNCHERS = {
    "Keras": (("KERAS_DISTRIBUTION_NUM_PROCESSES",), ("KERAS_DISTRIBUTION_PROCESS_ID",)),
    "Kubeflow": (("NUM_PROCESSES", "PET_NNODES"), ("PROCESS_ID", "PET_NODE_RANK")),
    "JobSet": (("NUM_PROCESSES", "JAX_NUM_PROCESSES"), ("JOB_COMPLETION_INDEX",)),
    "SLURM": (("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), ("SLURM_PROCID",)),
    "Open MPI": (("OMPI_COMM_WORLD_SIZE",), ("OMPI_COMM_WORLD_RANK",)),
}


def _coordinator(environ: Mapping[str, str], launcher: str) -> str:
    given = environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES") or environ.get("JAX_COORDINATOR_ADDRESS")
    port = environ.get("COORDINATOR_PORT") or environ.get("JAX_COORDINATOR_PORT")
    if given:
        first = given.split(",")[0].strip()
        return first if ":" in first or not port else f"{first}:{port}"
    if address := environ.get("COORDINATOR_ADDRESS"):
        return address if ":" in address else f"{address}:{port or _FIRST_PORT}"
    if launcher == "SLURM":
        nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
        if nodes:
            return f"{_first_host(nodes)}:{_port(environ.get('SLURM_JOB_ID', '0'))}"
    if launcher == "Open MPI":
        # Such as 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911
        found = re.search(r"(\d+)\.\d+;tcp4?://([^,:;]+)", environ.get("OMPI_MCA_orte_hnp_uri", ""))
        if found:
            return f"{found[2]}:{_port(found[1])}"
    raise RunError(
        f"Expected the address of the first process by the variables of {launcher}, got none. Set "
        "KERAS_DISTRIBUTION_JOB_ADDRESSES=host:port for all processes."
    )


def _port(job: str) -> int:
    """A port that the processes of one job agree on."""
    digits = re.sub(r"\D", "", job) or "0"
    return _FIRST_PORT + int(digits) % _PORTS


def _first_host(nodes: str) -> str:
    """The first of a list of nodes as SLURM writes it, such as `n[07-09,12],login`."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)
    return nodes if found is None else f"{found[1]}{found[2] or ''}{found[3]}"


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"\d+", text.strip()):
        raise RunError(f"Expected a whole number in {name}, got {text!r:.40}. Set it to one.")
    return int(text)
