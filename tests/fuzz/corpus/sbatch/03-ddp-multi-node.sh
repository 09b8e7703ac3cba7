#!/bin/bash
#SBATCH -J llama-sft
#SBATCH -N 4
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:h100:8
#SBATCH -c 12
#SBATCH -t 2-00:00:00
#SBATCH -p h100
#SBATCH -A nlp
#SBATCH -o logs/%x-%j.out
#SBATCH -e logs/%x-%j.err

export MASTER_PORT=29500
srun python train.py
