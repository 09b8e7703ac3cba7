#!/bin/bash
#SBATCH -J moe
#SBATCH -N 2-4
#SBATCH -G a100:15
#SBATCH --cpus-per-gpu=8
#SBATCH --mem-per-gpu=100000M
#SBATCH --ntasks-per-gpu=1
python moe.py
