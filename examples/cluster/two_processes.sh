#!/usr/bin/env bash
# Train one model by two processes on this machine: DATA BACKBONE OUT, and any further options of `ktransfer train`.
# On several machines start the same on each, with the address of the first one and ids from 0 on.
set -euo pipefail
data=$1 backbone=$2 out=$3
shift 3
export KERAS_BACKEND=jax
export KERAS_DISTRIBUTION_JOB_ADDRESSES=127.0.0.1:${PORT:-61440}
export KERAS_DISTRIBUTION_NUM_PROCESSES=${PROCESSES:-2}
pids=()
for ((id = 0; id < KERAS_DISTRIBUTION_NUM_PROCESSES; id++)); do
    KERAS_DISTRIBUTION_PROCESS_ID=$id "${PYTHON:-python}" -m ktransfer train "$data" --backbone "$backbone" \
        --out "$out" --devices all "$@" &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
