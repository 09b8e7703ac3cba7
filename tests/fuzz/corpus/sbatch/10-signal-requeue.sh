#!/bin/bash
#SBATCH --job-name=preempt-me
#SBATCH --requeue
#SBATCH --signal=B:USR1@90
#SBATCH --open-mode=append
#SBATCH --gpus-per-node=4
trap 'touch save.now' USR1
python train.py &
wait
