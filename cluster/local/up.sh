#!/usr/bin/env bash
# A Ray head and two workers on this machine, each with as many CPUs as asked: up.sh [CPUS]. Ctrl-C ends them, and no
# other Ray. Ports: PORT (6399) for nodes and drivers, DASHBOARD_PORT (8299) for jobs; all listen on loopback alone.
set -euo pipefail

cpus="${1:-2}"
port="${PORT:-6399}"
dashboard="${DASHBOARD_PORT:-8299}"
folder="$(mktemp -d)"
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

ray start --head --block --node-ip-address=127.0.0.1 --port="$port" --num-cpus="$cpus" --object-store-memory=200000000 \
    --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" --dashboard-agent-listen-port=$((dashboard + 1)) \
    --ray-client-server-port=$((dashboard + 2)) >"$folder/head.log" 2>&1 &
nodes+=("$!")
until ray health-check --address "127.0.0.1:$port" >/dev/null 2>&1; do
    kill -0 "${nodes[0]}" 2>/dev/null || { cat "$folder/head.log" >&2; exit 1; }
    sleep 0.5
done
for worker in 1 2; do
    ray start --block --address="127.0.0.1:$port" --node-ip-address=127.0.0.1 --num-cpus="$cpus" \
        --object-store-memory=200000000 --dashboard-agent-listen-port=$((dashboard + 2 + worker)) \
        >"$folder/worker-$worker.log" 2>&1 &
    nodes+=("$!")
done

cat <<TEXT
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token
raymix run jobs/digits.yaml --set cluster.address=127.0.0.1:$port --set storage=$PWD/runs
ray job submit --address http://127.0.0.1:$dashboard --working-dir . -- raymix run jobs/digits.yaml --set storage=$PWD/runs
TEXT
wait -n
echo "a node has ended; its log:" >&2
tail -n 20 "$folder"/*.log >&2
exit 1
