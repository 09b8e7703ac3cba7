#!/bin/bash
#SBATCH --job-name=resnet50
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=512G
#SBATCH --time=12:00:00
#SBATCH --partition=a100

source ~/venv/bin/activate
torchrun --nproc_per_node=8 train.py --resume "$RESUME_CHECKPOINT"
