# shellcheck shell=bash
# Functions that the batch scripts share; each of them sources it first. The same scripts run without SLURM.
#
# Shortly before a job's time limit SLURM sends SIGUSR1 to its script (--signal=B:USR1@120). The script passes it
# to the processes of the running step: training saves and ends; a filter ends, and its output so far is kept.
# Then the job queues itself again and resumes. It does the same after exit code 75, with which training ends
# after a signal, and if a training breaks off that has saved since it began: a node failed, a process was killed.
set -Eeuo pipefail
trap 'say "failed at line $LINENO of $0"' ERR
# shellcheck source=settings.sh
source "$SETTINGS"
requested=''
# A task of an array needs both its numbers: the id of one of the tasks is also the whole array's.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-${SLURM_JOB_ID:-}}
trap 'requested=yes' USR1

say() { echo "$(date '+%F %T') ${SLURM_JOB_NAME:-here}${SLURM_ARRAY_TASK_ID:+ $SLURM_ARRAY_TASK_ID}: $*" >&2; }

# Run a command as a step of the job, on TASKS nodes. If it fails, the script ends or the job is queued again.
step() {
  local code=0 running srun=()
  if [[ -n ${SLURM_JOB_ID:-} ]]; then
    srun=(srun --ntasks="${TASKS:-1}" --ntasks-per-node=1 --kill-on-bad-exit=1)
    srun+=(--cpus-per-task="${SLURM_CPUS_PER_TASK:-1}")
  fi
  [[ -z $requested ]] || again
  say "$*"
  "${srun[@]}" "${RUN[@]}" "$@" &
  running=$!
  while kill -0 "$running" 2>/dev/null; do
    if [[ -z $requested ]]; then
      wait "$running" || true # until the step ends or a signal arrives
    else
      scancel --signal=USR1 "$job" || say "cannot signal the step; trying again soon"
      sleep 3
    fi
  done
  wait "$running" || code=$?
  ((code == 0)) && return
  say "ended with exit code $code"
  if [[ -n $requested || $code -eq 75 ]] || got_on; then again; fi
  exit "$code"
}

# True if training has saved since this run of the script began.
got_on() { [[ -n ${FOLDER:-} && $FOLDER/resume.safetensors -nt $FOLDER/started ]]; }

# Queue this job again, to resume.
again() {
  [[ -n ${SLURM_JOB_ID:-} ]] || exit 75
  if ((${SLURM_RESTART_COUNT:-0} >= MOST_RESTARTS)); then
    say "stopped after $MOST_RESTARTS restarts; submit it again, or see MOST_RESTARTS"
    exit 75
  fi
  say "requeued, continues after a restart"
  scontrol requeue "$job"
  sleep 60 # SLURM ends this run of the script
  exit 75
}

# Print the shard of this task in an array of $1 tasks, in the form of --shard; and its file in folder $1, of $2.
share() { echo "${SLURM_ARRAY_TASK_ID:-1}/$1"; }
part() { echo "$1/part-${SLURM_ARRAY_TASK_ID:-1}-of-$2.jsonl"; }

# Join the $2 shards of $1, which are in a folder of the same name, in the order of the filter's input $3.
join_shards() {
  local parts=() n
  for ((n = 1; n <= $2; n++)); do parts+=("${1%.jsonl}/part-$n-of-$2.jsonl"); done
  step medground join-shards "${parts[@]}" --like "$3" --missing-ok -o "$1"
}

# train FOLDER COMMAND...: with PROCESSES processes on each of NODES nodes, resuming from FOLDER's last save.
# torchrun itself must not end by SIGUSR1; its processes handle the signal.
train() {
  local port=$((20000 + ${SLURM_JOB_ID:-$$} % 20000)) host=localhost
  FOLDER=$1
  shift
  mkdir -p "$FOLDER"
  touch "$FOLDER/started"
  [[ -z ${SLURM_JOB_NODELIST:-} ]] || host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  export OMP_NUM_THREADS=$TRAIN_CORES
  # shellcheck disable=SC2016
  TASKS=$NODES step bash -c 'trap "" USR1; exec "$@"' train torchrun \
    --nnodes="$NODES" --nproc-per-node="$PROCESSES" --max-restarts=0 \
    --rdzv-backend=c10d --rdzv-endpoint="$host:$port" --rdzv-id="${SLURM_JOB_ID:-$$}" \
    --no-python medground -v "$@" -o "$FOLDER"
}
