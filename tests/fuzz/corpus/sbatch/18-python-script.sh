#!/usr/bin/env python3
#SBATCH -J py
#SBATCH -G 1
#SBATCH --mem=0
print("a job of its own")
