#!/bin/bash
#SBATCH -J pp
#SBATCH -N 2
#SBATCH -n 4
#SBATCH --gpus-per-task=2
#SBATCH --cpus-per-task=16
#SBATCH --gpu-bind=closest
srun --mpi=pmix ./pp
