#!/usr/bin/env python3
"""Makes a volume to ask, with a real `geth --dev`, the demonstration's traffic, and labels: a merged range of 1,000 blocks together
with the ten that it was made of, and some ranges after it.

    volume.py SPYHOP VOLUME

$GETH names geth. It mines a block whenever a transaction arrives, so that a block takes a fraction of a second and is a second
later than the one before: the volume has hours of blocks after a few minutes.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.append(str(ROOT / "docker" / "demo"))

import traffic  # noqa: E402

LABELS = ROOT / "docker" / "demo" / "labels.csv"
# geth keeps the state of 128 blocks: spyhop must not fall behind by more.
BEHIND_MAX = 60
BLOCKS = 1_300
DEADLINE_S = 1_200


def tip(volume):
    """The newest block that spyhop has stored."""
    names = os.listdir(volume / "tail") if (volume / "tail").is_dir() else []
    return max((int(name[:10]) for name in names if re.match(r"\d{10}-", name)), default=-1)


def trade(node, volume, alive):
    developer = traffic.Developer(node)
    accounts = [traffic.Account(node, name) for name in traffic.NAMES]
    tokens = traffic.create_tokens(node, developer)
    for account in accounts:
        traffic.fund(developer, account)
        for name, address in tokens.items():
            share = traffic.TOKENS[name] // (2 * len(accounts))
            developer.send(to=address, gas=traffic.TRANSFER_GAS, data=traffic.transfer(account.address, share))
            account.tokens[name] = share
    while (head := node.number("eth_blockNumber")) < BLOCKS:
        alive()
        if head - tip(volume) > BEHIND_MAX:
            time.sleep(0.05)
            continue
        traffic.act(developer, accounts, tokens)


def end(process):
    process.send_signal(signal.SIGTERM)
    if code := process.wait(timeout=300):
        sys.exit(f"error: {process.args[0]} exited with code {code}")


def main():
    spyhop, volume = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    volume.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="spyhop-geth-") as home:
        socket, log = f"{home}/geth.ipc", open(f"{home}/log", "wb")
        argv = [os.environ["GETH"], "--dev", "--datadir", f"{home}/geth", "--ipcpath", socket, "--verbosity", "2"]
        geth = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        watch = None
        deadline = time.monotonic() + DEADLINE_S

        def alive():
            for process in filter(None, [geth, watch]):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"error: {process.args[0]} ended, or this takes too long\n" + pathlib.Path(log.name).read_text()[-3000:])

        def wait_for(condition):
            while not condition():
                alive()
                time.sleep(0.1)

        # So that geth and spyhop end with it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: stopped by a signal"))
        try:
            wait_for(lambda: os.path.exists(socket))
            argv = [spyhop, "watch", "--ipc", socket, "--data", str(volume), "--from", "earliest", "--labels", str(LABELS)]
            watch = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            trade(traffic.Node(socket), volume, alive)
            merged = volume / "chain" / "first=0000000000" / "last=0000000999"
            last = volume / "chain" / "first=0000001100"
            wait_for(lambda: merged.is_dir() and last.is_dir() and tip(volume) >= BLOCKS - 1)
            print(f"{BLOCKS} blocks in {DEADLINE_S - (deadline - time.monotonic()):.0f} s", flush=True)
        finally:
            for process in [watch, geth]:
                if process and process.poll() is None:
                    end(process)


if __name__ == "__main__":
    main()
