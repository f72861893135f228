#!/usr/bin/env python3
"""Measures how much building history slows down block imports in the node that it reads from.

    tests/bench/beside.py [--rounds 10] [--blocks 80] [--every-ms 100] [--only freezer,ipc,watch]

Each round imports --blocks blocks of 150 transactions, one every --every-ms milliseconds, alone and beside each contender, reversing
the order from round to round. `freezer` is `backfill` from the freezer, `ipc` the same over the socket, `watch` is `watch --from 0`; all
build at idle priority. A block's time is that of `engine_newPayloadV4` and `engine_forkchoiceUpdatedV3`.

Needs what run.py needs, and the chain that it builds. The blocks above that chain are built here once and kept in the same cache. The
node runs on a copy.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import run
from run import say

CHAIN_BLOCKS = 4_000
# 97.5 % quantiles of Student's t, by degrees of freedom from 1.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
CONTENDERS = {
    "freezer": ["backfill", "--from", 0],
    "ipc": ["backfill", "--from", 0, "--ancient", "."],
    "watch": ["watch", "--from", 0],
}


class Engine:
    """The node's consensus client: imports prebuilt blocks, one at a time."""

    def __init__(self, ipc, requests):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(ipc))
        self.replies = self.socket.makefile("rb")
        self.requests = open(requests, "rb")
        self.hashes = []

    def call(self, request):
        self.socket.sendall(request)
        reply = json.loads(self.replies.readline())
        status = reply["result"].get("payloadStatus", reply["result"])["status"] if "result" in reply else reply
        if status != "VALID":
            sys.exit(f"error: the node answers {status}")

    def import_one(self):
        """Imports the next block; returns the seconds it took."""
        request = self.requests.readline()
        self.hashes.append(json.loads(request)["params"][0]["blockHash"])
        start = time.monotonic()
        self.call(request)
        self.choose("0x" + 64 * "0")
        return time.monotonic() - start

    def choose(self, finalized):
        """Makes the last imported block the head, and `finalized` final unless it is zero."""
        state = {"headBlockHash": self.hashes[-1], "safeBlockHash": finalized, "finalizedBlockHash": finalized}
        choice = {"jsonrpc": "2.0", "id": 1, "method": "engine_forkchoiceUpdatedV3", "params": [state, None]}
        self.call(json.dumps(choice).encode())

    def import_many(self, count, every):
        """Imports blocks at a steady pace, or as fast as possible if that is slower; returns the seconds for each."""
        seconds, due = [], time.monotonic()
        for _ in range(count):
            due = max(due + every, time.monotonic())
            time.sleep(max(0, due - time.monotonic()))
            seconds.append(self.import_one())
        return seconds


class Contender:
    """spyhop building history for the duration of the `with` block; `rate` is the rate it reached."""

    def __init__(self, name, options, geth, work):
        self.work = work / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        self.argv = [options.binaries["spyhop"], *CONTENDERS[name], "--ipc", geth.ipc, "--data", self.work / "data"]
        self.rate = None

    def __enter__(self):
        with open(self.work / "log", "wb") as log:
            argv = [str(word) for word in self.argv]
            self.process = subprocess.Popen(argv, cwd=self.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        # Wait until it builds: before that it does not run at full speed.
        while not any((self.work / "data/.spyhop/tmp").glob("range-*")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"error: it does not build:\n{run.tail(self.work / 'log')}")
            time.sleep(0.02)
        self.started, self.processor = time.monotonic(), self.cpu()
        return self

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def measured(self):
        """CPU seconds per second since it began to build; exits if it had nothing left to build."""
        if self.process.poll() is not None:
            sys.exit(f"error: history was built before the blocks were imported, make them fewer:\n{run.tail(self.work / 'log')}")
        return (self.cpu() - self.processor) / 100 / (time.monotonic() - self.started)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        log = (self.work / "log").read_text()
        self.rate = re.findall(r"blocks_s=([0-9.]+)", log)
        self.rate = float(self.rate[-1]) if self.rate else None
        self.paused = log.count("building pauses")


def prepare_requests(geth, options, datadir, count):
    """The file of requests that import `count` blocks above the chain."""
    genesis = hashlib.sha256((datadir.parent / "genesis.json").read_bytes()).hexdigest()
    path = run.CACHE / "bench-import" / f"{CHAIN_BLOCKS}x{run.TRANSACTIONS}-{genesis[:8]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and sum(1 for _ in open(path, "rb")) >= count:
        return path
    say(f"making {count} blocks above the chain, once")
    with tempfile.TemporaryDirectory(prefix="spyhop-bench-", dir=path.parent) as work:
        work = pathlib.Path(work)
        shutil.copytree(datadir, work / "geth")
        with run.Geth(geth, work / "geth", work) as node:
            build = ["build", "--ipc", node.ipc, "--blocks", CHAIN_BLOCKS + count, "--requests", work / "requests"]
            argv = [str(word) for word in [options.binaries["bench-chain"], *build]]
            subprocess.run(argv, check=True, capture_output=True)
        (work / "requests").rename(path)
    return path


def measure(options, geth, engine, work):
    """Mean and median milliseconds of a block, by contender and round; `None` is the node alone."""
    times, rates = {name: [] for name in [None, *options.only]}, {name: [] for name in options.only}
    for turn in range(options.rounds):
        # Forwards, then backwards, so that drift cancels out.
        for name in [None, *options.only][:: 1 if turn % 2 == 0 else -1]:
            if name is None:
                seconds = engine.import_many(options.blocks, options.every_ms / 1000)
            else:
                with Contender(name, options, geth, work) as contender:
                    seconds = engine.import_many(options.blocks, options.every_ms / 1000)
                    cores = contender.measured()
                rates[name].append((contender.rate, cores, contender.paused))
            times[name].append((1000 * statistics.mean(seconds), 1000 * statistics.median(seconds)))
        for name in options.only:
            (mean, median), (alone, median_alone), (rate, cores, paused) = times[name][-1], times[None][-1], rates[name][-1]
            print(
                f"round {turn + 1:2} {name:8} {alone:6.1f} ms alone, {mean:6.1f} ms beside: {100 * (mean / alone - 1):+6.1f} %,"
                f" of the median block {100 * (median / median_alone - 1):+6.1f} %;"
                f" built {rate if rate is not None else '–'} blocks/s on {cores:.2f} cores" + (f", paused {paused} times" if paused else ""),
                flush=True,
            )
    return times, rates


def interval(values):
    """Mean, and its 95 % confidence interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, mean, mean
    half = T[min(len(values) - 2, len(T) - 1)] * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def report(times, rates, options):
    print(f"\n{options.blocks} blocks of {run.TRANSACTIONS} transactions a round, one every {options.every_ms} ms; {options.rounds} rounds\n")
    for name in options.only:
        for what, index in [("mean", 0), ("median", 1)]:
            slowing = [100 * (beside[index] / alone[index] - 1) for beside, alone in zip(times[name], times[None])]
            mean, low, high = interval(slowing)
            line = f"{name:8} slows the {what:6} block by {mean:+6.1f} %, 95 % interval {low:+.1f} to {high:+.1f} %"
            built = [rate for rate, _, _ in rates[name] if rate is not None]
            rate = f"{statistics.median(built):.1f} blocks/s" if built else "an unknown rate"
            print(f"{line}   lower end below 5 %   {run.verdict(low < 5)}   beside {rate}" if index == 0 else line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=80, help="imported in each round, alone and beside each contender")
    parser.add_argument("--every-ms", type=int, default=100, help="milliseconds from one import to the next, 0 for back to back")
    parser.add_argument("--only", default=",".join(CONTENDERS))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.only = options.only.split(",")
    geth = run.find_geth()
    options.binaries = run.prepare_binaries("spyhop", "bench-chain")
    datadir = run.prepare_chain(geth, options.binaries["bench-chain"], CHAIN_BLOCKS, "lab")
    # A few more for warming up: the first blocks find cold caches.
    warm = 20
    requests = prepare_requests(geth, options, datadir, warm + options.rounds * options.blocks * (1 + len(options.only)))
    with tempfile.TemporaryDirectory(prefix="spyhop-bench-") as work:
        work = pathlib.Path(work)
        shutil.copytree(datadir, work / "geth")
        with run.Geth(geth, work / "geth", work) as node:
            engine = Engine(node.ipc, requests)
            engine.import_many(warm, 0)
            report(*measure(options, node, engine, work), options)


if __name__ == "__main__":
    main()
