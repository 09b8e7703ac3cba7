#!/bin/sh
#SBATCH --job-name=hello
nvidia-smi
