#!/usr/bin/env python3
"""Injects real faults and waits for Prometheus to fire the alert rules of docker/grafana: alerts.py SPYHOP GETH

A developer chain, a writer on a small volume of its own, `spyhop serve`, and a Prometheus that scrapes it every second with the rules of
docker/grafana/alerts.yaml; only their waiting times and ages are shortened, as printed. For each rule the fault is injected, the
alert must fire, the fault is mended, and the alert must end. Needs root, to mount the volume.

The node lies through a proxy. A batch of senders that differs needs a broken machine; alerts.test.yaml has that rule.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHORTER = [
    (r"for: \d+m", "for: 3s"), (r"heartbeat_timestamp_seconds > 120", "heartbeat_timestamp_seconds > 15"),
    (r"> 300\b", "> 20"), (r"published\"\} > 32", 'published"} > 8'), (r" or predict_linear.*", ""),
    (r"_total\[15m\]", "_total[15s]"),
]
WAIT_S = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Liar:
    """A socket before the node's. While it lies, one digit of a block's first receipt is another."""

    def __init__(self, path, node):
        self.node, self.is_lying = node, False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client = self.listener.accept()[0]
            node = socket.socket(socket.AF_UNIX)
            try:
                node.connect(str(self.node))
            except OSError:
                client.close()
                continue
            for pump in (lambda c=client, n=node: self.ask(c, n)), (lambda c=client, n=node: self.answer(n, c)):
                threading.Thread(target=pump, daemon=True).start()

    def ask(self, client, node):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                node.sendall(data)
        self.hang_up(node)

    def answer(self, node, client):
        """geth ends each answer with a newline."""
        with contextlib.suppress(OSError), node.makefile("rb") as lines:
            for line in lines:
                client.sendall(self.told(line))
        self.hang_up(client)

    @staticmethod
    def hang_up(stream):
        """While another thread reads from it, `close` alone would not."""
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
        stream.close()

    def told(self, line):
        if not self.is_lying:
            return line
        return re.sub(rb'("result":\["0x[0-9a-f]*)([0-9a-f])"', lambda found: found[1] + (b"0" if found[2] != b"0" else b"1") + b'"', line, count=1)


class Scene:
    """Everything that runs."""

    def __init__(self, spyhop, geth, work):
        self.spyhop, self.geth, self.work = spyhop, geth, work
        self.data, self.ipc = work / "volume", work / "geth.ipc"
        self.liar = Liar(work / "liar.ipc", self.ipc)
        self.http, self.prometheus = free_port(), free_port()
        self.children = {}

    def start(self, name, *argv):
        log = open(self.work / f"{name}.log", "ab")
        argv = [str(word) for word in argv]
        self.children[name] = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def send(self, name, what):
        self.children[name].send_signal(what)

    def end(self, name, what=signal.SIGTERM):
        self.send(name, what)
        self.children.pop(name).wait(60)

    def start_node(self, chain="--dev", directory="dev"):
        flags = ["--datadir", self.work / directory, "--ipcpath", self.ipc, "--nodiscover", "--port", "0", "--authrpc.port", "0"]
        self.start("geth", self.geth, chain, *(["--dev.period", "1"] if chain == "--dev" else []), *flags, "--verbosity", "1")
        wait("the node's socket", self.ipc.exists)

    def start_writer(self):
        flags = ["--from", "earliest", "--finality-depth", "10"]
        self.start("writer", self.spyhop, "watch", "--ipc", self.work / "liar.ipc", "--data", self.data, *flags)

    def start_server(self):
        self.start("server", self.spyhop, "serve", "--data", self.data, "--http", self.http)

    def start_prometheus(self):
        rules = (ROOT / "docker/grafana/alerts.yaml").read_text()
        for pattern, shorter in SHORTER:
            rules, count = re.subn(pattern, shorter, rules)
            if not count:
                sys.exit(f"error: no rule has {pattern}")
            print(f"shortened {count} times: {pattern} -> {shorter}")
        (self.work / "rules.yaml").write_text(rules)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(self.work / "rules.yaml")],
            "scrape_configs": [{"job_name": "spyhop", "static_configs": [{"targets": [f"127.0.0.1:{self.http}"]}]}],
        }
        (self.work / "prometheus.yaml").write_text(json.dumps(config))
        flags = [f"--config.file={self.work / 'prometheus.yaml'}", f"--storage.tsdb.path={self.work / 'tsdb'}"]
        self.start("prometheus", "prometheus", *flags, f"--web.listen-address=127.0.0.1:{self.prometheus}")

    def firing(self):
        """Names of the alerts that fire; `None` while Prometheus does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.prometheus}/api/v1/alerts", timeout=5) as reply:
                alerts = json.load(reply)["data"]["alerts"]
        except OSError:
            return None
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def wait(what, reached, seconds=WAIT_S):
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            sys.exit(f"error: waited {seconds} s for {what}")
        time.sleep(0.2)


def sealed(scene):
    return sorted(scene.data.glob("chain/*/*/g*/manifest.json"))


def damage(scene):
    manifest = sealed(scene)[0]
    scene.kept = manifest.read_bytes()
    manifest.write_text("{")
    return manifest


FAULTS = [
    (
        "SpyhopWriterDead", "the writer is killed",
        lambda scene: scene.end("writer", signal.SIGKILL), lambda scene: scene.start_writer(),
    ),
    (
        "SpyhopNodeLagging", "the node hangs",
        lambda scene: scene.send("geth", signal.SIGSTOP), lambda scene: scene.send("geth", signal.SIGCONT),
    ),
    (
        "SpyhopUnhealthy", "a node of another chain",
        lambda scene: (scene.end("geth"), scene.start_node("--sepolia", "sepolia")), lambda scene: (scene.end("geth"), scene.start_node()),
    ),
    (
        "SpyhopProofFailed", "the node lies",
        lambda scene: setattr(scene.liar, "is_lying", True), lambda scene: setattr(scene.liar, "is_lying", False),
    ),
    (
        "SpyhopDataDamaged", "a manifest is damaged",
        lambda scene: setattr(scene, "damaged", damage(scene)), lambda scene: scene.damaged.write_bytes(scene.kept),
    ),
    (
        "SpyhopDiskLow", "the volume fills up",
        lambda scene: fill(scene), lambda scene: (scene.data / "filler").unlink(),
    ),
    (
        "SpyhopLagging", "no space to store blocks",
        lambda scene: fill(scene), lambda scene: (scene.data / "filler").unlink(),
    ),
    (
        "SpyhopNoMetrics", "the server is gone",
        lambda scene: scene.end("server", signal.SIGKILL), lambda scene: scene.start_server(),
    ),
]


def fill(scene):
    free = shutil.disk_usage(scene.data).free
    subprocess.run(["fallocate", "-l", str(int(free * 0.97)), str(scene.data / "filler")], check=True)


def main():
    spyhop, geth = (pathlib.Path(path).resolve() for path in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="spyhop-alerts-") as work:
        scene = Scene(spyhop, geth, pathlib.Path(work))
        scene.data.mkdir()
        image = scene.work / "volume.ext4"
        subprocess.run(["truncate", "-s", "5500M", str(image)], check=True)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(scene.data)], check=True)
        try:
            scene.start_node()
            scene.start("traffic", sys.executable, ROOT / "docker/demo/traffic.py", scene.ipc)
            scene.start_writer()
            scene.start_server()
            scene.start_prometheus()
            wait("Prometheus", lambda: scene.firing() is not None)
            wait("a sealed range", lambda: sealed(scene), 300)
            wait("no alert", lambda: scene.firing() == set())
            for alert, fault, inject, mend in FAULTS:
                started = time.monotonic()
                inject(scene)
                wait(f"{alert}: {fault}", lambda: alert in (scene.firing() or ()))
                fired, also = time.monotonic() - started, sorted(scene.firing() - {alert})
                mend(scene)
                if "traffic" in scene.children and scene.children["traffic"].poll() is not None:
                    scene.start("traffic", sys.executable, ROOT / "docker/demo/traffic.py", scene.ipc)
                wait(f"the end of {alert}", lambda: scene.firing() == set())
                print(f"{alert:20} {fault:24} fired after {fired:5.1f} s, ended after {time.monotonic() - started - fired:5.1f} s; also {also}", flush=True)
        finally:
            for name in list(scene.children)[::-1]:
                scene.end(name, signal.SIGKILL)
            subprocess.run(["umount", "-l", str(scene.data)], check=True)


if __name__ == "__main__":
    main()
