#!/usr/bin/env python3
"""Measures how long a segment of the log takes from its arrival in the primary's store until it belongs to
the restore window that the engine publishes for the secondary: p50, p99 and the longest.

A real PostgreSQL commits all the time and pgBackRest archives one segment in a second into a directory;
`btar serve` with its default settings brings them into another. The limit of p99 is checked, and that
every segment came.

usage: freshness.py DIRECTORY_WITH_RELEASE_BINARIES
  BENCH_SECONDS=n    for how long segments are made, 600
  BENCH_SCALE=small  for 60 seconds
"""

import contextlib
import datetime
import hashlib
import json
import math
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

P99_SECONDS_MAX = 5.0
SEGMENT_EVERY_SECONDS = 1.0
# About 3 MB of log a second.
ROWS = 20_000
# How exactly an arrival and a publication are timed.
LOOK_EVERY_SECONDS = 0.02
# What is not published so long after the last segment is lost.
PATIENCE_SECONDS = 60
TOKEN = "bench-token"
SERVICE = "/v1/project/bench/service/orders"
COPY = "aws-eu-central-1"


def main(binaries):
    small = os.environ.get("BENCH_SCALE") == "small"
    seconds = float(os.environ.get("BENCH_SECONDS", "60" if small else "600"))
    root = pathlib.Path(tempfile.mkdtemp(prefix="btar-bench.", dir=os.environ.get("TMPDIR")))
    root.chmod(0o755)
    with contextlib.ExitStack() as after:
        after.callback(shutil.rmtree, root, ignore_errors=True)
        source = Source(root)
        after.callback(source.stop)
        engine = Engine(root, pathlib.Path(binaries) / "btar")
        after.callback(engine.stop)
        samples, missing = measure(source, engine, seconds)
        report(samples, missing, engine)


def measure(source, engine, seconds):
    """The delays of all segments, and the names of those that never came."""
    waiting, lock, samples = {}, threading.Lock(), []
    ended = threading.Event()
    arrivals = threading.Thread(target=watch, args=(source, waiting, lock, ended), daemon=True)
    # Before the first segment, otherwise its arrival is seen late.
    arrivals.start()
    made = threading.Thread(target=make, args=(source, waiting, lock, seconds), daemon=True)
    made.start()
    last_made = None
    while True:
        end, at = engine.window_end(), time.monotonic()
        with lock:
            # A segment whose arrival is not seen yet counts a look later, and as a little older.
            covered = [n for n, one in waiting.items() if "arrived" in one and one["commit"] < end]
            samples += [at - waiting.pop(name)["arrived"] for name in covered]
            left = sorted(waiting)
        if not made.is_alive():
            last_made = last_made or at
            if not left or at - last_made > PATIENCE_SECONDS:
                ended.set()
                arrivals.join()
                return samples, left
        time.sleep(LOOK_EVERY_SECONDS)


def make(source, waiting, lock, seconds):
    """Fills a segment and closes it, in even steps."""
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        commit, name = source.segment()
        with lock:
            waiting[name] = {"commit": commit} | waiting.pop(name, {})
        count += 1
        time.sleep(max(begun + count * SEGMENT_EVERY_SECONDS - time.monotonic(), 0))


def watch(source, waiting, lock, ended):
    """Notes when each segment is in the store under its own name."""
    seen = set(source.archived())
    early = {}
    while not ended.is_set():
        new, at = source.archived() - seen, time.monotonic()
        seen |= new
        early |= dict.fromkeys(new, at)
        with lock:
            for name in early.keys() & waiting.keys():
                waiting[name]["arrived"] = early.pop(name)
        time.sleep(LOOK_EVERY_SECONDS)


def report(samples, missing, engine):
    samples.sort()
    rank = lambda share: samples[max(math.ceil(share * len(samples)) - 1, 0)]
    if missing or not samples:
        sys.exit(f"freshness: of {len(samples) + len(missing)} segments {missing} never came")
    p50, p99 = rank(0.5), rank(0.99)
    print(
        f"freshness of {len(samples)} segments: p50 {p50:.2f} s, p99 {p99:.2f} s, "
        f"longest {samples[-1]:.2f} s; the engine's peak: {engine.peak_mib()} MiB"
    )
    if p99 >= P99_SECONDS_MAX:
        sys.exit(f"freshness: p99 is {p99:.2f} s, and not below {P99_SECONDS_MAX} s")


def as_database_user():
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def run(*command):
    done = subprocess.run(
        [*as_database_user(), *map(str, command)], capture_output=True, text=True, cwd="/"
    )
    if done.returncode != 0:
        sys.exit(f"freshness: {command} gave {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def directory(path):
    path.mkdir(parents=True)
    if os.geteuid() == 0:
        shutil.chown(path, "postgres", "postgres")
    return path


class Source:
    """A PostgreSQL with a full backup, whose log pgBackRest archives."""

    def __init__(self, root):
        self.bin = max(
            pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name)
        )
        place = directory(root / "source")
        for name in ("log", "lock"):
            directory(place / name)
        self.repository = directory(root / "west" / "pgbackrest")
        self.data, port = place / "data", free_port()
        config = place / "pgbackrest.conf"
        config.write_text(
            f"[global]\nrepo1-path={self.repository}\nrepo1-retention-full=9\ncompress-type=zst\n"
            f"start-fast=y\nlog-path={place}/log\nlock-path={place}/lock\nlog-level-file=off\n"
            f"[orders]\npg1-path={self.data}\npg1-socket-path={place}\npg1-port={port}\n"
        )
        tool = ["pgbackrest", f"--config={config}", "--stanza=orders"]
        run(self.bin / "initdb", "-A", "trust", "--no-sync", "-D", self.data)
        with open(self.data / "postgresql.conf", "a") as settings:
            settings.write(
                f"\nlisten_addresses = ''\nport = {port}\nunix_socket_directories = '{place}'\n"
                f"fsync = off\narchive_mode = on\narchive_command = '{' '.join(tool)} archive-push %p'\n"
            )
        log = place / "log" / "postgresql.log"
        # Its standard output would stay open in the server.
        subprocess.run(
            [*as_database_user(), self.bin / "pg_ctl", "-w", "-D", self.data, "-l", log, "start"],
            check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.session = subprocess.Popen(
            [*as_database_user(), self.bin / "psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1",
             "-d", "postgres", "-h", place, "-p", str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
        )
        self.ask("create table orders (id bigint, note text); select 1;", 1)
        run(*tool, "stanza-create")
        run(*tool, "--type=full", "backup")

    def ask(self, sql, lines):
        self.session.stdin.write(sql + "\n")
        self.session.stdin.flush()
        answer = [self.session.stdout.readline().strip() for _ in range(lines)]
        if not all(answer):
            sys.exit("freshness: the session with PostgreSQL has ended")
        return answer

    def segment(self):
        """Commits, and closes the segment: a moment before its last commit, and its name."""
        moment, name = self.ask(
            "truncate orders; begin; "
            f"insert into orders select n, md5(random()::text) from generate_series(1, {ROWS}) n; "
            "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'); "
            "commit; select pg_walfile_name(pg_switch_wal());",
            2,
        )
        return datetime.datetime.fromisoformat(moment), name

    def archived(self):
        """The segments in the store."""
        found = set()
        for folder in self.repository.glob("archive/orders/*/*"):
            if folder.is_dir():
                names = (name for name in os.listdir(folder) if name.endswith(".zst"))
                found |= {name[:24] for name in names}
        return found

    def stop(self):
        self.session.stdin.close()
        stop = [self.bin / "pg_ctl", "-w", "-m", "immediate", "-D", self.data, "stop"]
        subprocess.run([*as_database_user(), *stop], cwd="/", stdout=subprocess.DEVNULL)


class Engine:
    """`btar serve` as it is without any setting that could be left out."""

    def __init__(self, root, built):
        binary, config = root / "btar", root / "btar.toml"
        shutil.copy(built, binary)
        directory(root / "engine")
        directory(root / "central")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config.write_text(
            f'[engine]\nlisten = "127.0.0.1:{port}"\ndata_dir = "{root}/engine"\n'
            f'[[token]]\nname = "bench"\nsha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n'
            f'[[region]]\ncloud = "aws-eu-west-1"\nstore = "file://{root}/west"\n'
            f'[[region]]\ncloud = "{COPY}"\nstore = "file://{root}/central"\n'
            '[[service]]\nproject = "bench"\nname = "orders"\ntype = "pg"\ncloud = "aws-eu-west-1"\n'
            'plan = "startup-4"\n'
            'backup = { format = "pgbackrest", stanza = "orders", path = "pgbackrest" }\n'
        )
        self.log = root / "engine.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--config", config], stdout=log, stderr=log
            )
        enable = {"user_config": {"additional_backup_regions": [COPY]}}
        self.wait(lambda: self.call("PUT", SERVICE, enable))
        self.wait(self.window_end)

    def call(self, method, path, body=None):
        headers = {"Authorization": f"aivenv1 {TOKEN}", "Content-Type": "application/json"}
        body = body and json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def window_end(self):
        """The last moment that the copy can restore."""
        regions = self.call("GET", f"{SERVICE}/backups")["pitr"]["additional_regions"]
        end = regions[0]["pitr_range_end"]
        return datetime.datetime.fromisoformat(end.removesuffix("Z"))

    def wait(self, ask):
        """Until there is an answer."""
        begun = time.monotonic()
        while True:
            try:
                return ask()
            except (OSError, IndexError) as error:
                if time.monotonic() - begun > PATIENCE_SECONDS or self.process.poll() is not None:
                    sys.exit(f"freshness: {error}\n{self.log.read_text()}")
            time.sleep(0.1)

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) // 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
