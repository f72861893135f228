#!/usr/bin/env bash
# Makes a volume with another version of spyhop, for tests/it/upgrade.rs to upgrade.
#
# Usage: tests/make-volume.sh SPYHOP [FILE]     the binary of that version, and where the volume goes
#                                               [tests/it/volumes/format-2.tar.gz]
#
# The existing one was made by commit 6972950.
set -euo pipefail
spyhop="$(realpath "$1")"
archive="$(realpath --canonicalize-missing "${2:-$(dirname "$0")/it/volumes/format-2.tar.gz}")"
cd "$(dirname "$0")/.."
export SPYHOP_PROFILE="${SPYHOP_PROFILE:-release}"
# shellcheck source=tests/env.sh
source tests/env.sh

need_compilers
need_rust
need_geth
volume="$(mktemp -d)"
trap 'rm -rf "$volume"' EXIT
SPYHOP_VOLUME_BY="$spyhop" SPYHOP_VOLUME="$volume" build test --test it -- upgrade::
# The published file is most of the volume, and is made again.
rm "$volume"/*.duckdb
tar --create --directory "$volume" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner . | gzip -9 --no-name >"$archive"
say "$(stat --format %s "$archive") bytes in $archive"
