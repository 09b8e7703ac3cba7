#!/bin/bash
#SBATCH --job-name=cfd
#SBATCH --ntasks=64
#SBATCH --ntasks-per-node=16
#SBATCH --mem-per-cpu=2G
#SBATCH --constraint="ib&skylake"
#SBATCH --exclude=n[01-03,7],gpu5
#SBATCH --exclusive
module load openmpi
mpirun --hostfile "$TUTTI_HOSTFILE" ./solver
