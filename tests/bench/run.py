#!/usr/bin/env python3
"""Measures spyhop against ethereum-etl, cryo and the limit of the machine, on the same node, in the same run.

    tests/bench/run.py [--rounds 5] [--blocks 4000] [--shape lab|mainnet] [--only freezer,spyhop,limit,cryo,etl,…]
                       [--etl-blocks 500] [--cryo-blocks 1000]

`spyhop` is `watch --once` over the socket only; `freezer` is `backfill` from geth's freezer on all cores, `freezer-1` on one core.
`freezer-limit` is the upper limit for recovering the senders with libsecp256k1, `freezer-limit-1` the same on one core, and
`freezer-limit-ifma` the upper limit for recovering them in batches. `recover` compares the two on one core, without a node.
`freezer-logs` builds only tables that need no sender, and is compared with `cryo-logs`.

Needs Python 3.11 (for cryo's wheel), cargo, and geth 1.17.8: $GETH, the one on the PATH, the one in the cache, or go to install
it there. $SPYHOP_BIN, $BENCH_CHAIN, $BENCH_LIMIT and $BENCH_RECOVER name prebuilt binaries.
The chain and the peers are kept in ${XDG_CACHE_HOME:-~/.cache}/spyhop, and created if they are missing.
"""

import argparse
import collections
import csv
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "spyhop"
VENV = CACHE / "bench-venv"
GETH_VERSION = "1.17.8"
TRANSACTIONS = 150
TIMEOUT_S = 1800
MIB = 1 << 20

# Distance of the finalized block from the head of the chain, and the number of blocks in the smallest range.
FINALITY, RANGE = 64, 100
# Logs of a block.
LOGS = {"lab": TRANSACTIONS // 2, "mainnet": 370}

# The result of one run of a contender. `rows` counts what was written to the compared tables; `recovery` is the share of the
# contender's own CPU time spent on recovering senders, if it reports that.
Run = collections.namedtuple("Run", "blocks seconds rows rss fds out cpu geth_cpu recovery")


class Crashed(Exception):
    """A contender failed: cryo occasionally dies with SIGSEGV."""


class Meter:
    """Runs commands one after another and measures them: peak resident memory, open descriptors every 50 ms, and CPU time."""

    def __init__(self):
        self.rss, self.cpu, self.fds = 0, 0.0, []
        # The part of the run that counts, if not all of it does.
        self.seconds = None

    def run(self, argv, cwd, env=None):
        with open(cwd / "log", "ab") as log:
            child = subprocess.Popen(
                [str(word) for word in argv], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        CHILDREN.append(child)
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(child.pid, stop), daemon=True)
        sampler.start()
        overdue = threading.Timer(TIMEOUT_S, child.kill)
        overdue.daemon = True
        overdue.start()
        _, status, usage = os.wait4(child.pid, 0)
        overdue.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        CHILDREN.remove(child)
        stop.set()
        sampler.join()
        self.cpu += usage.ru_utime + usage.ru_stime
        if child.returncode < 0:
            raise Crashed(f"{argv[0]} was ended by {signal.Signals(-child.returncode).name}")
        if child.returncode != 0:
            raise Crashed(f"{argv[0]} exited with {child.returncode}:\n{tail(cwd / 'log')}")

    def _sample(self, pid, stop):
        while not stop.wait(0.05):
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                fds = len(os.listdir(f"/proc/{pid}/fd"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    self.rss = max(self.rss, int(line.split()[1]) * 1024)
            # A process that is about to be reaped has none left.
            if fds:
                self.fds.append(fds)


CHILDREN = []


def tail(path, lines=20):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


# --- the node and its chain


class Geth:
    """geth on the cached chain, for the duration of the `with` block."""

    def __init__(self, binary, datadir, work):
        self.ipc, self.log, self.datadir = work / "geth.ipc", work / "geth.log", datadir
        self.http = f"http://127.0.0.1:{free_port()}"
        flags = ["--nodiscover", "--maxpeers", "0", "--port", "0", "--authrpc.port", "0", "--nat", "none", "--ipcpath", self.ipc]
        # A young node would otherwise wait for peers to snap-sync from.
        flags += ["--syncmode", "full"]
        flags += ["--http", "--http.api", "eth,debug", "--http.port", self.http.rpartition(":")[2]]
        self.argv = [str(word) for word in [binary, "--datadir", datadir, *flags]]

    def __enter__(self):
        with open(self.log, "wb") as log:
            # In its own session, so that Ctrl-C does not reach it: it is stopped after the contender is gone.
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.ipc))
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    sys.exit(f"error: geth did not start:\n{tail(self.log)}")
                time.sleep(0.1)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(300)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_geth():
    cached = CACHE / "bin" / "geth"
    for binary in [os.environ.get("GETH"), shutil.which("geth"), cached]:
        if binary and os.access(binary, os.X_OK):
            version = subprocess.run([binary, "version"], capture_output=True, text=True).stdout
            if f"Version: {GETH_VERSION}" in version:
                return binary
    say(f"installing geth {GETH_VERSION}")
    env = {**os.environ, "GOBIN": str(cached.parent)}
    subprocess.run(["go", "install", f"github.com/ethereum/go-ethereum/cmd/geth@v{GETH_VERSION}"], env=env, check=True)
    return cached


def prepare_chain(geth, bench_chain, blocks, shape):
    """The datadir of a chain with this genesis and length, built if it is missing. A changed genesis, and so a changed
    builder, starts from scratch."""
    home = CACHE / "bench-chain" / (f"{blocks}x{TRANSACTIONS}" + ("" if shape == "lab" else f"-{shape}"))
    genesis = subprocess.run([bench_chain, "genesis", "--shape", shape], capture_output=True, text=True, check=True).stdout
    written, datadir = home / "genesis.json", home / "geth"
    if not written.exists() or written.read_text() != genesis:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "genesis.new").write_text(genesis)
        init = [geth, "init", "--datadir", datadir, home / "genesis.new"]
        subprocess.run([str(word) for word in init], check=True, capture_output=True)
        (home / "genesis.new").rename(written)
    built = home / "built.json"
    if not built.exists():
        say(f"building a chain of {blocks} blocks, once")
        with tempfile.TemporaryDirectory(prefix="spyhop-bench-") as work, Geth(geth, datadir, pathlib.Path(work)) as node:
            build = ["build", "--shape", shape, "--ipc", node.ipc, "--blocks", blocks, "--transactions", TRANSACTIONS]
            argv = [str(word) for word in [bench_chain, *build]]
            said = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
        built.write_text(said)
    say(built.read_text().strip())
    return datadir


# --- what is compared


def prepare_peers():
    if (VENV / "ready").exists():
        return
    say("installing the peers")
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    # duckdb counts the rows that were written, including spyhop's.
    peers = ["ethereum-etl==2.4.2", "setuptools<81", "cryo==0.3.2", "duckdb==1.4.*"]
    subprocess.run([*pip, *peers], check=True)
    # The version that ethereum-etl pins does not import on Python 3.11; pip reports a conflict, but this one works.
    subprocess.run([*pip, "parsimonious==0.10.0"], check=True, stderr=subprocess.DEVNULL)
    (VENV / "ready").touch()


def prepare_binaries(*names):
    names = {name: "SPYHOP_BIN" if name == "spyhop" else name.upper().replace("-", "_") for name in names}
    found = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    missing = {name: ["--bin" if name == "spyhop" else "--example", name] for name in names if name not in found}
    if missing:
        build = ["cargo", "build", "--release", "--message-format=json-render-diagnostics", *sum(missing.values(), [])]
        output = subprocess.run(build, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout
        for message in map(json.loads, output.splitlines()):
            if message.get("executable"):
                found[message["target"]["name"]] = message["executable"]
    return {name: str(pathlib.Path(path).resolve()) for name, path in found.items()}


def run_spyhop(meter, options, geth, work):
    # No freezer in the ancient directory, so only the socket is used.
    flags = ["--data", work / "data", "--ancient", work, "--from", "0", "--once"]
    meter.run([options.binaries["spyhop"], "watch", "--ipc", geth.ipc, *flags], work)
    return work / "data"


def backfill(*flags, prefix=()):
    def run(meter, options, geth, work):
        argv = [*prefix, options.binaries["spyhop"], "backfill", "--ipc", geth.ipc, "--data", work / "data", "--from", "0", *flags]
        meter.run(argv, work)
        if "source=\"node\"" in (work / "log").read_text():
            sys.exit(f"error: not all blocks came from the ancient store:\n{tail(work / 'log')}")
        return work / "data"

    return run


def run_limit(meter, options, geth, work):
    meter.run([options.binaries["bench-limit"], "--ipc", geth.ipc, "--first", 1, "--last", options.blocks], work)
    return None


def freezer_limit(*flags, prefix=()):
    def run(meter, options, geth, work):
        ancient = geth.datadir / "geth" / "chaindata" / "ancient" / "chain"
        argv = [*prefix, options.binaries["bench-limit"], "--ancient", ancient, "--first", 1, "--last", frozen_blocks(options), *flags]
        meter.run(argv, work)
        # Preloading the transactions does not count.
        meter.seconds = json.loads((work / "log").read_text().strip().splitlines()[-1])["seconds"]
        return None

    return run


def frozen_blocks(options):
    """Blocks after the genesis that are final and fill whole ranges."""
    return (options.blocks - FINALITY + 1) // RANGE * RANGE - 1


def run_etl(meter, options, geth, work):
    etl, provider = VENV / "bin" / "ethereumetl", f"file://{geth.ipc}"
    out = work / "data"
    out.mkdir()
    blocks_settings, receipts_settings = ["-p", provider, "-w", 8, "-b", 2], ["-p", provider, "-w", 4, "-b", 50]
    blocks = ["-s", 1, "-e", options.etl_blocks, "--blocks-output", out / "blocks.csv"]
    blocks += ["--transactions-output", out / "transactions.csv"]
    meter.run([etl, "export_blocks_and_transactions", *blocks_settings, *blocks], work)
    with open(out / "transactions.csv", newline="") as transactions, open(work / "hashes", "w") as hashes:
        hashes.writelines(row["hash"] + "\n" for row in csv.DictReader(transactions))
    outputs = ["--receipts-output", out / "receipts.csv", "--logs-output", out / "logs.csv"]
    meter.run([etl, "export_receipts_and_logs", *receipts_settings, "-t", work / "hashes", *outputs], work)
    return out


# Its `transactions` include fields from the receipts. With small chunks, its three data sets find a block in geth's cache.
CRYO_CALL = """
import cryo, json, sys
cryo.freeze(json.loads(sys.argv[2]), **json.loads(sys.argv[1]))
"""


def cryo(*datasets):
    def run(meter, options, geth, work):
        out = work / "data"
        out.mkdir()
        settings = {"blocks": [f"1:{options.cryo_blocks + 1}"], "chunk_size": 25, "verbose": False}
        settings |= {"rpc": geth.http, "output_dir": str(out)}
        meter.run([VENV / "bin" / "python", "-c", CRYO_CALL, json.dumps(settings), json.dumps(datasets)], work)
        return out

    return run


# How to run it, its number of blocks, what to count its rows in, and the tables to count.
TABLES = ["blocks", "transactions", "logs"]
WITHOUT_SENDERS = "blocks,logs,token_transfers,withdrawals"
Contender = collections.namedtuple("Contender", "run blocks source tables", defaults=(TABLES,))
CONTENDERS = {
    "freezer": Contender(backfill(), frozen_blocks, lambda table: table),
    "freezer-1": Contender(backfill("--workers", 1, prefix=("taskset", "-c", "0")), frozen_blocks, lambda table: table),
    "freezer-limit": Contender(freezer_limit(), frozen_blocks, None),
    "freezer-limit-1": Contender(freezer_limit(prefix=("taskset", "-c", "0")), frozen_blocks, None),
    "freezer-limit-ifma": Contender(freezer_limit("--batch"), frozen_blocks, None),
    "spyhop": Contender(run_spyhop, lambda options: options.blocks, lambda table: table),
    "limit": Contender(run_limit, lambda options: options.blocks, None),
    "cryo": Contender(cryo(*TABLES), lambda options: options.cryo_blocks, lambda table: f"'*__{table}__*.parquet'"),
    "etl": Contender(run_etl, lambda options: options.etl_blocks, lambda table: f"'{table}.csv'"),
    "freezer-logs": Contender(backfill("--tables", WITHOUT_SENDERS), frozen_blocks, lambda table: table, ["logs"]),
    "cryo-logs": Contender(cryo("logs"), lambda options: options.cryo_blocks, lambda table: f"'*__{table}__*.parquet'", ["logs"]),
}
# Third-party programs: if one crashes, the measurement continues without that round.
PEERS = {"cryo", "cryo-logs", "etl"}
# These also write the genesis.
WITH_GENESIS = {"spyhop", "freezer", "freezer-1", "freezer-logs"}

COUNT = """
import duckdb, json, os, sys
published = "spyhop.duckdb"
db = duckdb.connect(published, read_only=True) if os.path.exists(published) else duckdb.connect()
print(json.dumps([db.sql(f"select count(*) from {source}").fetchone()[0] for source in sys.argv[1:]]))
"""


def measure(name, options, geth, work):
    run, blocks, source, tables = CONTENDERS[name]
    blocks = blocks(options)
    work = work / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    meter = Meter()
    geth_cpu, start = geth.cpu(), time.monotonic()
    out = run(meter, options, geth, work)
    seconds, geth_cpu = meter.seconds or time.monotonic() - start, geth.cpu() - geth_cpu

    rows = size = None
    if out:
        sources = [source(table) for table in tables]
        counted = subprocess.run(
            [VENV / "bin" / "python", "-c", COUNT, *sources], cwd=out, check=True, capture_output=True, text=True
        )
        rows = json.loads(counted.stdout)
        counts = {"blocks": blocks + (name in WITH_GENESIS), "transactions": blocks * TRANSACTIONS, "logs": blocks * LOGS[options.shape]}
        expected = [counts[table] for table in tables]
        if rows != expected:
            raise Crashed(f"{name} wrote {rows} {', '.join(tables)} where {expected} are on the chain")
        rows = sum(rows)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    recovery = re.search(r"recovery_percent=([0-9.]+)", (work / "log").read_text(errors="replace"))
    recovery = float(recovery[1]) if recovery else None
    result = Run(blocks, seconds, rows, meter.rss, meter.fds, size, meter.cpu, geth_cpu, recovery)
    shutil.rmtree(work)
    return result


# --- what is printed


def report(runs, options):
    def median(name, value):
        return statistics.median(value(run) for run in runs[name])

    def rate(run):
        return run.blocks / run.seconds

    heads = ["", "rounds", "blocks", "blocks/s", "(min–max)", "rows/s", "peak RSS MiB", "descriptors", "bytes/block", "CPU ms/block own + geth", "recovery % of own CPU"]
    table = [heads]
    for name in runs:
        rates = [rate(run) for run in runs[name]]
        fds = [count for run in runs[name] for count in run.fds]
        written = runs[name][0].rows is not None
        table.append([
            name,
            str(options.rounds) if len(rates) == options.rounds else f"{len(rates)} of {options.rounds}",
            f"{runs[name][0].blocks:,}",
            f"{statistics.median(rates):.1f}",
            f"{min(rates):.1f}–{max(rates):.1f}",
            f"{median(name, lambda run: run.rows / run.seconds):,.0f}" if written else "–",
            f"{median(name, lambda run: run.rss) / MIB:.0f}",
            f"{min(fds)}–{max(fds)}" if fds else "–",
            f"{median(name, lambda run: run.out / run.blocks):,.0f}" if written else "–",
            f"{1000 * median(name, lambda run: run.cpu / run.blocks):.1f}"
            f" + {1000 * median(name, lambda run: run.geth_cpu / run.blocks):.1f}",
            f"{median(name, lambda run: run.recovery):.1f}" if runs[name][0].recovery is not None else "–",
        ])
    for name in set(options.only) - set(runs):
        table.append([name, f"0 of {options.rounds}", *["–"] * (len(heads) - 2)])
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    shape = "half ether, half token transfers" if options.shape == "lab" else "shaped like mainnet's"
    print(f"\n{TRANSACTIONS} transactions and {LOGS[options.shape]} logs a block, {shape}; median of {options.rounds}")
    print(f"{processor()}, {os.cpu_count()} cores, geth {GETH_VERSION} on the same cores; rows: {' + '.join(TABLES)}\n")
    for row in table:
        print("  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]))

    print()
    ratios = [
        ("freezer", "freezer-limit", 0, "%"),
        ("freezer", "freezer-limit-ifma", {"lab": 30, "mainnet": 20}[options.shape], "%"),
        ("freezer", "freezer-1", 1.8, "x"),
        ("freezer-limit", "freezer-limit-1", 0, "x"),
        ("freezer", "cryo", 10, "x"),
        ("freezer", "etl", 45, "x"),
        ("freezer-logs", "cryo-logs", 4, "x"),
        ("spyhop", "limit", 80, "%"),
        ("spyhop", "cryo", 3, "x"),
        ("spyhop", "etl", 9, "x"),
    ]
    for name, peer, target, unit in ratios:
        if name in runs and peer in runs:
            ratio = median(name, rate) / median(peer, rate) * (100 if unit == "%" else 1)
            wanted = f"at least {target:>4} {unit}   {verdict(ratio >= target)}" if target else ""
            print(f"{name} / {peer:18} {ratio:9.1f} {unit}   {wanted}".rstrip())
    if "freezer-logs" in runs:
        print(f"freezer-logs recovers nothing   {verdict(all(run.recovery is None for run in runs['freezer-logs']))}")
    for name in ["freezer", "spyhop"]:
        if name in runs:
            rss = max(run.rss for run in runs[name])
            print(f"resident memory of {name:7} {rss / MIB:6.0f} MiB   below 512 MiB   {verdict(rss < 512 * MIB)}")
    if "spyhop" not in runs:
        return
    # Constant: the same number is open in the middle of a run and near its end.
    drift = max(abs(middle - late) for middle, late in map(thirds, runs["spyhop"]))
    print(f"descriptors     {drift:+6.0f} from the second third of a run to the last   {verdict(drift <= 2)}")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def recover(binary):
    """Compares our recovery of senders with libsecp256k1's, on one core."""
    printed = subprocess.run(["taskset", "-c", "0", binary], check=True, capture_output=True, text=True).stdout
    found = json.loads(printed)
    ns, alone, checked = (found[key][1] for key in ["checked_ns", "alone_ratio", "checked_ratio"])
    print(f"\nrecover, one core, {found['in_use']}: {1e6 / ns:,.0f} senders a ms, {checked:.1f} x libsecp256k1   at least 10 x   {verdict(checked >= 10)}")
    print(f"without the share that is checked by libsecp256k1: {alone:.1f} x")


def thirds(run):
    third = len(run.fds) // 3
    return (statistics.median(run.fds[third : 2 * third] or [0]), statistics.median(run.fds[2 * third :] or [0]))


def verdict(good):
    return "met" if good else "MISSED"


def say(words):
    print(words, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=4_000, help="the chain's length, measured whole by spyhop and the limit")
    # Not below 500: geth keeps the last 256 blocks decoded, with their senders, and would serve a short slice from memory.
    parser.add_argument("--cryo-blocks", type=int, default=1_000, help="the first blocks only, as rates are per block")
    parser.add_argument("--etl-blocks", type=int, default=500)
    parser.add_argument("--shape", choices=LOGS, default="lab", help="what the blocks hold")
    parser.add_argument("--only", default=",".join([*CONTENDERS, "recover"]), help="which contenders, '' for making the chain alone")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    options.recover = "recover" in options.only
    options.only = [name for name in options.only if name != "recover"]
    if unknown := set(options.only) - set(CONTENDERS):
        parser.error(f"no such contender: {', '.join(unknown)}")
    options.cryo_blocks = min(options.cryo_blocks, options.blocks)
    options.etl_blocks = min(options.etl_blocks, options.blocks)
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    geth_binary = find_geth()
    options.binaries = prepare_binaries("spyhop", "bench-chain", "bench-limit", *["bench-recover"] * options.recover)
    prepare_peers()
    datadir = prepare_chain(geth_binary, options.binaries["bench-chain"], options.blocks, options.shape)
    runs = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="spyhop-bench-") as work:
        work = pathlib.Path(work)
        with Geth(geth_binary, datadir, work) as geth:
            try:
                for turn in range(options.rounds):
                    # Each round starts with a different contender, so that none always runs after the same one.
                    first = turn % max(1, len(options.only))
                    for name in options.only[first:] + options.only[:first]:
                        load = os.getloadavg()[0]
                        try:
                            run = measure(name, options, geth, work)
                        except Crashed as crashed:
                            if name not in PEERS:
                                raise
                            say(f"round {turn + 1}: {name} is missing: {crashed}")
                            continue
                        runs[name].append(run)
                        say(
                            f"round {turn + 1}: {name} {run.blocks / run.seconds:.1f} blocks/s, {run.seconds:.1f} s,"
                            f" {run.rss / MIB:.0f} MiB, load average before {load:.1f}"
                        )
            finally:
                for child in CHILDREN:
                    child.kill()
                    child.wait()
    if runs:
        report({name: runs[name] for name in CONTENDERS if name in runs}, options)
    if options.recover:
        recover(options.binaries["bench-recover"])


if __name__ == "__main__":
    try:
        main()
    except Crashed as crashed:
        sys.exit(f"error: {crashed}")
    except subprocess.CalledProcessError as error:
        stderr = error.stderr.decode() if isinstance(error.stderr, bytes) else error.stderr or ""
        sys.exit(f"error: {error}\n{stderr}".rstrip())
