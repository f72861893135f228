#!/bin/sh
# `docker run IMAGE ARGUMENTS` runs geth with these arguments, as in the official image, and spyhop next to it; `spyhop …` runs
# spyhop alone. `spyhop run` reads geth's arguments, and runs geth's own commands (`attach`, `init` …) alone.
set -eu

# A variable set to the empty string, as Compose files leave it, counts as unset.
: "${SPYHOP_IPC:=/run/geth/geth.ipc}" "${SPYHOP_DATA:=/data/spyhop}"
# The server can be reached from outside the container only at an address that needs a token; it is made on the first start.
: "${SPYHOP_TOKEN_FILE:=/data/http-token}"
export SPYHOP_IPC SPYHOP_DATA SPYHOP_TOKEN_FILE

[ "${1-}" != spyhop ] || exec "$@"

# A volume mounted where the official image has it is geth's data directory.
[ ! -d /root/.ethereum ] || : "${SPYHOP_GETH_DATADIR:=/root/.ethereum}"
export SPYHOP_GETH_DATADIR="${SPYHOP_GETH_DATADIR:-/data/geth}"
# For whoever sees the volume under the same path, inside this container or in another.
case "$SPYHOP_DATA" in
/*) export SPYHOP_PUBLISHED_PATH="${SPYHOP_PUBLISHED_PATH:-$SPYHOP_DATA}" ;;
esac
exec spyhop run -- geth "$@"
