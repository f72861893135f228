# shellcheck shell=bash
# What tests/run.sh and docker/demo.sh share; it is sourced from the project's root, not run.
#
# Both build with the same compilers into the same directory outside the checkout, so that DuckDB's C++ is compiled once for
# both and stays compiled. Whoever changes CC, CXX or RUSTFLAGS for one of them makes the other compile all of it again.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/spyhop"
export CC=clang CXX=clang++
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

geth_version=1.17.8
go_version=1.26.8

say() { printf '== %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# at_least WANTED HAVE: whether version HAVE is WANTED or later.
at_least() { [[ -n "$2" && "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" == "$1" ]]; }

# install PACKAGE...: Debian packages, where that is possible.
install() {
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
        fail "not installed: $*; install it, or run this as root on Debian"
    fi
    say "installing $*"
    [[ -n "${apt_updated:-}" ]] || apt-get update -qq >&2
    apt_updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# need COMMAND PACKAGE...: installs the packages where there is no such command.
need() { command -v "$1" >/dev/null || install "${@:2}"; }

# clang for C and C++, cc for what Rust links; Debian's clang is also cc where there is no other.
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

# Sets $go to a Go that can build geth. Debian's own is too old for that, but new enough to fetch a newer one as a module, which
# is what later versions do by themselves.
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

need_python() {
    need python3 python3
    at_least 3.11 "$(python3 -c 'import platform; print(platform.python_version())')" || fail "Python 3.11 or later is needed"
}

# Prints where the release build puts the binary.
binary() { printf '%s/%s/release/spyhop\n' "$CARGO_TARGET_DIR" "$(rustc -vV | sed -n 's/^host: //p')"; }
