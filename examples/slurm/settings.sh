# shellcheck shell=bash disable=SC2034
# Sizes and places for the batch scripts of this folder: copy this file, change what differs, and give it to
# `submit`. Times and memory fit MIMIC-CXR with a margin (docs/cluster.md has the measurements).

# Paths. Credentialed data are only read; all output goes under WORK.
REPORTS=/data/mimic-cxr/mimic-cxr-reports.zip # or mimic_cxr_sectioned.csv, or a folder
JPG=/data/mimic-cxr-jpg                       # mimic-cxr-2.0.0-metadata.csv, -split.csv and files/
IMAGENOME=/data/chest-imagenome-1.0.0         # its boxes train the detector
MS_CXR=/data/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv
WORK=$PWD/work

# The call of medground. With a container: RUN=(apptainer exec --nv medground.sif)
PATH=$PWD/.venv/bin:$PATH
RUN=()

# Options of sbatch for every job, and more for those with a GPU.
SBATCH=(--partition=main)
GPU=(--gres=gpu:1)

# Array jobs: shards, cores, memory and time of each.
PARSE_SHARDS=4 PARSE_CORES=4 PARSE_MEMORY=8G PARSE_TIME=00:30:00
DETECT_SHARDS=16 DETECT_CORES=8 DETECT_MEMORY=16G DETECT_TIME=04:00:00
CACHE_SHARDS=16 CACHE_CORES=8 CACHE_MEMORY=16G CACHE_TIME=04:00:00
GROUND_SHARDS=4 GROUND_CORES=4 GROUND_MEMORY=16G GROUND_TIME=01:00:00

# Jobs of one process: conversion, joining, alignment, evaluation.
ONE_CORES=2 ONE_MEMORY=16G ONE_TIME=02:00:00

# Training: nodes, processes on each (one per GPU), and cores for each process.
DETECTOR_STEPS=20000 DETECTOR_SIZE=192 DETECTOR_MEMORY=64G DETECTOR_TIME=12:00:00
NODES=2 PROCESSES=4 TRAIN_GPU=(--gres=gpu:4) TRAIN_CORES=8 TRAIN_MEMORY=256G TRAIN_TIME=24:00:00
PRETRAIN=(--model-size paper --steps 40000 --batch-size 64 --precision bf16 --save-every 500)
FINETUNE=(--model-size paper --steps 2000 --batch-size 64 --precision bf16 --save-every 100)
CACHE_SIZE=640 # input size of the model of --model-size: small 160, paper 640
ALIGN=(--existence present)
EVALUATE=()

# How often at most a job that is stopped before its end queues itself again.
MOST_RESTARTS=50
