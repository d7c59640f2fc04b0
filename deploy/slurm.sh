#!/usr/bin/env bash
# The images of a file of prompts, by the eight tasks of an array:
#
#     sbatch deploy/slurm.sh prompts.jsonl images --model Sana_1600M_1024px_BF16_diffusers
#
# What follows the two names are options of `sana generate`. The folder is one that all nodes reach. A task that
# ran out of time continues when the same command is given again: images that exist are skipped.
#SBATCH --job-name=sana-images
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail
prompts=$1 folder=$2
shift 2
exec sana generate --prompts "$prompts" --out "$folder" --threads "${SLURM_CPUS_PER_TASK:-1}" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" "$@"
