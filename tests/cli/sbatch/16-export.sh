#!/usr/bin/env bash
#SBATCH --job-name=exported
#SBATCH --export=NONE,DATASET=c4,HOME_OF=ann,NOT_SET
#SBATCH -w n7
#SBATCH --unknown-thing 3
#SBATCH --frobnicate=yes -t 10
echo "$DATASET"
#SBATCH --nodes=4
