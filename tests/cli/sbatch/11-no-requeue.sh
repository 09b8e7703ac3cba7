#!/bin/bash
#SBATCH -J once
#SBATCH --no-requeue
#SBATCH --signal=SIGTERM@120
python once.py
