#!/bin/bash
#SBATCH --job-name=stage-2
#SBATCH --dependency=afterok:123:124,afterany:130,afternotok:140,after:150
#SBATCH --time=30:00
python stage2.py
