#!/usr/bin/env python3
"""One engine in a process of its own: opens a lake, asks, and prints what it says as lines of JSON.

    ask.py ENGINE five LAKE           the five questions, once
    ask.py ENGINE until LAKE FILE     the same, again and again until the file exists
    ask.py ENGINE sums LAKE           the sums that cannot overflow, and what a plain one does
"""

import json
import os
import pathlib
import sys
import tempfile
import time

import digits
import docs
from engines import ENGINES

TABLES = ["address_flows", "balances", "gas_blocks", "gas_flows", "labels", "native_transfers", "token_transfers", "transactions"]


def say(**what):
    print(json.dumps(what), flush=True)


def five(engine):
    started = time.monotonic()
    answers = [digits.rows(engine.ask(question)) for question in docs.questions()]
    say(answers=answers, ask_s=time.monotonic() - started)


def sums(engine):
    say(totals=digits.totals(engine.ask(docs.exact_sum(engine.name))))
    plain = {}
    for token in ["fits", "wraps", "wraps_twice"]:
        try:
            [[total]] = digits.rows(engine.ask(f"SELECT sum(value) AS total FROM token_transfers WHERE token_address = '{token}'"))
        except Exception as error:
            total = str(error).splitlines()[0]
        plain[token] = total
    say(plain=plain)


def main():
    name, what, lake, *stop = sys.argv[1:]
    lake = pathlib.Path(lake).resolve()
    tables = ["token_transfers"] if what == "sums" else TABLES
    with tempfile.TemporaryDirectory(prefix="spyhop-engine-") as work:
        started = time.monotonic()
        engine = ENGINES[name](lake, tables, work)
        start_s = getattr(engine, "start_s", 0)
        try:
            engine.ask("SELECT count(*) AS rows FROM token_transfers")
            say(start_s=start_s, open_s=time.monotonic() - started - start_s, time_zone=os.environ.get("TZ"))
            if what == "sums":
                sums(engine)
                return
            five(engine)
            while stop and not os.path.exists(stop[0]):
                five(engine)
        finally:
            getattr(engine, "close", lambda: None)()


if __name__ == "__main__":
    main()
