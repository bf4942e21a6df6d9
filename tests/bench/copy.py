"""Compares the engine's copying with rclone and s5cmd. Called by copy.sh; Python only measures: `wait4`
tells processor time and peak memory of each child.

Each comparison is run once and thrown away (first touch of memory is slow), then in turns; the medians
count. Limits are ratios within one run on one machine, and are checked where BENCH_CHECK=1.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

COPY, RCLONE, S5CMD, ROOT = sys.argv[1:5]
SMALL = os.environ.get("BENCH_SCALE", "full") == "small"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2" if SMALL else "3"))
ONLY = os.environ.get("BENCH_ONLY", "")
MIB = 1 << 20
# Objects and sizes.
LARGE = (4, 128 * MIB) if SMALL else (8, 512 * MIB)
MANY = (600, 1 * MIB) if SMALL else (4000, 1 * MIB)
LATENCY_MS = 50
AT_ONCE_LARGE, AT_ONCE_MANY = 8, 32
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true"}
ENVIRONMENT = {**os.environ, **KEYS}
MEMORY_TARGET = os.environ.get("BENCH_TARGET", "/dev/shm" if os.path.isdir("/dev/shm") else ROOT)


class Server:
    """The server of benches/memory_s3, in a process of its own."""

    def __init__(self, latency_ms=0):
        command = [COPY, "serve", str(latency_ms)]
        # What it has freed it uses again: its page faults would be measured in every client.
        memory = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, **memory})
        self.url = self.process.stdout.readline().strip()

    def ask(self, what):
        with urllib.request.urlopen(f"{self.url}/-/{what}", timeout=600) as answer:
            return answer.read().decode()

    def fill(self, bucket, objects):
        self.ask(f"fill?bucket={bucket}&count={objects[0]}&size={objects[1]}")

    def drop(self, bucket):
        return int(self.ask(f"drop?bucket={bucket}"))

    def count(self):
        return sum(json.loads(self.ask("count")).values())

    def end(self):
        self.process.kill()
        self.process.wait()


class Result:
    def __init__(self, wall, cpu, peak_mib, requests=None):
        self.wall, self.cpu, self.peak_mib, self.requests = wall, cpu, peak_mib, requests


def run(*commands):
    """Runs commands at the same time. Wall time until the last ends, processor time and memory of all."""
    begun = time.monotonic()
    children = []
    for command in commands:
        log = open(os.path.join(ROOT, f"log-{len(children)}"), "w+")
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=ENVIRONMENT)
        children.append((child, log, command))
    cpu, peak = 0.0, 0.0
    for child, log, command in children:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        cpu += usage.ru_utime + usage.ru_stime
        peak += usage.ru_maxrss / 1024
        if child.returncode != 0:
            log.seek(0)
            sys.exit(f"{command} failed:\n{log.read()[-2000:]}")
        log.close()
    return Result(time.monotonic() - begun, cpu, peak)


def rclone(server, at_once, source, target):
    """Remotes of different names: rclone would else let the server copy."""
    # The keys are here, so that nothing else is asked for them.
    options = ("provider=Other,env_auth=false,access_key_id=bench,secret_access_key=bench-secret,"
               "region=us-east-1,force_path_style=true,no_check_bucket=true")
    def side(name, place):
        return f":s3,{options},description={name},endpoint='{server.url}':{place}" if server and not place.startswith("/") else place
    return [RCLONE, "copy", "--config", "/dev/null", "--checksum", "--transfers", str(at_once),
            "--checkers", str(at_once), side("source", source), side("target", target)]


def btar(server, at_once, source, *targets):
    side = lambda place: place if place.startswith("/") else f"s3={server.url}/{place}"
    return [COPY, "copy", str(at_once), side(source), *map(side, targets)]


def s5cmd(server, at_once, source, target):
    return [S5CMD, "--endpoint-url", server.url, "--numworkers", str(at_once), "cp", f"{source}/*", f"s3://{target}/"]


ROWS, FAILED = [], []


def compare(title, objects, contestants, clean, copies=1, server=None, limits=()):
    """`contestants`: name and commands. The first is measured by the others."""
    if ONLY and ONLY not in title:
        return
    gigabytes = objects[0] * objects[1] / 1e9
    results = {name: [] for name, _ in contestants}
    for turn in range(ROUNDS + 1):
        for name, commands in contestants:
            if server:
                server.count()
            result = run(*commands)
            if server:
                result.requests = server.count()
            clean(objects[0])
            if turn > 0:
                results[name].append(result)
    median = lambda name, of: statistics.median(of(result) for result in results[name])
    ours = contestants[0][0]
    for name, _ in contestants:
        wall = median(name, lambda r: r.wall)
        row = {
            "what": title,
            "who": name,
            "wall": wall,
            "rate": gigabytes * copies / wall,
            "ratio": median(ours, lambda r: r.wall) / wall,
            "cpu": median(name, lambda r: r.cpu) / (gigabytes * copies),
            "peak": max(r.peak_mib for r in results[name]),
            "requests": median(name, lambda r: r.requests) / objects[0] if server else None,
        }
        ROWS.append(row)
        show(row)
    mine = next(row for row in ROWS if row["what"] == title and row["who"] == ours)
    for who, most in limits:
        row = mine if who in ("cpu", "peak", "requests") else next(
            row for row in ROWS if row["what"] == title and row["who"] == who)
        value = row[who] if row is mine else row["ratio"]
        met = value <= most
        print(f"    {'met' if met else 'MISSED'}: {who} {value:.2f}, at most {most}", flush=True)
        if not met:
            FAILED.append(f"{title}: {who} {value:.2f} > {most}")


def show(row):
    requests = f"{row['requests']:8.2f}" if row["requests"] is not None else "       –"
    print(f"{row['what']:34} {row['who']:16} {row['wall']:8.2f} {row['rate']:6.2f} {row['ratio']:6.2f} "
          f"{row['cpu']:8.2f} {row['peak']:8.0f} {requests}", flush=True)


def header():
    print(f"{'what':34} {'who':16} {'wall s':>8} {'GB/s':>6} {'ratio':>6} {'CPU s/GB':>8} {'peak MiB':>8} "
          f"{'req/obj':>8}", flush=True)


def buckets(server, *names):
    def clean(count):
        for name in names:
            there = server.drop(name)
            if there not in (0, count):
                sys.exit(f"{there} of {count} objects are in {name}")
    return clean


def main():
    floors()
    header()
    fast, slow = Server(), Server(LATENCY_MS)
    try:
        from_store_to_store(fast, slow)
        with_directories(fast)
    finally:
        fast.end()
        slow.end()
    for text in FAILED:
        print("MISSED", text)
    if FAILED and os.environ.get("BENCH_CHECK") == "1":
        sys.exit(1)


def floors():
    print("loopback, two connections:", subprocess.check_output([COPY, "loopback"], text=True).strip(), flush=True)
    for command in ([RCLONE, "version"], [S5CMD, "version"]):
        print(subprocess.check_output(command, text=True).splitlines()[0], flush=True)


def from_store_to_store(fast, slow):
    fast.fill("large", LARGE)
    fast.fill("many", MANY)
    pair = lambda server, at_once, source: [
        ("btar", [btar(server, at_once, source, "a")]),
        ("rclone", [rclone(server, at_once, source, "a")]),
    ]
    compare(f"S3 to S3, {LARGE[0]} x {LARGE[1] // MIB} MiB", LARGE, pair(fast, AT_ONCE_LARGE, "large"),
            buckets(fast, "a"), server=fast, limits=[("rclone", 0.40), ("cpu", 0.65), ("peak", 256)])
    compare(f"S3 to S3, {MANY[0]} x 1 MiB", MANY, pair(fast, AT_ONCE_MANY, "many"), buckets(fast, "a"),
            server=fast, limits=[("rclone", 0.75), ("cpu", 0.65), ("peak", 128), ("requests", 2.01)])
    two = [
        ("btar", [btar(fast, AT_ONCE_MANY, "many", "a", "b")]),
        ("two rclones", [rclone(fast, AT_ONCE_MANY, "many", "a"), rclone(fast, AT_ONCE_MANY, "many", "b")]),
    ]
    compare(f"to two targets, {MANY[0]} x 1 MiB", MANY, two, buckets(fast, "a", "b"), copies=2, server=fast,
            limits=[("two rclones", 0.5), ("requests", 3.01)])
    two = [
        ("btar", [btar(fast, AT_ONCE_LARGE, "large", "a", "b")]),
        ("two rclones", [rclone(fast, AT_ONCE_LARGE, "large", "a"), rclone(fast, AT_ONCE_LARGE, "large", "b")]),
    ]
    compare(f"to two targets, {LARGE[0]} x {LARGE[1] // MIB} MiB", LARGE, two, buckets(fast, "a", "b"), copies=2,
            server=fast, limits=[("two rclones", 0.5)])
    slow.fill("many", MANY)
    compare(f"{LATENCY_MS} ms a request, {MANY[0]} x 1 MiB", MANY, pair(slow, AT_ONCE_MANY, "many"),
            buckets(slow, "a"), server=slow, limits=[("rclone", 0.65)])


def with_directories(fast):
    source = os.path.join(ROOT, "source")
    target = os.path.join(MEMORY_TARGET, f"btar-bench-{os.getpid()}")
    if ONLY and not any(ONLY in f"directory to {to}, {count} x {size // MIB} MiB"
                        for to in ("directory", "S3") for count, size in (MANY, LARGE)):
        return

    def make(name, objects):
        for number in range(objects[0]):
            directory = os.path.join(source, name, f"{number % 16:02}")
            os.makedirs(directory, exist_ok=True)
            with open(os.path.join(directory, f"{number:06}"), "wb") as file:
                for _ in range(objects[1] // MIB):
                    file.write(os.urandom(MIB))
        os.sync()

    def clean(count):
        found = sum(len([f for f in files if f != "lock"]) for _, _, files in os.walk(target))
        if found not in (0, count):
            sys.exit(f"{found} of {count} files are in {target}")
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target, exist_ok=True)

    os.makedirs(target, exist_ok=True)
    try:
        for name, objects, at_once in (("many", MANY, AT_ONCE_MANY), ("large", LARGE, AT_ONCE_LARGE)):
            size = f"{objects[0]} x {objects[1] // MIB} MiB"
            here = os.path.join(source, name)
            make(name, objects)
            local = [
                ("btar", [btar(None, at_once, here, target)]),
                ("rclone", [rclone(None, at_once, here, target)]),
                ("cp (no proof)", [["cp", "-r", f"{here}/.", target]]),
            ]
            compare(f"directory to directory, {size}", objects, local, clean, limits=[("rclone", 0.5)])
            upload = [
                ("btar", [btar(fast, at_once, here, "a")]),
                ("rclone", [rclone(fast, at_once, here, "a")]),
                ("s5cmd (no proof)", [s5cmd(fast, at_once, here, "a")]),
            ]
            compare(f"directory to S3, {size}", objects, upload, buckets(fast, "a"), server=fast,
                    limits=[("rclone", 0.75), ("s5cmd (no proof)", 1.0)])
            shutil.rmtree(here)
    finally:
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(source, ignore_errors=True)


main()
