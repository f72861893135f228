#!/usr/bin/env bash
# The demonstration: a real `geth --dev` with whale traffic, spyhop next to it, and answers in SQL while both run.
set -euo pipefail

usage() {
    cat <<'END'
Usage: docker/demo.sh [--data DIR] [--seconds N]

Builds spyhop, starts a geth developer node with generated traffic and spyhop beside it, and prints answers in SQL from the
published file while they run. Installs what is missing.

  --data DIR    the volume for the chain and the tables; a new temporary directory if not given
  --seconds N   end after N seconds of answers instead of at Ctrl-C
  --help        print this
END
}

seconds=
volume=
while [[ $# -gt 0 ]]; do
    case "$1" in
    --data | --seconds)
        if [[ $# -lt 2 ]]; then
            printf 'error: %s needs a value\n' "$1" >&2
            exit 2
        fi
        [[ "$1" == --data ]] && volume="$(realpath --canonicalize-missing -- "$2")" || seconds="$2"
        shift 2
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        printf 'error: unknown argument %s\n\n' "$1" >&2
        usage >&2
        exit 2
        ;;
    esac
done
if [[ -n "$seconds" && ! "$seconds" =~ ^[0-9]+$ ]]; then
    printf 'error: --seconds takes a whole number\n' >&2
    exit 2
fi

cd "$(dirname "$0")/.."
# shellcheck source=tests/env.sh
source tests/env.sh

# The queries, repeated in turn: a title, then SQL.
questions=(
    "The newest blocks, and the gas they used"
    "SELECT number, timestamp, transaction_count, gas_used, round(100.0 * gas_used / gas_limit, 1) AS percent_full
     FROM blocks ORDER BY number DESC LIMIT 5"

    "The largest transfers of ether"
    "SELECT rank, round(amount / 1e18, 3) AS ether, coalesce(from_label, from_address) AS sender,
            coalesce(to_label, to_address) AS receiver, round(to_balance / 1e18, 3) AS receiver_has
     FROM large_transfers WHERE asset = 'ETH' ORDER BY day DESC, rank LIMIT 5"

    "The largest holders"
    "SELECT rank, coalesce(label, address) AS holder, round(balance / 1e18, 3) AS ether, first_block, last_block
     FROM whales WHERE asset = 'ETH' AND label IS NOT NULL ORDER BY rank LIMIT 5"

    "Exchange flows"
    "SELECT day, round(amount_in / 1e18, 3) AS ether_in, round(amount_out / 1e18, 3) AS ether_out, round(amount_net / 1e18, 3) AS net
     FROM exchange_flows WHERE category = 'exchange' AND asset = 'ETH' ORDER BY day DESC"

    "The tokens"
    "SELECT token_address, standard, count(*) AS transfers, count(DISTINCT to_address) AS receivers, max(value) AS biggest
     FROM token_transfers GROUP BY ALL ORDER BY transfers DESC LIMIT 5"

    "Gas fees: burnt, and paid to the block's fee recipient"
    "SELECT count(*) AS transactions, count(*) FILTER (receipt_status = 0) AS failed, sum(receipt_gas_used) AS gas,
            round(sum(fee_burnt) / 1e18, 9) AS burnt_ether, round(sum(fee_tip) / 1e18, 9) AS tip_ether
     FROM transactions"

    "What is stored"
    "SELECT table_name, first_block, last_block, status, reason FROM coverage ORDER BY table_name, first_block LIMIT 10"
)

ending=      # set by a signal to stop
failed=      # what went wrong, if anything
traffic_pid= # the three child processes
watch_pid=
geth_pid=

running() { [[ -n "$1" ]] && kill -0 "$1" 2>/dev/null; }

# wait_for SECONDS WHAT COMMAND...: waits until the command succeeds, a signal arrives, or geth or spyhop exits.
wait_for() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@"; do
        [[ -z "$ending" ]] || return 1
        if ! running "$geth_pid" || { [[ -n "$watch_pid" ]] && ! running "$watch_pid"; } || ((SECONDS >= deadline)); then
            failed="timed out waiting for $what"
            return 1
        fi
        sleep 0.1
    done
}

# end PID: sends SIGTERM and returns the exit code.
end() {
    running "$1" && kill -TERM "$1"
    wait "$1"
}

# Stops the three in reverse order. Each has a session of its own, so that Ctrl-C reaches this script only and
# each of them gets one signal.
finish() {
    local code=0
    trap '' INT TERM HUP
    [[ -z "$traffic_pid" ]] || end "$traffic_pid" || true
    if [[ -n "$watch_pid" ]]; then
        end "$watch_pid" || code=$?
        [[ "$code" == 0 ]] || failed="${failed:-spyhop exited with code $code}"
    fi
    if [[ -n "$geth_pid" ]]; then
        end "$geth_pid" || code=$?
        [[ "$code" == 0 ]] || failed="${failed:-geth exited with code $code}"
    fi
    rm -rf "$run"
    if [[ -n "$failed" ]]; then
        printf 'error: %s; see %s\n' "$failed" "$volume/*.log" >&2
        exit 1
    fi
    printf '\nEnded. The volume is kept: %s\n' "$volume"
    printf 'To look at it:  %s sql --data %q\n' "$spyhop" "$data"
    printf 'or with DuckDB: cd %q && duckdb spyhop.duckdb\n' "$data"
}

# ask TITLE SQL: prints both and the result.
ask() {
    printf '\n-- %s\n%s;\n' "$1" "$(sed 's/^     //' <<<"$2")"
    "$spyhop" sql --data "$data" -c "$2" || [[ -n "$ending" ]]
}

# Whether there is a published file with whale traffic.
answers() {
    [[ -e "$data/spyhop.duckdb" ]] && "$spyhop" sql --data "$data" --format csv -c "SELECT min(1) FROM token_transfers" 2>/dev/null | grep -q '^1'
}

# lap WHAT: what took how long.
laps=
lap() {
    laps+="${laps:+, }$1 $((SECONDS - lapped)) s"
    lapped=$SECONDS
}
lapped=$SECONDS
need_compilers
need_rust
need_python
lap "tools"
need_geth
lap "geth"
say "building spyhop: on two cores about ten minutes the first time, DuckDB's C++ most of them, and seconds from then on"
build build
spyhop="$(binary)"
lap "spyhop"

[[ -n "$volume" ]] || volume="$(mktemp -d -t spyhop-demo.XXXXXX)"
data="$volume/spyhop"
mkdir -p "$data"
# A socket's path must be short, and a volume's may not be.
run="$(mktemp -d /tmp/spyhop.XXXXXX)"
socket="$run/geth.ipc"

trap finish EXIT
trap 'ending=yes' INT TERM HUP

say "starting geth $geth_version, its volume is $volume/geth"
setsid "$GETH" --dev --dev.period 1 --datadir "$volume/geth" --ipcpath "$socket" --verbosity 3 </dev/null >>"$volume/geth.log" 2>&1 &
geth_pid=$!
wait_for 60 "geth's socket" test -S "$socket" || exit
say "starting the traffic and spyhop, its volume is $data"
setsid python3 docker/demo/traffic.py "$socket" </dev/null >>"$volume/traffic.log" 2>&1 &
traffic_pid=$!
setsid "$spyhop" watch --ipc "$socket" --data "$data" --from earliest --labels docker/demo/labels.csv </dev/null >>"$volume/spyhop.log" 2>&1 &
watch_pid=$!
wait_for 120 "the first published rows" answers || exit
lap "the first answer"

say "from nothing to the first answer: $laps"
say "answers${seconds:+ for $seconds seconds}; Ctrl-C ends everything"
started=$SECONDS
index=0
while [[ -z "$ending" ]] && { [[ -z "$seconds" ]] || ((SECONDS - started < seconds)); }; do
    if ((index == 0)); then
        printf '\n'
        "$spyhop" status --data "$data" || [[ -n "$ending" ]]
    fi
    ask "${questions[index]}" "${questions[index + 1]}"
    index=$(((index + 2) % ${#questions[@]}))
    for process in "geth:$geth_pid" "spyhop:$watch_pid" "the traffic:$traffic_pid"; do
        if ! running "${process##*:}"; then
            failed="${process%:*} ended by itself"
            exit
        fi
    done
    # Time to read.
    sleep 3 || true
done
