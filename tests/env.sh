# shellcheck shell=bash
# Shared by tests/run.sh and docker/demo.sh: sourced from the project's root, not run.
#
# Both build into the same directory outside the checkout, which keeps DuckDB's C++ compiled, once per profile. Changing CC, CXX or
# RUSTFLAGS recompiles all of it.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/spyhop"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
profile="${SPYHOP_PROFILE:-quick}"
export CC=clang CXX=clang++
[[ "$profile" != quick ]] || CXX=pch-clangxx
# Found by name, so that the name is the same in every checkout.
mkdir -p "$cache/bin"
cmp -s docker/pch-clangxx "$cache/bin/pch-clangxx" || cp docker/pch-clangxx "$cache/bin/"
PATH="$PATH:$cache/bin"

geth_version=1.17.8
go_version=1.26.8
versitygw_version=1.8.0

say() { printf '== %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# at_least WANTED HAVE: whether version HAVE is at least WANTED.
at_least() { [[ -n "$2" && "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" == "$1" ]]; }

# install PACKAGE...: installs Debian packages, where possible.
install() {
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
        fail "not installed: $*; install it, or run this as root on Debian"
    fi
    say "installing $*"
    [[ -n "${apt_updated:-}" ]] || apt-get update -qq >&2
    apt_updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# need COMMAND PACKAGE...: installs the packages if the command is missing.
need() { command -v "$1" >/dev/null || install "${@:2}"; }

# clang for C and C++, cc to link Rust; Debian's clang also provides cc if there is no other.
need_compilers() {
    need clang++ clang
    need cc gcc
}

need_rust() {
    local wanted have
    [[ -d "$HOME/.cargo/bin" ]] && PATH="$PATH:$HOME/.cargo/bin"
    wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    have="$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)"
    at_least "$wanted" "$have" && return
    if ! command -v rustup >/dev/null && [[ "$(apt-cache policy rustup 2>/dev/null)" == *Candidate:\ [0-9]* ]]; then
        install rustup ca-certificates
    fi
    command -v rustup >/dev/null || fail "Rust $wanted or later is needed, ${have:-none} is here; install it with rustup"
    say "installing Rust $wanted"
    rustup toolchain install "$wanted" --profile minimal --component clippy --component rustfmt >&2
    export RUSTUP_TOOLCHAIN="$wanted"
}

# Sets $go to a Go that can build geth. Debian's own is too old for that, but new enough to fetch a newer one as a module, as later
# versions do by themselves.
need_go() {
    local have root
    go="$(command -v go || true)"
    [[ -n "$go" || ! -x /usr/local/go/bin/go ]] || go=/usr/local/go/bin/go
    have="$([[ -z "$go" ]] || GOTOOLCHAIN=local "$go" env GOVERSION)"
    at_least 1.25 "${have#go}" && return
    if [[ -z "$go" ]]; then
        install golang-go ca-certificates
        go="$(command -v go)"
    fi
    say "fetching Go $go_version"
    root="$("$go" mod download -json "golang.org/toolchain@v0.0.1-go$go_version.linux-amd64" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')"
    chmod -R u+w "$root"
    find "$root/bin" "$root/pkg/tool" -type f -exec chmod +x {} +
    [[ -e "$root/src/go.mod" ]] || cp "$root/src/_go.mod" "$root/src/go.mod"
    go="$root/bin/go"
    export GOROOT="$root"
}

geth_is() { [[ -n "$1" && "$("$1" version 2>/dev/null)" == *"Version: $geth_version-"* ]]; }

# Sets and exports $GETH: the one given, the one on the path, or one built into the cache.
need_geth() {
    if [[ -z "${GETH:-}" ]]; then
        GETH="$(command -v geth || true)"
        geth_is "$GETH" || GETH="$cache/bin/geth"
        if ! geth_is "$(command -v "$GETH" || true)"; then
            need_go
            say "building geth $geth_version"
            GOTOOLCHAIN=local GOBIN="$cache/bin" "$go" install "github.com/ethereum/go-ethereum/cmd/geth@v$geth_version" >&2
        fi
    fi
    geth_is "$GETH" || fail "\`$GETH\` is not geth $geth_version"
    export GETH
}

# Sets and exports $SPYHOP_TEST_S3: versitygw, an S3 server over a directory, built into the cache in one or two minutes.
need_s3() {
    local home="$cache/versitygw-$versitygw_version"
    export SPYHOP_TEST_S3="${SPYHOP_TEST_S3:-$home/versitygw}"
    [[ ! -x "$SPYHOP_TEST_S3" ]] || return 0
    need_go
    say "building versitygw $versitygw_version"
    GOTOOLCHAIN=local GOBIN="$home" "$go" install "github.com/versity/versitygw/cmd/versitygw@v$versitygw_version" >&2
}

need_python() {
    need python3 python3
    at_least 3.11 "$(python3 -c 'import platform; print(platform.python_version())')" || fail "Python 3.11 or later is needed"
}

# Prints the path of the built binary.
binary() { printf '%s/%s/%s/spyhop\n' "$CARGO_TARGET_DIR" "$(rustc -vV | sed -n 's/^host: //p')" "$profile"; }

# build ARGUMENT...: runs `cargo` with these arguments and the profile; reports how far DuckDB, most of the work, is, and the total
# time.
build() {
    local code=0 progress
    follow_duckdb </dev/null >/dev/null &
    progress=$!
    TIMEFORMAT="== cargo $1 took %0lR, and %0U s of CPU"
    time cargo "$1" --profile "$profile" --locked "${@:2}" || code=$?
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    return "$code"
}

# Reports every 20 seconds how much of DuckDB is compiled, while it compiles. Its units are compiled in order of name: those named
# `ub_…` come last, and each takes as long as ten others.
follow_duckdb() {
    local start=$SECONDS built all elapsed
    while sleep 20 2>/dev/null; do
        elapsed=$((SECONDS - start))
        built="$(find "$CARGO_TARGET_DIR" -path "*/$profile/build/libduckdb-sys-*" -name '*.o' -newermt "-$elapsed seconds" 2>/dev/null | weight)" || continue
        all="$(cat "$CARGO_TARGET_DIR"/*/duckdb-sources/*/duckdb/manifest.json 2>/dev/null | grep -oE '"[^"]+\.(cpp|cc)"' | weight)" || continue
        ((0 < built && built < all)) || continue
        say "compiling DuckDB: $((100 * built / all)) %, for about $((elapsed * (all - built) / built / 60 + 1)) more minutes; then spyhop itself"
    done
}
weight() { awk '{ sum += /ub_/ ? 10 : 1 } END { print sum + 0 }'; }
