#!/usr/bin/env bash
# Train one model on two nodes of four GPUs: sbatch slurm.sh DATA BACKBONE OUT
# The run folder and the data lie on a file system that the nodes share.
#SBATCH --job-name=ktransfer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail
export KERAS_BACKEND=jax
# A requeued job resumes the run; SLURM's variables say which process this is.
srun --kill-on-bad-exit=1 ktransfer train "$1" --backbone "$2" --out "$3" --devices all --resume
