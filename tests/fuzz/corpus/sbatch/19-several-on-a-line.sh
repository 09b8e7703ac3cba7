#!/bin/bash
#SBATCH -N2 -n 5 -p'gpu' --gres=gpu:v100:2,nvme:1  # all in one
#SBATCH -HQ --nice=100 -x n9
#SBATCH --spread-job -t UNLIMITED
hostname
