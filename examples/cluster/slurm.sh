#!/usr/bin/env bash
# A search on the nodes of one SLURM job: sbatch examples/cluster/slurm.sh
# Ray's head and the driver run on the first node, trials on all of them.  When the time is nearly over the trials pause and the job is
# queued again; it goes on where they were, as it does after a preemption, or when it is submitted once more.  scancel ends it for good.
#SBATCH --job-name=depth-automl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
# whole nodes: Ray takes ports, and without --mem many sites give a job a few GB
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
# seconds before the end: longer than an epoch, or what it was training is trained again
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
driver='' again=''
trap 'again=yes; [ -z "$driver" ] || kill -TERM "$driver" || true' USR1
trap '[ -n "$driver" ] || exit 143; kill -TERM "$driver" || true' TERM

# what is yours: the environment of the product (the same path on every node), the spec, a folder that all nodes share
VENV=${VENV:-$HOME/depth-automl/.venv}
SPEC=${SPEC:-$PWD/stereo.yaml}
RESULTS=${RESULTS:-$PWD/results/stereo}
PORT=${PORT:-$((20000 + SLURM_JOB_ID % 10000))}

export PATH="$VENV/bin:$PATH" OMP_WAIT_POLICY=PASSIVE RAY_USAGE_STATS_ENABLED=0
# Ray's ports are open to everybody on the network: without the token nobody may use them
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')

# Ray opens a connection for each pair of processes that talk
ulimit -n "$(ulimit -Hn)" || true

# this script runs on the first of them; its name may stand for 127.0.1.1 here
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${HEAD_IP:-$(hostname --all-ip-addresses | tr ' ' '\n' | grep --max-count=1 --fixed-strings .)}
gpus=${SLURM_GPUS_ON_NODE:-0}
# sockets in it have a length limit, and other jobs of the node may have one too
scratch=/tmp/ray-$SLURM_JOB_ID

start() {  # on the node $1, with the rest as arguments of `ray start`
    local node=$1
    shift
    # srun takes the job's --cpus-per-task no more by itself, and would bind all trials to one core; nothing large goes through Ray's store
    srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap --cpus-per-task="$SLURM_CPUS_PER_TASK" --mem=0 \
        ray start --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --object-store-memory=1000000000 --block "$@" &
}

start "${nodes[0]}" --head --node-ip-address="$head" --port="$PORT" --temp-dir="$scratch" --include-dashboard=false
ray_head=$!
until ray status --address="$head:$PORT" >/dev/null 2>&1; do
    kill -0 "$ray_head" 2>/dev/null || { echo "error: Ray's head ended; its words stand above" >&2; exit 1; }
    sleep 2
done
for node in "${nodes[@]:1}"; do start "$node" --address="$head:$PORT"; done
# a node that comes later joins the search, but the trials at once are counted when it starts
alive="import ray; ray.init('$head:$PORT', log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
for _ in {1..60}; do
    [ -n "$again" ] && break
    [ "$(python3 -c "$alive" 2>/dev/null || echo 0)" -ge "${#nodes[@]}" ] && break
    sleep 2
done

if [ -e "$RESULTS/study.yaml" ]; then
    automl resume "$RESULTS" --address "$head:$PORT" --yes &
else
    automl run --skill depth_net_stereo -e "$SPEC" --results "$RESULTS" --trials 64 --epochs 27 --address "$head:$PORT" --yes &
fi
driver=$!
[ -z "$again" ] || kill -TERM "$driver"
code=0
wait "$driver" || code=$?
# a wait that a signal cut short says nothing about the driver yet
while kill -0 "$driver" 2>/dev/null; do wait "$driver" && code=0 || code=$?; done
jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
wait || true
srun --nodes="${#nodes[@]}" --ntasks-per-node=1 --overlap rm -rf "$scratch" || true
# 130: interrupted, there is more to do
if [ -n "$again" ] && [ "$code" -eq 130 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
