"""Merges, splits and repairs of a volume's ranges, without a node: as spyhop does them, by renaming directories into place.

The volume must hold a merged range and the ten that it was made of, as one does for a while after a merge.
"""

import json
import os
import pathlib
import shutil
import subprocess
import time

import blake3
import pyarrow.parquet

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


def versions(lake, table="transactions"):
    return len(list((lake / table / "_delta_log").glob("0*.json")))


class Follower:
    """`spyhop lake --follow` for the duration of the `with` block."""

    def __init__(self, spyhop, data, lake):
        self.argv, self.lake, self.log = [spyhop, "lake", "--follow", "--data", data, "--to", lake], lake, data.parent / "follow.log"

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            # It is the last to be committed.
            self.wait(1, "coverage")
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        if self.process.wait(60):
            raise ValueError(f"it ended with {self.process.returncode}:\n{self.log.read_text()}")

    def wait(self, version, table="transactions"):
        """Until a table has this many versions, and no more."""
        deadline = time.monotonic() + 120
        while (found := versions(self.lake, table)) < version:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ValueError(f"`{self.lake}` has {found} versions, not {version}:\n{self.log.read_text()}")
            time.sleep(0.05)
        if found > version:
            raise ValueError(f"`{self.lake}` has {found} versions, not {version}")


def disturb(data, follower, asking, seconds):
    """Splits, merges and repairs for as long as this, and until every engine has answered; returns how many versions that made."""
    whole, _ = merged_and_parts(data)
    aside = data.parent / "aside"
    before = version = versions(follower.lake)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not all(has_answered(*asked) for asked in asking.values()):
        for change, *places in [(split, whole, aside), (merge, whole, aside), (repair, whole), (undo_repair, whole)]:
            change(*places)
            version += 1
            follower.wait(version)
            time.sleep(0.2)
    return version - before


def has_answered(process, out):
    """Whether it has printed answers, or has ended and never will."""
    return process.poll() is not None or b'{"answers"' in pathlib.Path(out.name).read_bytes()


def split(whole, aside):
    """The parts are still there, and count again."""
    whole.rename(aside)


def merge(whole, aside):
    aside.rename(whole)


def repair(whole):
    """A higher generation replaces it: the same rows in other bytes, or the lake would see that nothing has changed."""
    building = whole.parents[3] / "building"
    building.mkdir()
    manifest = json.loads((whole / "manifest.json").read_text())
    for name, table in manifest["tables"].items():
        path = building / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(whole / path.name), path, compression="zstd", compression_level=9)
        content = path.read_bytes()
        table |= {"bytes": len(content), "blake3": blake3.blake3(content).hexdigest()}
    (building / "manifest.json").write_text(json.dumps(manifest))
    building.rename(whole.with_name("g2"))


def undo_repair(whole):
    """Only the first generation is left."""
    gone = whole.parents[3] / "gone"
    whole.with_name("g2").rename(gone)
    shutil.rmtree(gone)
