#!/usr/bin/env python3
"""Measures what must not grow with the amount of history held, using synthetic ranges from ranges.rs.

    tests/bench/scale.py answers [--ranges 270] [--blocks 100000] [--addresses 1000]
    tests/bench/scale.py held [--rounds 5] [--blocks 2000]
    tests/bench/scale.py head [--addresses 100000,20000000] [--blocks 120]

`answers` queries the published file of a volume with one range and of one with all of them, each query in a new process.
`held` backfills the same blocks into volumes that hold nothing else, 1,000, 10,000 or 50,000 blocks, or 270 ranges.
`head` follows a node with one block per second, in volumes with --addresses known addresses; then a hundred blocks become final and are
sealed. It prints the cost of a block, of sealing, ranking and merging, and how long a reader waits for whales.

Needs what run.py needs; $BENCH_RANGES names a prebuilt binary of ranges.rs. --work names a directory with enough space.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import beside
import run
from run import say

# Above all blocks of the node's chain.
ABOVE = 1_000_000
SPEAKING = {**os.environ, "SPYHOP_LOG": "info,spyhop::phase=debug"}


def generate(options, data, *flags):
    """Writes ranges into a volume; returns the generator's report."""
    argv = [str(word) for word in [options.binaries["bench-ranges"], "--data", data, *flags]]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def publications(log):
    """Milliseconds of each publication."""
    return phases(log, "publish")


def phases(log, name):
    """Milliseconds of each phase of that name, from the log lines that mark its start and end."""
    milliseconds, begun = [], None
    for at, mark in re.findall(rf"^(\S+)Z .*\b(enter|exit) phase={name}$", log, re.MULTILINE):
        at = datetime.datetime.fromisoformat(at).timestamp()
        if mark == "enter":
            begun = at
        elif begun is not None:
            milliseconds.append(1000 * (at - begun))
    return milliseconds


# --- answers


def ask(options, data, sql):
    """Median seconds of five processes that run the query, after one for warming up, and the answer."""
    argv = [options.binaries["spyhop"], "sql", "--data", str(data), "--format", "json", "-c", sql]
    times = []
    for _ in range(6):
        start = time.monotonic()
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        times.append(time.monotonic() - start)
    return statistics.median(times[1:]), done.stdout.strip()


def answers(options, work):
    volumes = {}
    for ranges in [1, options.ranges]:
        flags = ["--ranges", ranges, "--blocks", options.blocks, "--addresses", options.addresses, "--publish"]
        volumes[ranges] = made = generate(options, work / f"ranges-{ranges}", *flags)
        size = sum(file.stat().st_size for file in (work / f"ranges-{ranges}").rglob("*") if file.is_file())
        print(
            f"{ranges} ranges of {options.blocks:,} blocks: made in {made['seconds']:.0f} s, {size / run.MIB:,.0f} MiB,"
            f" published in {made['publish_s']:.2f} s, once more in {made['publish_again_s']:.2f} s",
            flush=True,
        )

    def questions(made):
        day = f"make_timestamp({(made['last_timestamp'] - 86_400) * 1_000_000})"
        yield "SELECT 1", "SELECT 1 AS one", False
        yield "block(n)", f"SELECT hash FROM block({made['block']})", True
        yield "tx(hash)", f"SELECT block_number FROM tx('{made['transaction']}')", True
        yield "tx(hash, in_block := n)", f"SELECT block_number FROM tx('{made['transaction']}', in_block := {made['block']})", True
        yield "net_flows of 24h", "SELECT count(*) AS n FROM net_flows WHERE period = '24h'", True
        yield "blocks of 24h", f"SELECT count(*) AS n, sum(gas_used) AS gas FROM blocks WHERE timestamp > {day}", True
        yield "count(*) of blocks", "SELECT count(*) AS n FROM blocks", False
        yield "count(*) of net_flows", "SELECT count(*) AS n FROM net_flows", False
        yield "count(*) of whales", "SELECT count(*) AS n FROM whales", False
        yield "count(*) of gas_daily", "SELECT count(*) AS n FROM gas_daily", False

    print(f"\n{'':24} {'1 range':>10} {f'{options.ranges} ranges':>12} {'times':>7}   seconds, a new process each, median of 5")
    for one, all_of_them in zip(questions(volumes[1]), questions(volumes[options.ranges])):
        name, sql, asked = one
        few, answer = ask(options, work / "ranges-1", sql)
        many, answer_of_many = ask(options, work / f"ranges-{options.ranges}", all_of_them[1])
        if "[]" in (answer, answer_of_many):
            sys.exit(f"error: {name} has no answer")
        print(f"{name:24} {few:10.3f} {many:12.3f} {many / few:7.1f}{'' if asked else '   for information'}", flush=True)


# --- held


def held(options, work):
    with beside_node(options, work) as node:
        spyhop = options.binaries["spyhop"]
        base = work / "base"
        backfill = [spyhop, "backfill", "--ipc", str(node.ipc)]
        subprocess.run([*backfill, "--data", str(base), "--from", "0", "--to", "99"], check=True, capture_output=True)
        volumes = {"nothing": None, "1,000 blocks": (1, 1_000), "10,000 blocks": (1, 10_000), "50,000 blocks": (5, 10_000), "270 ranges": (270, 1_000)}
        for name, shape in volumes.items():
            shutil.copytree(base, work / name)
            if shape:
                ranges, blocks = shape
                generate(options, work / name, "--first", ABOVE, "--ranges", ranges, "--blocks", blocks, "--every", 2 * blocks)
        results = {name: [] for name in volumes}
        for turn in range(options.rounds):
            for name in list(volumes)[:: 1 if turn % 2 == 0 else -1]:
                data = work / "data"
                shutil.copytree(work / name, data, copy_function=os.link, ignore=shutil.ignore_patterns(".spyhop", "*.duckdb"))
                shutil.copytree(work / name / ".spyhop", data / ".spyhop")
                start = time.monotonic()
                done = subprocess.run(
                    [*backfill, "--data", str(data), "--from", "1000", "--to", str(999 + options.blocks)],
                    check=True, capture_output=True, text=True, env=SPEAKING,
                )
                seconds = time.monotonic() - start
                rate = float(re.findall(r"blocks_s=([0-9.]+)", done.stderr)[-1])
                results[name].append((rate, seconds, statistics.median(publications(done.stderr))))
                say(f"round {turn + 1}: {name}: {rate:.1f} blocks/s, {seconds:.2f} s in all")
                shutil.rmtree(data)
    print(f"\nthe same {options.blocks:,} blocks of {run.TRANSACTIONS} transactions; median of {options.rounds}\n")
    print(f"{'beside':16} {'blocks/s':>9} {'s in all':>9} {'ms to publish':>14} {'time per block, times that beside nothing':>42}")
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    for name, (rate, seconds, publish) in medians.items():
        print(f"{name:16} {rate:9.1f} {seconds:9.2f} {publish:14.0f} {medians['nothing'][0] / rate:42.3f}")


# --- head


def head(options, work):
    # A range in every other hundred blocks, so that none are merged, ending two ranges below the followed blocks.
    ranges, results = 18, {}
    for addresses in map(int, options.known.split(",")):
        with beside_node(options, work) as node:
            data = work / "data"
            spyhop = options.binaries["spyhop"]
            # Catch up at full speed first: the measured process builds at idle priority.
            watch = [spyhop, "watch", "--once", "--ipc", str(node.ipc), "--data", str(data), "--from", "3700"]
            subprocess.run(watch, check=True, capture_output=True)
            made = generate(
                options, data, "--ranges", ranges, "--blocks", 100, "--every", 200, "--addresses", addresses // ranges
            )
            size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
            say(f"{made['addresses']:,} addresses in {size / run.MIB:,.0f} MiB, made in {made['seconds']:.0f} s")
            results[made["addresses"]] = follow(options, node, data, work)
            shutil.rmtree(data)
    print(f"\n{options.blocks} blocks of {run.TRANSACTIONS} transactions at the head, one a second; then 100 of them are final\n")
    columns = ["CPU ms/block", "geth's", "ms to publish", "ms until held", "peak RSS MiB", "ms to seal 100", "s to rank", "s for 10 whales"]
    print(f"{'addresses known':>16} " + " ".join(f"{column:>15}" for column in columns))
    for addresses, figures in results.items():
        print(f"{addresses:16,} " + " ".join(f"{figure:15,.{1 if figure < 100 else 0}f}" for figure in figures))
    few, many = list(results.values())[0], list(results.values())[-1]
    grows = [many[index] / few[index] for index in (0, 2)]
    print(f"\nCPU per block grows {grows[0]:.2f} times, publishing {grows[1]:.2f} times   at most 1.5   {run.verdict(max(grows) <= 1.5)}")
    idle = 100 - 100 * max(own + geth for own, geth, *_ in results.values()) / 12_000
    print(f"spyhop's and geth's processor time for a block leaves {idle:.1f} % of a slot of 12 s idle, as if there were one core   at least 80   {run.verdict(idle >= 80)}")
    print(f"resident memory   below 512 MiB   {run.verdict(max(figures[4] for figures in results.values()) < 512)}")
    merge(options, work)


def merge(options, work):
    """Prints the cost of merging ten ranges."""
    addresses, blocks = 1_000_000, 100
    with beside_node(options, work) as node:
        data = work / "data"
        # The node's own range lies above them; whether they belong to its chain is not checked.
        watch = [options.binaries["spyhop"], "watch", "--once", "--ipc", str(node.ipc), "--data", str(data), "--from", "3800"]
        subprocess.run(watch, check=True, capture_output=True)
        generate(options, data, "--first", 2_000, "--ranges", 10, "--blocks", blocks, "--addresses", addresses // 10)
        size = sum(file.stat().st_size for file in data.glob("chain/*/*/*/*.parquet"))
        done = subprocess.run(watch, check=True, capture_output=True, text=True, env=SPEAKING)
        shutil.rmtree(data)
    took = phases(done.stderr, "merge")
    if not took:
        sys.exit(f"error: nothing was merged:\n{done.stderr}")
    print(f"ten ranges of {blocks} blocks with {addresses:,} addresses, {size / run.MIB:.0f} MiB, are merged in {took[0] / 1000:.1f} s")


def follow(options, node, data, work):
    """The cost of a block, and of sealing a hundred: see the printed columns."""
    engine = beside.Engine(node.ipc, options.requests)
    argv = [options.binaries["spyhop"], "watch", "--ipc", str(node.ipc), "--data", str(data), "--from", "3700"]
    log = work / "watch.log"
    with open(log, "wb") as out:
        watch = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=SPEAKING)
    try:
        reach(watch, data, beside.CHAIN_BLOCKS, log)
        # Ranking what is left is part of catching up.
        deadline = time.monotonic() + 600
        while not phases(log.read_text(), "ranking") and time.monotonic() < deadline:
            time.sleep(1)
        time.sleep(5)
        published = len(publications(log.read_text()))
        start, start_geth, behind = cpu(watch.pid), cpu(node.process.pid), []
        for number in range(1, options.blocks + 1):
            due = time.monotonic() + 1
            engine.import_one()
            imported = time.monotonic()
            reach(watch, data, beside.CHAIN_BLOCKS + number, log)
            behind.append(1000 * (time.monotonic() - imported))
            time.sleep(max(0, due - time.monotonic()))
        used, used_by_geth = (
            1000 * (cpu(pid) - before) / options.blocks for pid, before in [(watch.pid, start), (node.process.pid, start_geth)]
        )
        publish = statistics.median(publications(log.read_text())[published:])
        sealed = len(phases(log.read_text(), "range"))
        # The final block is requested when the head moves.
        engine.choose(engine.hashes[100])
        engine.import_one()
        reach(watch, data, beside.CHAIN_BLOCKS + 99, log, "sealed")
        peak = re.search(r"VmHWM:\s+([0-9]+)", pathlib.Path(f"/proc/{watch.pid}/status").read_text())
    finally:
        watch.send_signal(signal.SIGTERM)
        watch.wait(60)
    text = log.read_text()
    seal, rank = phases(text, "range")[sealed], phases(text, "ranking")[0] / 1000
    whales, answer = ask(options, data, "SELECT address, balance FROM whales WHERE asset = 'ETH' ORDER BY rank LIMIT 10")
    if answer.count("0x") != 10:
        sys.exit(f"error: these are no ten whales: {answer}")
    return used, used_by_geth, publish, statistics.median(behind), int(peak[1]) / 1024, seal, rank, whales


def reach(watch, data, number, log, what="tip"):
    deadline = time.monotonic() + 120
    while True:
        try:
            if (json.loads((data / ".spyhop/heartbeat").read_text())[what] or 0) >= number:
                return
        except (FileNotFoundError, json.JSONDecodeError):
            pass
        if watch.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"error: block {number} is not reached:\n{run.tail(log)}")
        time.sleep(0.01)


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def beside_node(options, work):
    """A node on a copy of run.py's chain."""
    datadir = run.prepare_chain(options.geth, options.binaries["bench-chain"], beside.CHAIN_BLOCKS, "lab")
    options.requests = beside.prepare_requests(options.geth, options, datadir, options.blocks + 1) if options.mode in ("head", "fresh") else None
    shutil.rmtree(work / "geth", ignore_errors=True)
    shutil.copytree(datadir, work / "geth")
    return run.Geth(options.geth, work / "geth", work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path)
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("answers")
    mode.add_argument("--ranges", type=int, default=270)
    mode.add_argument("--blocks", type=int, default=100_000, help="of a range")
    mode.add_argument("--addresses", type=int, default=1_000, help="of a range")
    mode = modes.add_parser("held")
    mode.add_argument("--rounds", type=int, default=5)
    mode.add_argument("--blocks", type=int, default=2_000, help="blocks to build, at most 2,900")
    mode = modes.add_parser("head")
    mode.add_argument("--addresses", dest="known", default="100000,20000000")
    mode.add_argument("--blocks", type=int, default=120, help="blocks to follow, more than 100")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.binaries = run.prepare_binaries("spyhop", "bench-chain", "bench-ranges")
    options.geth = run.find_geth() if options.mode != "answers" else None
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spyhop-bench-", dir=options.work) as work:
        {"answers": answers, "held": held, "head": head}[options.mode](options, pathlib.Path(work))


if __name__ == "__main__":
    main()
