#!/usr/bin/env python3
"""Asks six engines the questions of docs/lake.md and compares every digit.

    run.py same LAKE [--volume VOLUME] [--engines NAMES]   before and after the folder is copied elsewhere, in two time zones;
                                                           with VOLUME, whose lake it is, also with what its published file says
    run.py sums [--engines NAMES]                          sums past 38 digits, in a lake made for that
    run.py merges SPYHOP VOLUME [--engines NAMES]          while ranges of a copy of the volume are merged, split and repaired, over
                                                           and over, and `spyhop lake --follow` makes a version of each change

Every engine is a process of its own (ask.py). Exits with 1 on any difference.
"""

import argparse
import decimal
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import digits
import docs
import merges

ASK = pathlib.Path(__file__).with_name("ask.py")
NAMES = ["duckdb", "delta-rs", "polars", "clickhouse", "spark", "trino"]
# None of them is UTC; in the second even the hours begin at another time.
ZONES = ["Asia/Tokyo", "Asia/Kolkata"]


def ask(name, what, lake, *more, zone=ZONES[0]):
    """What an engine says: its lines, merged into one object."""
    argv = [sys.executable, str(ASK), name, what, str(lake), *map(str, more)]
    done = subprocess.run(argv, env=os.environ | {"TZ": zone}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {name} failed on {what}\n{done.stdout}\n{done.stderr[-4000:]}")
    said = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    return said


def published(volume):
    """The five answers of the published file's views of the sealed ranges, which know nothing of the lake."""
    import duckdb

    with duckdb.connect(f"{volume}/spyhop.duckdb", read_only=True) as database:
        database.execute(f"SET file_search_path = '{pathlib.Path(volume).resolve()}'")
        database.execute("SET search_path = 'sealed,main'")
        return [digits.rows(database.execute(question).fetchall()) for question in docs.questions()]


def differences(name, answers, wanted):
    for number, (got, want) in enumerate(zip(answers, wanted, strict=True), 1):
        assert want, f"question {number} has no answer"
        if got != want:
            print(f"{name} differs on question {number}\n  {got}\n  {want}")
            yield number


def same(options):
    lake = options.lake.resolve()
    wanted = published(options.volume) if options.volume else None
    failed = False
    print(f"{'engine':12}{'start s':>9}{'open s':>9}{'answer s':>10}{'copied: open s':>16}{'answer s':>10}   digits")
    with tempfile.TemporaryDirectory(prefix="spyhop-lake-") as elsewhere:
        copy, away = pathlib.Path(elsewhere) / "copy", lake.with_name(lake.name + ".away")
        shutil.copytree(lake, copy)
        before = {name: ask(name, "five", lake) for name in options.engines}
        # The copy must not lead back.
        lake.rename(away)
        try:
            after = {name: ask(name, "five", copy, zone=ZONES[1]) for name in options.engines}
        finally:
            away.rename(lake)
    for name in options.engines:
        wanted = wanted or before[name]["answers"]
        found = [*differences(name, before[name]["answers"], wanted), *differences(name + ", copied,", after[name]["answers"], wanted)]
        failed |= bool(found)
        figures = [before[name]["start_s"], before[name]["open_s"], before[name]["ask_s"], after[name]["open_s"], after[name]["ask_s"]]
        print(f"{name:12}" + "".join(f"{figure:{width}.2f}" for figure, width in zip(figures, [9, 9, 10, 16, 10])) + ("   DIFFER" if found else "   same"))
    return failed


# --- sums

# Amounts of each token: the sum of the first has 38 digits, those of the others do not even fit 127 bits.
LARGE = {
    "fits": [6 * 10**36, 7],
    "wraps": [9 * 10**37] * 3,
    "wraps_twice": [10**38 - 1] * 7 + [12_345_678_901_234_567_890],
}
TOO_LONG = 2**256 - 1


def large_lake(home):
    """A lake with one table, whose amounts are larger than any chain's, and one of them too long for its column."""
    import deltalake
    import pyarrow

    rows = [(token, decimal.Decimal(value), None) for token, values in LARGE.items() for value in values]
    rows.append(("wraps", None, str(TOO_LONG)))
    tokens, values, texts = zip(*rows)
    columns = {
        "token_address": pyarrow.array(tokens, pyarrow.string()),
        "value": pyarrow.array(values, pyarrow.decimal128(38, 0)),
        "value_text": pyarrow.array(texts, pyarrow.string()),
    }
    deltalake.write_deltalake(f"{home}/token_transfers", pyarrow.table(columns))


def sums(options):
    wanted = {token: [len(values), int(token == "wraps"), sum(values)] for token, values in LARGE.items()}
    failed = False
    with tempfile.TemporaryDirectory(prefix="spyhop-lake-") as lake:
        large_lake(lake)
        for name in options.engines:
            said = ask(name, "sums", lake)
            same = said["totals"] == wanted
            failed |= not same
            verdict = "exact" if same else f"WRONG: {said['totals']}"
            print(f"{name:12}the safe form is {verdict}; the plain one:")
            for token, total in said["plain"].items():
                right = total == str(wanted[token][2])
                print(f"{'':12}{token:12} {'right' if right else total[:150]}")
                # A small sum must be right everywhere; and the page says who is wrong without a word.
                silent = not right and total.lstrip("-").isdigit()
                expected = name in ("clickhouse", "delta-rs") and token != "fits"
                if silent != expected:
                    print(f"{'':12}docs/lake.md says otherwise of {name}")
                    failed = True
    return failed


def while_merging(options):
    with tempfile.TemporaryDirectory(prefix="spyhop-lake-", dir=options.volume.resolve().parent) as work:
        work = pathlib.Path(work)
        data = merges.copy(options.volume, work / "data")
        lake, stop = work / "lake", work / "stop"
        wanted = published(data)
        with merges.Follower(options.spyhop, data, lake) as follower:
            asking = start(options.engines, lake, stop)
            try:
                versions = merges.disturb(data, follower, asking, options.seconds)
            finally:
                stop.touch()
                failed = finish(asking, wanted)
        print(f"{versions} versions of `transactions`, and about as many of each other table, while these asked")
        return failed


def start(names, lake, stop):
    """A process for each engine, which asks until the file appears."""
    asking = {}
    for name in names:
        out = open(stop.with_name(name + ".out"), "wb+")
        argv = [sys.executable, str(ASK), name, "until", str(lake), str(stop)]
        asking[name] = subprocess.Popen(argv, env=os.environ | {"TZ": ZONES[0]}, stdout=out, stderr=out), out
    return asking


def finish(asking, wanted):
    failed = False
    for name, (process, out) in asking.items():
        code = process.wait(timeout=600)
        out.seek(0)
        lines = out.read().decode().splitlines()
        answers = [json.loads(line)["answers"] for line in lines if line.startswith('{"answers"')]
        found = [number for answer in answers for number in differences(name, answer, wanted)]
        wrong = bool(found) or code != 0 or not answers
        failed |= wrong
        print(f"{name:12}{len(answers):5} times five answers   {'DIFFER or failed: ' + lines[-1][:300] if wrong else 'same'}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run, name, places in [(same, "same", ["lake"]), (sums, "sums", []), (while_merging, "merges", ["spyhop", "volume"])]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        for place in places:
            command.add_argument(place, type=pathlib.Path)
        command.add_argument("--engines", type=lambda names: names.split(","), default=NAMES)
        if run is same:
            command.add_argument("--volume", type=pathlib.Path)
        if run is while_merging:
            command.add_argument("--seconds", type=int, default=120)
    options = parser.parse_args()
    started = time.monotonic()
    failed = options.run(options)
    print(f"in {time.monotonic() - started:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
