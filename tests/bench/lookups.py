"""Times the same lookups on a volume and on cryo's Parquet, in turns; what to ask is JSON on standard input, see serve.py."""

import json
import random
import statistics
import sys
import time

import duckdb

asked = json.load(sys.stdin)
random.seed(asked["seed"])
ours = duckdb.connect(asked["data"] + "/spyhop.duckdb", read_only=True)
ours.execute("SET file_search_path = ?", [asked["data"]])
cryo = duckdb.connect()
for table in ["blocks", "transactions"]:
    cryo.execute(f"CREATE VIEW cryo_{table} AS SELECT * FROM '{asked['cryo']}/*__{table}__*.parquet'")
for connection in ours, cryo:
    connection.execute("SET threads = 2")


class Hex(str):
    """Hexadecimal text, with the format `x` for that without `0x`."""

    def __format__(self, spec):
        return self[2:] if spec == "x" else str(self)


def timed(connection, sql):
    start = time.perf_counter()
    rows = connection.execute(sql).fetchall()
    return 1000 * (time.perf_counter() - start), rows


tip = ours.execute("SELECT max(number) FROM blocks").fetchone()[0]
print(f"{'DuckDB ' + duckdb.__version__:28} {'spyhop':>8} {'cryo':>8} {'times':>6}")
for name, (own, others) in asked["options"].items():
    own_ms, others_ms = [], []
    for turn in range(10):
        found = None
        while not found:
            block = random.randrange(1, tip)
            found = ours.execute(f"SELECT hash, from_address FROM transactions WHERE block_number = {block} LIMIT 1").fetchone()
        hash, address = found
        keys = {"hash": Hex(hash), "address": Hex(address), "block": block}
        (own_took, row), (others_took, other) = timed(ours, own.format(**keys)), timed(cryo, others.format(**keys))
        if not row or row != other:
            sys.exit(f"error: {name} {keys}: {row} and {other}")
        if turn:
            own_ms.append(own_took)
            others_ms.append(others_took)
    own_ms, others_ms = statistics.median(own_ms), statistics.median(others_ms)
    times = others_ms / own_ms
    print(f"{name:28} {own_ms:8.1f} {others_ms:8.1f} {times:6.1f}   at least 10   {'met' if times >= 10 else 'MISSED'}")
