#!/bin/bash -l
#SBATCH --job-name=noted
#SBATCH --comment="run for the paper"
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=ann@example.org
#SBATCH --qos=high
#SBATCH --reservation=paper
#SBATCH --partition=a100,h100
#SBATCH --chdir=/scratch/ann
##SBATCH --nodes=9
python paper.py
