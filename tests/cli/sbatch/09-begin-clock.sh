#!/bin/bash
#SBATCH -J clock
#SBATCH -b 16:30
#SBATCH -t 2-12:30
python clock.py
