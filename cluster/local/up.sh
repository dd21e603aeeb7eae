#!/usr/bin/env bash
# A Ray head and two workers on this machine, each with as many CPUs as asked: up.sh [CPUS]. Ctrl-C ends them, and no
# other Ray. Ports: PORT (6399) for nodes and drivers, DASHBOARD_PORT (8299), on loopback alone, for jobs.
set -euo pipefail

cpus="${1:-2}"
port="${PORT:-6399}"
dashboard="${DASHBOARD_PORT:-8299}"
folder="$(mktemp -d)"
# Ray's nodes find each other at the machine's own address, where others can knock, too: so none is let in without a token
address="$(python3 -c 'import ray; print(ray.util.get_node_ip_address())'):$port"
umask 077
python3 -c 'import secrets; print(secrets.token_hex(32))' >"$folder/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token" RAY_USAGE_STATS_ENABLED=0

nodes=()
# shellcheck disable=SC2317 # called by the trap
down() {
    trap - EXIT INT TERM
    for node in "${nodes[@]}"; do kill -TERM "$node" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ray start --head --block --port="$port" --num-cpus="$cpus" --object-store-memory=200000000 \
    --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" --dashboard-agent-listen-port=$((dashboard + 1)) \
    --ray-client-server-port=$((dashboard + 2)) >"$folder/head.log" 2>&1 &
nodes+=("$!")
until ray health-check --address "$address" >/dev/null 2>&1; do
    kill -0 "${nodes[0]}" 2>/dev/null || { cat "$folder/head.log" >&2; exit 1; }
    sleep 0.5
done
for worker in 1 2; do
    ray start --block --address="$address" --num-cpus="$cpus" --object-store-memory=200000000 \
        --temp-dir="$folder/w$worker" --dashboard-agent-listen-port=$((dashboard + 2 + worker)) \
        >"$folder/worker-$worker.log" 2>&1 &
    nodes+=("$!")
done

# printed when all three are there: a job that asks for more CPUs than a cluster has is refused
python3 - "$address" <<'PYTHON' &
import logging, sys, time, ray
ray.init(address=sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
until = time.monotonic() + 120
while sum(node["Alive"] for node in ray.nodes()) < 3:
    if time.monotonic() > until:
        sys.exit("the workers did not come within two minutes")
    time.sleep(0.5)
PYTHON
wait "$!" # in the background, so that a signal is heard at once

cat <<TEXT
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token
raymix run jobs/digits.yaml --set cluster.address=$address --set storage=$PWD/runs
ray job submit --address http://127.0.0.1:$dashboard --working-dir . -- raymix run jobs/digits.yaml --set storage=$PWD/runs
TEXT
wait -n
echo "a node has ended; its log:" >&2
tail -n 20 "$folder"/*.log >&2
exit 1
