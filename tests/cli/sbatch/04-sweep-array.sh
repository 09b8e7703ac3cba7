#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=0-31%4
#SBATCH --gpus=1
#SBATCH --time=90
lrs=(1e-4 3e-4 1e-3 3e-3)
python sweep.py --lr "${lrs[$((SLURM_ARRAY_TASK_ID % 4))]}" --seed $((SLURM_ARRAY_TASK_ID / 4))
