#!/usr/bin/env python3
"""Measures `spyhop serve`: how fresh it is, what its panels cost, and what its clients cost the writer.

    tests/bench/serve.py fresh [--blocks 120]
    tests/bench/serve.py panels [--ranges 270] [--blocks 40000]
    tests/bench/serve.py lookups [--blocks 12000] [--ranges 270] [--python PYTHON…]
    tests/bench/serve.py clients [--rounds 3] [--clients 20] [--writer backfill,watch]

`fresh` imports one block of 150 transactions per second into a node, and measures the time from the node's answer to a row in
`spyhop.duckdb`, to the server's event, to the panel `blocks`, and to the page in Chromium.
`panels` asks every panel of a volume of synthetic ranges, each time with another limit, so that no answer comes from the cache.
`lookups` compares looking up a hash, an address and a block with DuckDB over cryo's Parquet of the same blocks; with --ranges, of as
many synthetic ranges of --blocks each, which no node has: then cryo's files are written by cryo_files.py. --python names others with DuckDB.
`clients` builds the same history alone and beside clients that ask without pause, in turns.

Needs what run.py needs; `fresh` also what `tests/run.sh page` installs, `panels` and `lookups --ranges` $BENCH_RANGES or cargo,
`clients` wrk.
"""

import argparse
import contextlib
import http.client
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
import threading
import time

import beside
import run
import scale
from run import say

HERE = pathlib.Path(__file__).resolve().parent


class Server:
    """`spyhop serve` on a volume for the duration of the `with` block."""

    def __init__(self, options, data, work):
        self.port, self.log = run.free_port(), work / "serve.log"
        self.argv = [options.binaries["spyhop"], "serve", "--data", str(data), "--http", str(self.port)]

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.get("/api/v1/status")
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"error: it does not serve:\n{run.tail(self.log)}")
                time.sleep(0.05)

    def get(self, path):
        """The status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def ask(self, panel, **parameters):
        """A panel's answer."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        status, body = self.get(f"/api/v1/panels/{panel}?{query}")
        if status != 200:
            sys.exit(f"error: {panel}?{query}: {status} {body.decode()}")
        return json.loads(body)

    def value(self, panel, column, **parameters):
        """One cell of a panel's first row."""
        answer = self.ask(panel, **parameters)
        if not answer["rows"]:
            sys.exit(f"error: {panel} is empty")
        return answer["rows"][0][[column["name"] for column in answer["columns"]].index(column)]

    def peak_mib(self):
        return int(re.search(r"VmHWM:\s+([0-9]+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


# --- fresh


class Seen:
    """When each block was first seen somewhere."""

    def __init__(self):
        self.times, self.changed = {}, threading.Condition()

    def see(self, block, at):
        with self.changed:
            self.times.setdefault(int(block), at)
            self.changed.notify_all()

    def wait(self, block, seconds=60):
        with self.changed:
            if not self.changed.wait_for(lambda: any(seen >= block for seen in self.times), seconds):
                sys.exit(f"error: block {block} was not seen")

    def time(self, block):
        """When this block or a later one was first seen."""
        return min(at for seen, at in self.times.items() if seen >= block)


def follow_file(options, data, seen, stop):
    """Opens each new published file with DuckDB's own client, which is what a reader does."""
    python = run.VENV / "bin" / "python"
    program = HERE / "newest.py"
    child = subprocess.Popen([str(python), str(program), str(data / "spyhop.duckdb")], stdout=subprocess.PIPE, text=True)
    stop.append(child.kill)
    for line in child.stdout:
        block, at = line.split()
        seen.see(block, float(at))


def follow_events(server, seen):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/api/v1/events", headers={"Accept": "text/event-stream"})
    for line in connection.getresponse():
        if line.startswith(b"data:") and b'"block"' in line:
            at = time.time()
            with contextlib.suppress(KeyError, TypeError):
                seen.see(json.loads(line[5:])["block"], at)


def follow_panel(server, seen):
    """Asks again as soon as there is an answer, as a client without events does, ten times a second."""
    while True:
        with contextlib.suppress(OSError):
            status, body = server.get("/api/v1/panels/blocks?limit=1")
            if status == 200 and (rows := json.loads(body)["rows"]):
                seen.see(rows[0][0], time.time())
        time.sleep(0.1)


def follow_page(server, seen, stop):
    child = subprocess.Popen(
        ["node", str(HERE / "newest.mjs"), f"http://127.0.0.1:{server.port}/"], stdout=subprocess.PIPE, text=True
    )
    stop.append(child.terminate)
    for line in child.stdout:
        block, at = line.split()
        seen.see(block, float(at))


def fresh(options, work):
    places = ["a row in spyhop.duckdb", "the server's event", "/api, asked 10 times a second", "the page"]
    seen, stop = {place: Seen() for place in places}, []
    with scale.beside_node(options, work) as node:
        data = work / "data"
        common = ["--ipc", str(node.ipc), "--data", str(data), "--from", "3700"]
        subprocess.run([options.binaries["spyhop"], "watch", "--once", *common], check=True, capture_output=True)
        engine = beside.Engine(node.ipc, options.requests)
        with open(work / "watch.log", "wb") as log:
            watch = subprocess.Popen([options.binaries["spyhop"], "watch", *common], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            with Server(options, data, work) as server:
                followers = [
                    (follow_file, options, data, seen[places[0]], stop), (follow_events, server, seen[places[1]]),
                    (follow_panel, server, seen[places[2]]), (follow_page, server, seen[places[3]], stop),
                ]
                for follower, *arguments in followers:
                    threading.Thread(target=follower, args=arguments, daemon=True).start()
                # The first block shows that all of them work.
                engine.import_one()
                for place in places:
                    seen[place].wait(beside.CHAIN_BLOCKS + 1)
                imported = {}
                for number in range(2, options.blocks + 2):
                    due = time.monotonic() + 1
                    engine.import_one()
                    imported[beside.CHAIN_BLOCKS + number] = time.time()
                    time.sleep(max(0, due - time.monotonic()))
                for place in places:
                    seen[place].wait(beside.CHAIN_BLOCKS + options.blocks + 1)
        finally:
            for end in stop:
                end()
            watch.send_signal(signal.SIGTERM)
            watch.wait(60)
    print(f"\n{options.blocks} blocks of {run.TRANSACTIONS} transactions, one a second; seconds from the node's answer to\n")
    print(f"{'':32} {'median':>7} {'p99':>7} {'max':>7}")
    for place in places:
        took = sorted(seen[place].time(block) - at for block, at in imported.items())
        median, p99 = statistics.median(took), took[min(len(took) - 1, int(0.99 * len(took)))]
        print(f"{place:32} {median:7.3f} {p99:7.3f} {took[-1]:7.3f}   median below 1   {run.verdict(median < 1)}")


# --- panels


def panels(options, work):
    made = scale.generate(
        options, work / "data", "--ranges", options.ranges, "--blocks", options.blocks, "--addresses", 10_000, "--publish"
    )
    transactions = options.ranges * options.blocks
    say(f"{options.ranges} ranges with {transactions:,} transactions, made in {made['seconds']:.0f} s")
    with Server(options, work / "data", work) as server:
        address = server.value("transaction", "from_address", hash=made["transaction"])
        known = {"block": made["block"], "hash": made["transaction"], "address": address, "q": address}
        listed = json.loads(server.get("/api/v1/panels")[1])["panels"]
        print(f"\n{options.ranges} ranges, {transactions:,} transactions: milliseconds of five answers, none from the cache\n")
        print(f"{'panel':28} {'rows':>6} {'median':>8} {'max':>8}")
        worst = 0
        for panel in listed:
            names = [parameter["name"] for parameter in panel["parameters"]]
            needed = {name: known[name] for name in names if name in known}
            took, rows = [], 0
            for turn in range(6):
                varied = {"limit": 20 + turn} if "limit" in names else {"hours": 40 + turn} if "hours" in names else {}
                start = time.monotonic()
                rows = len(server.ask(panel["name"], **needed, **varied)["rows"])
                took.append(1000 * (time.monotonic() - start))
                if not varied and not turn:
                    break
            took = took[1:] or took
            worst = max(worst, statistics.median(took))
            print(f"{panel['name']:28} {rows:6} {statistics.median(took):8.1f} {max(took):8.1f}", flush=True)
        print(f"\nthe slowest panel: {worst:.0f} ms   below 300   {run.verdict(worst < 300)}")
        print(f"peak RSS of the server: {server.peak_mib():.0f} MiB   below 300   {run.verdict(server.peak_mib() < 300)}")


# --- lookups

LOOKUPS = {
    "transaction by hash": (
        "SELECT block_number, from_address, CAST(value AS VARCHAR) FROM tx('{hash}')",
        "SELECT block_number, '0x' || lower(hex(from_address)), value_string FROM cryo_transactions WHERE transaction_hash = unhex('{hash:x}')",
    ),
    "block by number": (
        "SELECT hash, gas_used FROM block({block})",
        "SELECT '0x' || lower(hex(block_hash)), gas_used FROM cryo_blocks WHERE block_number = {block}",
    ),
    "transactions of an address": (
        "SELECT count(*), max(block_number) FROM transactions WHERE from_address = '{address}'",
        "SELECT count(*), max(block_number) FROM cryo_transactions WHERE from_address = unhex('{address:x}')",
    ),
}


def lookups(options, work):
    run.prepare_peers()
    pythons = options.python or [str(run.VENV / "bin" / "python")]
    data = work / "data"
    if options.ranges:
        scale.generate(options, data, "--ranges", options.ranges, "--blocks", options.blocks, "--addresses", 10_000, "--publish")
        subprocess.run([pythons[0], str(HERE / "cryo_files.py"), str(data), str(work / "cryo")], check=True)
    else:
        history(options, work, data)
    asked = {"options": LOOKUPS, "data": str(data), "cryo": str(work / "cryo"), "seed": 7}
    kind = f"{options.ranges} synthetic ranges of {options.blocks:,} blocks" if options.ranges else f"{options.blocks:,} blocks"
    print(f"\n{kind}; DuckDB on one volume and on cryo's Parquet, in one process, in turns; ms, medians of 9\n", flush=True)
    for python in pythons:
        subprocess.run([python, str(HERE / "lookups.py")], input=json.dumps(asked), check=True, text=True)


def history(options, work, data):
    """The node's chain, in a volume and in cryo's files."""
    datadir = run.prepare_chain(options.geth, options.binaries["bench-chain"], options.blocks, "lab")
    shutil.copytree(datadir, work / "geth")
    spyhop = options.binaries["spyhop"]
    with run.Geth(options.geth, work / "geth", work) as node:
        subprocess.run([spyhop, "watch", "--once", "--ipc", str(node.ipc), "--data", str(data), "--from", "0"], check=True, capture_output=True)
        (work / "cryo").mkdir()
        settings = {"blocks": [f"0:{options.blocks + 1}"], "rpc": node.http, "output_dir": str(work / "cryo"), "include_columns": ["all"], "verbose": False}
        program = "import cryo, json, sys; cryo.freeze(['blocks', 'transactions'], **json.loads(sys.argv[1]))"
        subprocess.run([str(run.VENV / "bin" / "python"), "-c", program, json.dumps(settings)], check=True, capture_output=True)


# --- clients

ASKED = """
request = function()
  local n = math.random({first}, {last})
  local paths = {{
    "/api/v1/panels/blocks?limit=" .. math.random(1, 1000),
    "/api/v1/panels/block?block=" .. n,
    "/api/v1/panels/block_transactions?block=" .. n,
    "/api/v1/panels/whales?limit=" .. math.random(1, 1000),
    "/api/v1/panels/net_flows?limit=" .. math.random(1, 1000),
    "/api/v1/panels/large_transfers?limit=" .. math.random(1, 1000),
    "/api/v1/panels/address?address={address}",
    "/api/v1/panels/gas_hours?hours=" .. math.random(1, 1000),
  }}
  return wrk.format("GET", paths[math.random(#paths)])
end
"""
WRITERS = {"backfill": ["backfill", "--from", "0", "--to", "{last}"], "watch": ["watch", "--from", "0", "--once"]}


def clients(options, work):
    chain = 12_000
    datadir = run.prepare_chain(options.geth, options.binaries["bench-chain"], chain, "lab")
    shutil.copytree(datadir, work / "geth")
    spyhop, first = options.binaries["spyhop"], chain - 500
    with run.Geth(options.geth, work / "geth", work) as node:
        base = work / "base"
        subprocess.run([spyhop, "watch", "--once", "--ipc", str(node.ipc), "--data", str(base), "--from", str(first)], check=True, capture_output=True)
        for writer in options.writer.split(","):
            results = {False: [], True: []}
            for turn in range(options.rounds):
                for asked in [False, True] if turn % 2 == 0 else [True, False]:
                    results[asked].append(build(options, node, writer, base, work, asked, first))
                    rate, *rest = results[asked][-1]
                    say(f"round {turn + 1}: {writer} {'beside clients' if asked else 'alone'}: {rate:.0f} blocks/s {rest}")
            alone, beside_them = (statistics.median(rate for rate, *_ in results[asked]) for asked in (False, True))
            answers, late, refused, peak, fds = (statistics.median(column) for column in list(zip(*results[True]))[1:])
            kept = 100 * beside_them / alone
            print(
                f"{writer}: {alone:.0f} blocks/s alone, {beside_them:.0f} beside {options.clients} clients: {kept:.0f} %"
                f"   above 80   {run.verdict(kept > 80)}\n  {answers:.0f} answers/s, p99 {late:.0f} ms, {refused:.0f} refused;"
                f" server {peak:.0f} MiB   below 300   {run.verdict(peak < 300)}   {fds:.0f} descriptors after"
            )


def build(options, node, writer, base, work, asked, first):
    """The writer's blocks/s; with clients also answers/s, milliseconds of the slowest hundredth, refusals, the server's peak and its
    descriptors once all have gone."""
    data = work / "data"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(base, data)
    argv = [word.format(last=first - 1) for word in WRITERS[writer]]
    command = [options.binaries["spyhop"], *argv, "--ipc", str(node.ipc), "--data", str(data)]
    with contextlib.ExitStack() as stack:
        served, load = None, None
        if asked:
            served = stack.enter_context(Server(options, data, work))
            address = served.value("whales", "address", limit=1)
            (work / "asked.lua").write_text(ASKED.format(first=first, last=first + 400, address=address))
            url = f"http://127.0.0.1:{served.port}"
            load = subprocess.Popen(
                ["wrk", "-t1", f"-c{options.clients}", "-d600s", "--timeout", "20s", "--latency", "-s", str(work / "asked.lua"), url],
                stdout=subprocess.PIPE, text=True,
            )
            time.sleep(2)
        start = time.monotonic()
        with open(work / "writer.log", "w+") as log:
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode:
                sys.exit(f"error: the writer failed:\n{run.tail(work / 'writer.log')}")
        rate = first / (time.monotonic() - start)
        if not asked:
            return (rate,)
        load.send_signal(signal.SIGINT)
        said = load.communicate(timeout=60)[0]
        time.sleep(1)
        late = re.search(r"99%\s+([0-9.]+)(us|ms|s)\b", said)
        refused = re.search(r"Non-2xx or 3xx responses: ([0-9]+)", said)
        return (
            rate, float(re.search(r"Requests/sec:\s+([0-9.]+)", said)[1]), float(late[1]) * {"us": 0.001, "ms": 1, "s": 1000}[late[2]],
            int(refused[1]) if refused else 0, served.peak_mib(), served.descriptors(),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path)
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("fresh")
    mode.add_argument("--blocks", type=int, default=120)
    mode = modes.add_parser("panels")
    mode.add_argument("--ranges", type=int, default=270)
    mode.add_argument("--blocks", type=int, default=40_000, help="of a range, with as many transactions")
    mode = modes.add_parser("lookups")
    mode.add_argument("--blocks", type=int, default=12_000, help="of the chain, or of a range")
    mode.add_argument("--ranges", type=int)
    mode.add_argument("--python", nargs="+")
    mode = modes.add_parser("clients")
    mode.add_argument("--rounds", type=int, default=3)
    mode.add_argument("--clients", type=int, default=20)
    mode.add_argument("--writer", default="backfill,watch")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    synthetic = options.mode == "panels" or getattr(options, "ranges", None)
    options.binaries = run.prepare_binaries("spyhop", "bench-ranges" if synthetic else "bench-chain")
    options.geth = None if synthetic else run.find_geth()
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spyhop-bench-", dir=options.work) as work:
        {"fresh": fresh, "panels": panels, "lookups": lookups, "clients": clients}[options.mode](options, pathlib.Path(work))


if __name__ == "__main__":
    main()
