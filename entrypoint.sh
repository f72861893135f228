#!/bin/sh
# `docker run IMAGE ARGUMENTS` runs geth with these arguments, as in the official image, and spyhop beside it. A command of geth
# (`attach`, `init` …) runs geth alone, and `spyhop …` runs spyhop alone.
set -eu

explain() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 2
}

# A variable that is set to nothing, as files of Compose leave it, is not set.
: "${SPYHOP_IPC:=/run/geth/geth.ipc}" "${SPYHOP_DATA:=/data/spyhop}"
export SPYHOP_IPC SPYHOP_DATA

[ "${1-}" != spyhop ] || exec "$@"

# What is said about the two paths counts, be it said to geth by flag or by variable.
datadir="${GETH_DATADIR-}"
socket="${GETH_IPCPATH-}"
disabled="${GETH_IPCDISABLE-}"
config="${GETH_CONFIG-}"
before=
for word in "$@"; do
    case "$before" in
    -datadir | --datadir) datadir="$word" ;;
    -ipcpath | --ipcpath) socket="$word" ;;
    esac
    case "$word" in
    -datadir=* | --datadir=*) datadir="${word#*=}" ;;
    -ipcpath=* | --ipcpath=*) socket="${word#*=}" ;;
    -ipcdisable | --ipcdisable) disabled=true ;;
    -ipcdisable=* | --ipcdisable=*) disabled="${word#*=}" ;;
    -config | --config | -config=* | --config=*) config=given ;;
    -h | --help | -v | --version) exec geth "$@" ;;
    # A value that reads like one of these is to be written `--flag=value`.
    account | attach | bintrie | console | db | download-era | dump | dumpconfig | dumpgenesis | export | export-history | h | help | \
        import | import-history | import-preimages | init | js | license | prune-history | removedb | show-deprecated-flags | \
        snapshot | version | wallet) exec geth "$@" ;;
    esac
    before="$word"
done

case "$disabled" in
'' | 0 | f | F | false | False | FALSE) ;;
*) explain "geth was told to open no IPC socket, and spyhop reads the chain from there" \
    "leave out --ipcdisable; the socket is reachable from inside the container only" ;;
esac

# A configuration file may name a data directory, over which the flag would win.
if [ -z "$datadir$config" ]; then
    datadir=/data/geth
    # A volume of the official image, mounted where that has it.
    [ ! -d /root/.ethereum ] || datadir=/root/.ethereum
    set -- --datadir "$datadir" "$@"
fi
case "$socket" in
'')
    socket="$SPYHOP_IPC"
    set -- --ipcpath "$socket" "$@"
    ;;
*/*) ;;
# geth puts a bare name into its data directory.
*)
    [ -n "$datadir" ] || explain "where $socket lies depends on what the configuration file says" "name its whole path: --ipcpath"
    socket="$datadir/$socket"
    ;;
esac

directory="$(dirname "$socket")"
# Tried, for busybox believes that root may write anywhere.
{ mkdir -p "$directory" && touch "$directory/.spyhop" && rm "$directory/.spyhop"; } 2>/dev/null ||
    explain "geth's socket cannot be made in $directory" "if the root file system is read-only, mount a tmpfs: --tmpfs $directory"
# For whoever sees the volume under the same path, inside this container or in another.
case "$SPYHOP_DATA" in
/*) export SPYHOP_PUBLISHED_PATH="${SPYHOP_PUBLISHED_PATH:-$SPYHOP_DATA}" ;;
esac
exec spyhop run --ipc "$socket" -- geth "$@"
