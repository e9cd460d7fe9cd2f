"""Which processes the variables of each launcher describe."""

import pytest

from ktransfer.errors import RunError
from ktransfer.utils.processes import Processes, find_processes

KERAS = {
    "KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.1:1234,10.0.0.2:2345",
    "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    "KERAS_DISTRIBUTION_PROCESS_ID": "1",
}
SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_ID": "4097"}
JOBSET = {"JAX_COORDINATOR_ADDRESS": "a-0.a:999", "NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "0"}
KUBEFLOW = {
    "COORDINATOR_ADDRESS": "job-0",
    "COORDINATOR_PORT": "6666",
    "NUM_PROCESSES": "3",
    "PROCESS_ID": "2",
}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (KERAS, Processes("10.0.0.1:1234", 2, 1, "Keras")),
        (JOBSET, Processes("a-0.a:999", 2, 0, "JobSet")),
        (KUBEFLOW, Processes("job-0:6666", 3, 2, "Kubeflow")),
        (MPI, Processes(f"10.96.0.1:{61440 + 1531576320 % 4096}", 2, 1, "Open MPI")),
        (SLURM | {"SLURM_STEP_NODELIST": "n7"}, Processes("n7:61441", 4, 3, "SLURM")),
        (KERAS | SLURM, Processes("10.0.0.1:1234", 2, 1, "Keras")),
        (MPI | {"KERAS_DISTRIBUTION_JOB_ADDRESSES": "h:1"}, Processes("h:1", 2, 1, "Open MPI")),
    ],
)
def test_each_launcher_is_known_by_its_variables(environ, expected):
    assert find_processes(environ) == expected


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("n[07-09],m", "n07"), ("n[3,5]", "n3"), ("gpu-[01-02]-a", "gpu-01-a")],
)
def test_the_first_node_of_a_list_is_the_coordinator(nodes, first):
    assert find_processes(SLURM | {"SLURM_STEP_NODELIST": nodes}).coordinator == f"{first}:61441"


@pytest.mark.parametrize(
    "environ",
    [{}, {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {"SLURM_JOB_ID": "7"}, {"NUM_PROCESSES": "4"}],
)
def test_one_process_needs_no_others(environ):
    assert find_processes(environ) is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (KERAS | {"KERAS_DISTRIBUTION_PROCESS_ID": "2"}, "a process from 0 to 1, got 2"),
        (
            KERAS | {"KERAS_DISTRIBUTION_NUM_PROCESSES": "two"},
            "a whole number in KERAS_DISTRIBUTION_NUM_PROCESSES",
        ),
        (KERAS | {"KERAS_DISTRIBUTION_JOB_ADDRESSES": "host"}, "as host:port, got 'host'"),
        (SLURM, "the address of the first process by the variables of SLURM"),
        (MPI | {"OMPI_MCA_orte_hnp_uri": ""}, "by the variables of Open MPI, got none"),
    ],
)
def test_variables_that_do_not_fit_are_refused(environ, message):
    with pytest.raises(RunError, match=message):
        find_processes(environ)
