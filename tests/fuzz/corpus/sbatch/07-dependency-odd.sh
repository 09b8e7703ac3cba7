#!/bin/bash
#SBATCH -J late
#SBATCH -d singleton,afterok:prep,aftercorr:77,after:80+30
python late.py
