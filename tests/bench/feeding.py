#!/usr/bin/env python3
"""Measures what it costs to hand PostgreSQL its log by `btar wal-fetch`, as a fork does it, beyond a plain `cp`.

A real PostgreSQL fills segments of 16 MiB with rows. `wal-fetch` gets them as a fork of PGHoard's backups has
them, opened and quickly compressed; `cp` gets them plain. Each feeds the replay of the same base backup to the
same position, in turns; then each is called for every segment without a replay.

usage: feeding.py DIRECTORY_WITH_RELEASE_BINARIES
  BENCH_SEGMENTS=n  how many segments, 200
  BENCH_ROUNDS=n    how often each has its turn, 2
  BENCH_FIRST=1     on a busy machine, as root: what is measured goes before everything else
"""

import contextlib
import hashlib
import os
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BEYOND_MS_MAX = 5.0
SEGMENT_BYTES = 16 << 20
# How often a server is asked how far it is: a fork is asked every 250 ms, and asking takes time from it.
ASKED_SECONDS = 0.1
PG = pathlib.Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))
# As whom PostgreSQL runs, which is never root.
USER = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []


def main(binaries):
    count = int(os.environ.get("BENCH_SEGMENTS", "200"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "2"))
    if os.environ.get("BENCH_FIRST") == "1" and os.getpid() != os.getsid(0):
        os.setsid()
    first("self")
    root = pathlib.Path(tempfile.mkdtemp(prefix="btar-bench.", dir=os.environ.get("TMPDIR")))
    root.chmod(0o755)
    with contextlib.ExitStack() as after:
        after.callback(shutil.rmtree, root, ignore_errors=True)
        server = Server(root)
        after.callback(server.stop)
        end = server.fill(count)
        server.stop()
        names = staged(root, server.system_identifier)
        # PostgreSQL's user cannot read everybody's build directory.
        btar = shutil.copy(pathlib.Path(binaries) / "btar", root / "btar")
        commands = {
            "cp": f"cp {root}/plain/%f %p",
            "wal-fetch": f"{btar} wal-fetch {root}/staged/wal-fetch.json %f %p"
            " || case $? in 1) exit 1;; *) exit 200;; esac",
        }
        own(root)
        replay = {name: [] for name in commands}
        single = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                with ahead(root, btar, name == "wal-fetch"):
                    replay[name].append(server.replay(command, end))
        for _ in range(rounds):
            for name, command in commands.items():
                single[name].append(calls(root, command, names))
        return report(replay, single, len(names))


class Server:
    """A PostgreSQL with its archive, a base backup of it, and replays of that."""

    def __init__(self, root):
        self.root, self.running = root, None
        for part in ("plain", "socket"):
            (root / part).mkdir()
        own(root)
        data = root / "source"
        pg("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N")
        settings = (
            f"listen_addresses = ''\nunix_socket_directories = '{root}/socket'\nfsync = off\n"
            f"archive_mode = on\narchive_command = 'cp %p {root}/plain/%f'\n"
            "max_wal_size = 4GB\nautovacuum = off\n"
        )
        append(data / "postgresql.conf", settings)
        self.start(data)
        self.sql("create table t (n int, a text, b text)")
        pg("pg_basebackup", "-h", root / "socket", "-U", "postgres", "-X", "none", "-c", "fast",
           "-D", root / "base")
        control = pg("pg_controldata", data)
        found = re.search(r"system identifier: *([0-9]+)", control)
        self.system_identifier = int(found.group(1))

    def start(self, data):
        pg("pg_ctl", "-D", data, "-l", f"{data}.log", "-w", "start")
        self.running = data

    def stop(self):
        if self.running:
            pg("pg_ctl", "-D", self.running, "-m", "immediate", "-w", "stop")
            self.running = None

    def processes(self):
        postmaster = (self.running / "postmaster.pid").read_text().split()[0]
        call = ["ps", "-o", "pid=", "--ppid", postmaster]
        children = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [postmaster, *children.split()]

    def sql(self, text):
        return pg("psql", "-h", self.root / "socket", "-U", "postgres", "-AtXc", text).strip()

    def fill(self, count):
        """Writes so many segments, and gives the position where the replays end."""
        rows = "select g, md5(g::text), md5((g * 7)::text) from generate_series(1, 100000) g"
        while self.segments() < count:
            self.sql(f"insert into t {rows}")
        end = self.sql("select pg_current_wal_insert_lsn()")
        self.sql("select pg_switch_wal()")
        last = self.sql(f"select pg_walfile_name('{end}')")
        while not (self.root / "plain" / last).exists():
            time.sleep(0.1)
        time.sleep(0.5)
        return end

    def segments(self):
        return len(list((self.root / "plain").glob("?" * 24)))

    def replay(self, command, end):
        """Seconds from the start of a server until the log is replayed to `end`."""
        data = self.root / "replay"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self.root / "base", data, symlinks=True)
        (data / "standby.signal").touch()
        append(data / "postgresql.conf", f"archive_mode = off\nrestore_command = '{command}'\n")
        own(data)
        data.chmod(0o700)
        subprocess.run(["sync"], check=True)
        began = time.monotonic()
        self.start(data)
        for process in self.processes():
            first(process)
        # In one session: a new one for each question would keep a processor busy.
        call = [*USER, str(PG / "psql"), "-h", str(self.root / "socket"), "-U", "postgres", "-AtX"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": "/"}
        with subprocess.Popen(call, **pipes) as session:
            while True:
                session.stdin.write(f"select pg_last_wal_replay_lsn() >= '{end}';\n")
                session.stdin.flush()
                answer = session.stdout.readline().strip()
                if answer == "t":
                    break
                if answer != "f":
                    sys.exit(f"the replay cannot be asked how far it is: {answer!r}")
                time.sleep(ASKED_SECONDS)
            seconds = time.monotonic() - began
            session.stdin.close()
        self.stop()
        return seconds


def first(process):
    """Processors are shared by sessions, and PostgreSQL makes one of each of its processes."""
    if os.environ.get("BENCH_FIRST") == "1":
        pathlib.Path(f"/proc/{process}/autogroup").write_text("-20")


@contextlib.contextmanager
def ahead(root, btar, wanted):
    """The engine opens segments beside a fork that replays; here a program of its own does."""
    if not wanted:
        yield
        return
    for left in root.glob("staged/wal-fetch.*"):
        if left.suffix != ".json":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    opening = subprocess.Popen([*USER, str(btar), "wal-ahead", str(root / "staged/wal-fetch.json")])
    try:
        yield
    finally:
        opening.terminate()
        opening.wait()


def staged(root, system_identifier):
    """Writes the segments as a fork has them, and the plan that `wal-fetch` reads."""
    store = root / "staged"
    (store / "log").mkdir(parents=True)
    log = []
    for plain in sorted((root / "plain").glob("?" * 24)):
        key = f"log/{plain.name}.zst"
        subprocess.run(["zstd", "-q", "-1", plain, "-o", store / key], check=True)
        log.append({
            "name": plain.name,
            "key": key,
            "size_bytes": (store / key).stat().st_size,
            "sha1": hashlib.sha1(plain.read_bytes()).hexdigest(),
            "codec": "zst",
        })
    plan = {
        "version": 1,
        "store_root": str(store),
        "system_identifier": system_identifier,
        "segment_bytes": SEGMENT_BYTES,
        "log": log,
        "histories": [],
    }
    (store / "wal-fetch.json").write_text(json.dumps(plan))
    return [entry["name"] for entry in log]


def calls(root, command, names):
    """Seconds for a call for every segment, into one place as PostgreSQL has it."""
    to = root / "RECOVERYXLOG"
    began = time.monotonic()
    for name in names:
        line = command.replace("%f", name).replace("%p", str(to))
        subprocess.run(["sh", "-c", line], check=True)
    return time.monotonic() - began


def report(replay, single, count):
    print(f"{count} segments, load {os.getloadavg()[0]:.1f}")
    beyond = {}
    for what, measured in (("replay", replay), ("calls alone", single)):
        for name, seconds in measured.items():
            each = ", ".join(f"{1000 * one / count:.1f}" for one in seconds)
            print(f"{what}: {name}: {each} ms a segment")
        median = {name: statistics.median(seconds) for name, seconds in measured.items()}
        beyond[what] = 1000 * (median["wal-fetch"] - median["cp"]) / count
        print(f"{what}: {beyond[what]:.1f} ms a segment beyond cp")
    good = beyond["replay"] <= BEYOND_MS_MAX
    print(f"limit {BEYOND_MS_MAX} ms in a replay: {'met' if good else 'MISSED'}")
    return 0 if good or os.environ.get("BENCH_CHECK") != "1" else 1


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def own(path):
    """Hands everything to PostgreSQL's user, as which the server runs."""
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "postgres:postgres", path], check=True)


def pg(program, *args):
    call = [*USER, str(PG / program), *map(str, args)]
    # A server that goes on must not hold the other end of a pipe.
    if program == "pg_ctl":
        subprocess.run(call, check=True, cwd="/", stdout=subprocess.DEVNULL)
        return ""
    return subprocess.run(call, check=True, cwd="/", stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
