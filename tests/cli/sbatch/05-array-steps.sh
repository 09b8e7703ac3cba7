#!/bin/bash
# a list with a step, and no limit of how many at once
#SBATCH -a 1,3,10-20:5
#SBATCH -J eval
./eval.sh
