#!/bin/bash
#SBATCH --job-name=nightly
#SBATCH --begin=now+2hours
#SBATCH --deadline=2026-12-24T08:00
#SBATCH --time=1-12
python nightly.py
