#!/usr/bin/env bash
# Tests the image in a real Docker daemon: everything the image must do, in containers, with volumes, stopped and killed.
#
# Usage: tests/docker.sh SPYHOP GETH [RESTARTS]
#
# SPYHOP is a static binary. The base image is a stand-in like the official one: busybox and geth, no bash, and only the libraries
# that geth needs. The daemon belongs to this test and has no network. If the kernel does not allow one, a notice in capitals says
# so, and nothing is tested.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/env.sh
source tests/env.sh

spyhop="$(realpath "$1")"
geth="$(realpath "$2")"
restarts="${3:-5}"

work="$(mktemp -d /tmp/spyhop-docker.XXXXXX)"
export DOCKER_HOST="unix://$work/docker.sock" DOCKER_BUILDKIT=1
# Debian's own client, which includes BuildKit.
docker() { /usr/bin/docker "$@"; }

finish() {
    local code=$?
    trap - EXIT
    set +e
    docker ps --all --quiet 2>/dev/null | xargs --no-run-if-empty -n 1 /usr/bin/docker rm --force --volumes >/dev/null 2>&1
    if [[ -s "$work/docker.pid" ]]; then
        kill "$(cat "$work/docker.pid")"
        for _ in $(seq 100); do [[ -e "$work/docker.pid" ]] || break; sleep 0.1; done
    fi
    for mounted in "$work"/volumes/*; do mountpoint -q "$mounted" && umount --lazy "$mounted"; done
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM

# skip WHY: prints a notice that nobody can overlook.
skip() {
    printf '== THE IMAGE IS NOT TESTED: %s\n' "$*" >&2
    exit 0
}

# start_daemon FLAG...: succeeds if a daemon is running.
start_daemon() {
    setsid dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/docker.pid" \
        --iptables=false --bridge=none "$@" >"$work/docker.log" 2>&1 </dev/null &
    for _ in $(seq 300); do
        docker info >/dev/null 2>&1 && return
        kill -0 $! 2>/dev/null || return 1
        sleep 0.1
    done
    kill $!
    return 1
}

# Some kernels run a daemon but no containers.
runs_containers() {
    mkdir -p "$work/probe"
    cp /bin/busybox "$work/probe/"
    printf 'FROM scratch\nCOPY busybox /busybox\nRUN ["/busybox", "true"]\n' >"$work/probe/Dockerfile"
    docker build --quiet --network none "$work/probe" >>"$work/docker.log" 2>&1
}

passed=0
pass() {
    printf 'ok: %s\n' "$*"
    passed=$((passed + 1))
}

# expect WHAT COMMAND...: the command must succeed.
expect() {
    local what="$1"
    shift
    "$@" >"$work/said" 2>&1 || lament "$what: $*"
    pass "$what"
}

# within SECONDS WHAT COMMAND...: the command must succeed in time.
within() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@" >"$work/said" 2>&1; do
        ((SECONDS < deadline)) || lament "timed out: $what"
        sleep 0.2
    done
    pass "$what"
}

lament() {
    cat "$work/said" >&2 || true
    for container in $(docker ps --all --quiet); do docker logs --tail 30 "$container" >&2 || true; done
    fail "$*"
}

# Runs the image without a network, and with frequent health checks so that the tests need not wait.
run() { docker run --network none --health-interval 1s "$@"; }
log_has() { docker logs "$1" 2>&1 | grep -e "$2" >/dev/null; }
health_is() { [[ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" == "$2" ]]; }
ask() { docker exec "$1" spyhop sql --format csv -c "$2" | tail -n +2; }
blocks() { ask "$1" "SELECT count(*) FROM blocks"; }
# has_blocks CONTAINER COUNT: whether there are more than COUNT, none is missing, and each links to the one below.
has_blocks() {
    [[ "$(ask "$1" "SELECT count(*) > $2 AND count(*) = max(number) + 1 AND count(*) - 1 = (
        SELECT count(*) FROM blocks below JOIN blocks above ON below.hash = above.parent_hash) FROM blocks")" == true ]]
}
exit_code() { docker inspect --format '{{.State.ExitCode}}' "$1"; }
# volume NAME: its path on the host.
volume() { docker volume inspect --format '{{.Mountpoint}}' "$1"; }
# The host's own DuckDB, of another version, on the files in the volume.
host_count() {
    (cd "$(volume "$1")/spyhop" && "$python" -c "
import duckdb
print(duckdb.connect('${2:-spyhop.duckdb}', read_only=True).sql('SELECT count(*) FROM blocks').fetchone()[0])")
}
# This file is published after the other one.
absolute_has_blocks() { (($(host_count "$1" spyhop-absolute.duckdb) > 3)); }
node_head() { docker exec "$1" geth attach --datadir /tmp --exec eth.blockNumber /run/geth/geth.ipc; }
# grows CONTAINER HEAD: whether geth has moved past HEAD.
grows() {
    local head
    # Until geth answers, this is an error message.
    head="$(node_head "$1")" && [[ "$head" =~ ^[0-9]+$ ]] && ((head > $2))
}

[[ "$(id -u)" == 0 ]] || skip "only root can start a Docker daemon"
for tool in dockerd:docker.io busybox:busybox-static mkfs.ext4:e2fsprogs; do
    (need "${tool%:*}" "${tool#*:}") || skip "there is no \`${tool%:*}\`, and no package for it"
done
if ! start_daemon && ! start_daemon --storage-driver=vfs || ! runs_containers; then
    tail -n 5 "$work/docker.log" >&2 || true
    skip "no Docker daemon can be started here, or none of its containers, see above"
fi
python="${SPYHOP_TEST_DUCKDB_1_5:-$cache/python/duckdb-1.5.6/bin}/python"
"$python" -c 'import duckdb' || fail "no DuckDB for Python: tests/run.sh installs it"

say "building"
mkdir -p "$work/base" "$work/context" "$work/volumes"
cp /bin/busybox "$work/base/"
cp "$geth" "$work/base/geth"
mkdir "$work/base/libraries"
# A static geth has none.
for library in $(ldd "$geth" 2>/dev/null | grep -o '/[^ ]*' || true); do cp --parents --dereference "$library" "$work/base/libraries/"; done
cat >"$work/base/Dockerfile" <<'END'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir -p /usr/local/bin /usr/bin /usr/sbin /sbin /etc /run && /bin/busybox --install -s"]
RUN mkdir -m 0700 /root && mkdir -m 1777 /tmp && echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd && echo 'root:x:0:' >/etc/group
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
COPY libraries /
COPY geth /usr/local/bin/geth
EXPOSE 8545 8546 30303 30303/udp
ENTRYPOINT ["geth"]
END
docker build --quiet --network none --tag base "$work/base" >/dev/null
# The project's files as they are, along with the binary.
cp -r Dockerfile .dockerignore .cargo Cargo.toml Cargo.lock LICENSE entrypoint.sh src "$work/context/"
# The same commands as in the Dockerfile, for builds that compile there.
strip --output-file "$work/context/spyhop" "$spyhop"
if command -v cargo-cyclonedx >/dev/null; then
    SOURCE_DATE_EPOCH=0 cargo cyclonedx --quiet --format json --no-build-deps --override-filename spyhop.cdx
    mv spyhop.cdx.json "$work/context/"
else
    say "cargo cyclonedx is not installed: the image is built without a list of what is in it"
fi
docker build --quiet --network none --build-arg GETH_IMAGE=base --build-arg BINARY=built --tag spyhop "$work/context" >/dev/null
docker build --quiet --network none --build-arg GETH_IMAGE=base --build-arg BINARY=built --target alone --tag spyhop-alone "$work/context" >/dev/null
pass "both images are built from a binary that was built before"
docker history --format '{{.Size}}	{{.CreatedBy}}' spyhop | head -n 12
added="$(gzip --stdout "$work/context/spyhop" | wc -c)"
printf 'what spyhop adds, compressed: %s bytes\n' "$added"
[[ "$spyhop" == */quick/* ]] || ((added < 32000000)) || fail "the layer is 32 MB or more, compressed"
if [[ -e "$work/context/spyhop.cdx.json" ]]; then
    expect "the image holds a CycloneDX list of what is in it" bash -c '/usr/bin/docker run --rm --network none --entrypoint cat spyhop \
        /usr/local/share/spyhop/spyhop.cdx.json | grep -e "\"name\": \"libduckdb-sys\"" >/dev/null'
fi

say "what is geth's, or spyhop's, alone"
expect "a command of geth runs geth alone" run --rm spyhop version
expect "spyhop runs alone" run --rm spyhop spyhop --version
expect "--ipcdisable is explained" bash -c '[[ "$(/usr/bin/docker run --rm --network none spyhop --ipcdisable 2>&1)" == *"no IPC socket"*hint:* ]]'
expect "a read-only root without a tmpfs is explained" \
    bash -c '[[ "$(/usr/bin/docker run --rm --network none --read-only spyhop --dev 2>&1)" == *"mount a tmpfs"* ]]'

# life NAME FLAG...: a container from start to end.
life() {
    local name="$1" count started
    shift
    say "$name: $*"
    docker volume create "$name" >/dev/null
    run --detach --name "$name" --volume "$name:/data" --env SPYHOP_FROM=earliest "$@" spyhop --dev --dev.period 1 >/dev/null
    expect "$name: health is starting" health_is "$name" starting
    within 60 "$name: health becomes healthy" health_is "$name" healthy
    within 60 "$name: blocks arrive" has_blocks "$name" 3
    expect "$name: status" docker exec "$name" spyhop status
    count="$(host_count "$name")"
    ((count > 3)) || fail "$name: the host's DuckDB sees $count blocks"
    pass "$name: the host's DuckDB reads the volume while it is written"

    # Bounded tables and the tail are in the file itself, so it can be queried here too, although the volume has another path.
    within 60 "$name: a second file has absolute names" absolute_has_blocks "$name"

    docker exec "$name" sh -c 'kill -STOP $(pidof geth)'
    within 60 "$name: health becomes unhealthy when geth hangs" health_is "$name" unhealthy
    docker exec "$name" sh -c 'kill -CONT $(pidof geth)'
    within 60 "$name: health becomes healthy when it goes on" health_is "$name" healthy

    docker exec "$name" sh -c 'kill -KILL $(pidof spyhop | tr " " "\n" | grep -vx 1)'
    within 30 "$name: a killed writer is started again" log_has "$name" 'killed by signal 9; geth keeps running'
    count="$(blocks "$name")"
    within 60 "$name: and goes on" has_blocks "$name" "$count"

    started="$(date +%s%N)"
    docker stop "$name" >/dev/null
    printf 'docker stop took %s ms\n' $((($(date +%s%N) - started) / 1000000))
    [[ "$(exit_code "$name")" == 0 ]] || lament "$name: exit code $(exit_code "$name")"
    pass "$name: docker stop with its 10 s ends with 0"
    expect "$name: geth ended with 0" log_has "$name" 'geth exited with code 0'
    expect "$name: the writer ended with 0" log_has "$name" 'the writer exited with code 0'
    expect "$name: nothing half done is left" bash -c "[[ -z \$(ls '$(volume "$name")/spyhop/.spyhop/tmp') && -z \$(find '$(volume "$name")' -name '*.wal') ]]"
    count="$(host_count "$name")"

    docker start "$name" >/dev/null
    within 60 "$name: started again, it goes on" has_blocks "$name" "$count"
    count="$(blocks "$name")"
    docker kill "$name" >/dev/null
    (($(host_count "$name") >= count)) || fail "$name: docker kill lost blocks"
    pass "$name: docker kill loses nothing"
    for _ in $(seq "$restarts"); do
        docker restart "$name" >/dev/null
        count="$(host_count "$name")"
    done
    within 60 "$name: after $restarts restarts it goes on" has_blocks "$name" "$count"
    docker exec "$name" ls -lan /data/spyhop | head -n 4
    docker rm --force "$name" >/dev/null
}
life root
life nobody --user 1234:1234 --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /run/geth:mode=1777 --tmpfs /tmp
life caps --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /run/geth:mode=1777 --tmpfs /tmp

say "a volume of 64 MB that fills"
truncate --size 64M "$work/small.img"
mkfs.ext4 -q "$work/small.img"
mkdir "$work/volumes/small"
mount -o loop "$work/small.img" "$work/volumes/small"
run --detach --name small --volume "$work/volumes/small:/data/spyhop" --env SPYHOP_FROM=earliest spyhop --dev --dev.period 1 >/dev/null
within 60 "small: blocks arrive" has_blocks small 3
dd if=/dev/zero of="$work/volumes/small/filler" bs=1M 2>/dev/null || true
within 60 "small: it says that it waits for space" log_has small 'waiting for space'
head="$(node_head small)"
within 60 "small: geth lives on" grows small $((head + 3))
expect "small: health does not ask for a restart" docker exec small spyhop health
rm "$work/volumes/small/filler"
within 60 "small: it goes on after space is freed" has_blocks small "$head"
docker rm --force small >/dev/null

say "volumes that cannot be used"
# bad NAME MESSAGE FLAG...: the log has the message, with a remedy, and geth keeps running.
bad() {
    local name="$1" message="$2"
    shift 2
    run --detach --name "$name" "$@" spyhop --dev --dev.period 1 --datadir /tmp/geth >/dev/null
    within 60 "$name: $message" log_has "$name" "$message"
    expect "$name: with a remedy" log_has "$name" 'spyhop | hint: '
    within 60 "$name: geth lives on" grows "$name" 3
    docker rm --force --volumes "$name" >/dev/null
}
mkdir -p "$work/volumes/ro" "$work/volumes/owned" "$work/volumes/newer/.spyhop"
chown 4321 "$work/volumes/owned"
echo '{"format": 99, "chain_id": 1, "genesis_hash": "0x0000000000000000000000000000000000000000000000000000000000000000", "finalized_seen": false}' \
    >"$work/volumes/newer/.spyhop/chain.json"
bad read-only 'mounted read-only' --volume "$work/volumes/ro:/data/spyhop:ro"
bad owned 'cannot be written by user 1234: it belongs to 4321:0' --user 1234 --volume "$work/volumes/owned:/data/spyhop"
bad newer 'written by a newer spyhop (format 99' --volume "$work/volumes/newer:/data/spyhop"
# A different gas limit makes a different genesis block.
bad other 'stores chain 1337 with genesis' --volume root:/data --env GETH_DEV_GASLIMIT=20000000

say "two containers"
docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=mode=1777 socket >/dev/null
docker run --detach --name geth --network none --volume socket:/run/geth --entrypoint geth base \
    --dev --dev.period 1 --ipcpath /run/geth/geth.ipc --datadir /tmp/geth >/dev/null
run --detach --name alone --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp \
    --volume socket:/run/geth --volume alone:/data/spyhop --env SPYHOP_FROM=earliest spyhop-alone >/dev/null
within 60 "alone: health becomes healthy" health_is alone healthy
alone_has_blocks() { [[ "$(docker exec alone /spyhop sql --format csv -c "SELECT count(*) > 3 FROM blocks" | tail -n 1)" == true ]]; }
within 60 "alone: blocks arrive" alone_has_blocks
docker stop alone geth >/dev/null
[[ "$(exit_code alone)" == 0 ]] || lament "alone: exit code $(exit_code alone)"
pass "alone: docker stop ends with 0"

printf '%s passed, 0 failed, in %s s\n' "$passed" "$SECONDS"
