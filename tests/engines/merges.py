"""Merges, splits and repairs of a volume's ranges, without a node: as spyhop does them, by renaming directories into place.

The volume must hold a merged range and the ten that it was made of, as one does for a while after a merge.
"""

import os
import pathlib
import shutil
import time

SKIP = shutil.ignore_patterns("lake", "*.lock", ".spyhop")


def copy(volume, data):
    """A copy that shares the files."""
    shutil.copytree(volume, data, copy_function=os.link, ignore=SKIP)
    identity = volume / ".spyhop" / "chain.json"
    if identity.exists():
        (data / ".spyhop").mkdir()
        shutil.copy(identity, data / ".spyhop")
    return data


def span(generation):
    """First and last block of a directory `first=…/last=…/gN`."""
    first, last = (int(part.partition("=")[2]) for part in generation.parts[-3:-1])
    return first, last


def merged_and_parts(data):
    """The merged range, and those that it was made of."""
    ranges = sorted(data.glob("chain/first=*/last=*/g*"))
    for whole in ranges:
        (first, last) = span(whole)
        parts = [part for part in ranges if part != whole and first <= span(part)[0] and span(part)[1] <= last]
        if sum(span(part)[1] - span(part)[0] + 1 for part in parts) == last - first + 1:
            return whole, parts
    raise SystemExit(f"error: `{data}` has no merged range together with its parts")


def versions(lake):
    return len(list((lake / "transactions" / "_delta_log").glob("0*.json")))


def wait_for(lake, version, asking):
    deadline = time.monotonic() + 60
    while versions(lake) < version:
        if time.monotonic() > deadline:
            raise TimeoutError(f"`{lake}` is not at version {version}, but at {versions(lake)}")
        time.sleep(0.05)


def disturb(data, lake, asking, seconds):
    """Splits, merges and repairs for as long as this; returns how many versions the lake got by that."""
    whole, parts = merged_and_parts(data)
    aside = data.parent / "aside"
    before = version = versions(lake)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or any(out.seek(0, 2) == 0 for _, out in asking.values()):
        for change in [lambda: split(whole, aside), lambda: merge(whole, aside), lambda: repair(whole), lambda: repaired_again(whole)]:
            change()
            version += 1
            wait_for(lake, version, asking)
            time.sleep(0.5)
    return version - before


def split(whole, aside):
    """The parts are still there, and count again."""
    whole.rename(aside)


def merge(whole, aside):
    aside.rename(whole)


def repair(whole):
    """A higher generation of the same rows replaces it."""
    building = whole.parents[3] / "building"
    shutil.copytree(whole, building, copy_function=os.link)
    building.rename(whole.with_name("g2"))


def repaired_again(whole):
    """Only the first generation is left."""
    gone = whole.parents[3] / "gone"
    whole.with_name("g2").rename(gone)
    shutil.rmtree(gone)
