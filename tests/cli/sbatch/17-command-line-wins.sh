#!/bin/bash
#SBATCH --job-name=base
#SBATCH --nodes=1
#SBATCH --time=1:00:00
#SBATCH --gres=gpu:2
python train.py "$@"
