#!/usr/bin/env bash
# A search on the nodes of one SLURM job: sbatch examples/cluster/slurm.sh
# Ray's head and the driver run on the first node, trials on all of them.  When the time is nearly over the trials pause; the same script,
# submitted again (or requeued), goes on where they were.
#SBATCH --job-name=depth-automl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail

# what is yours: the environment of the product (the same path on every node), the spec, a folder that all nodes share
VENV=${VENV:-$HOME/depth-automl/.venv}
SPEC=${SPEC:-$PWD/stereo.yaml}
RESULTS=${RESULTS:-$PWD/results/stereo}
PORT=${PORT:-6379}

export PATH="$VENV/bin:$PATH" OMP_WAIT_POLICY=PASSIVE RAY_USAGE_STATS_ENABLED=0
# Ray's ports are open to everybody on the network: without the token nobody may use them
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address | awk '{print $1}')
gpus=${SLURM_GPUS_ON_NODE:-0}
# sockets in it have a length limit, and other jobs of the node may have one too
scratch=/tmp/ray-$SLURM_JOB_ID

start() {  # on the node $1, with the rest as arguments of `ray start`
    local node=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
        ray start --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block "$@" &
}

start "${nodes[0]}" --head --node-ip-address="$head" --port="$PORT" --temp-dir="$scratch" --include-dashboard=false
until ray status --address="$head:$PORT" >/dev/null 2>&1; do sleep 2; done
for node in "${nodes[@]:1}"; do start "$node" --address="$head:$PORT"; done
# a node that comes later joins the search, but the trials at once are counted when it starts
alive="import ray; ray.init('$head:$PORT', log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
for _ in {1..60}; do
    [ "$(python3 -c "$alive" 2>/dev/null || echo 0)" -ge "${#nodes[@]}" ] && break
    sleep 2
done

if [ -e "$RESULTS/study.yaml" ]; then
    automl resume "$RESULTS" --address "$head:$PORT" --yes &
else
    automl run --skill depth_net_stereo -e "$SPEC" --results "$RESULTS" --trials 64 --epochs 27 --address "$head:$PORT" --yes &
fi
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
# a wait that TERM cut short says nothing about the driver yet
while kill -0 "$driver" 2>/dev/null; do wait "$driver" && code=0 || code=$?; done
jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
wait || true
rm -rf "$scratch"
exit "$code"
