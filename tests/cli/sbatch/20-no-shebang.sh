#SBATCH -t 0:30 -J bare --nodelist=n[1-2] -N 2
#SBATCH -i data.txt -D work
hostname
