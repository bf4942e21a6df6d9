#!/usr/bin/env bash
# Compares `terraform plan` of 1,000 aiven_service_backup_region with 1,000 terraform_data, in turns in
# one run, and reports the plugin's peak memory. Then the same with a refresh of what was applied: 600
# backup regions and 400 lists of backups against 1,000 terraform_data, with the requests that it takes.
# The limits are checked: ratio 2.5, memory 40 MB, no more requests than services plus a constant.
# usage: plan.sh DIRECTORY_WITH_RELEASE_BINARIES
set -euo pipefail
bin=$1
here=$(cd "$(dirname "$0")" && pwd)
tf=$(command -v terraform || command -v tofu)
count=1000 rounds=5 ratio_max=2.5 memory_max_kb=$((40 * 1024))

root=$(mktemp -d "${TMPDIR:-/tmp}/btar-bench.XXXXXX")
chmod 0755 "$root"
cleanup() {
  [ -n "${engine:-}" ] && kill "$engine" 2>/dev/null
  rm -rf "$root"
}
trap cleanup EXIT
mkdir -p "$root"/{engine,west,central,ours,theirs}
[ "$(id -u)" -ne 0 ] || chown postgres: "$root"/{engine,west,central}
install -m 0755 "$bin/btar" "$root/btar"
token=bench-token
port=$(shuf -i 45000-49999 -n 1)
{
  cat <<CONF
[engine]
listen = "127.0.0.1:$port"
data_dir = "$root/engine"
poll_interval = "30s"
[[token]]
name = "bench"
sha256 = "$(printf %s "$token" | sha256sum | cut -d' ' -f1)"
[[region]]
cloud = "aws-eu-west-1"
store = "file://$root/west"
[[region]]
cloud = "aws-eu-central-1"
store = "file://$root/central"
CONF
  for i in $(seq 0 $((count - 1))); do
    cat <<CONF
[[service]]
project = "bench"
name = "svc-$i"
type = "pg"
cloud = "aws-eu-west-1"
plan = "startup-4"
backup = { format = "pgbackrest", stanza = "svc-$i", path = "pgbackrest" }
CONF
  done
} > "$root/btar.toml"
BTAR_LOG=info,btar=debug "$root/btar" serve --config "$root/btar.toml" >"$root/engine.log" 2>&1 &
engine=$!
for _ in $(seq 100); do
  curl -fsS -o /dev/null "http://127.0.0.1:$port/v1/clouds" 2>/dev/null && break
  sleep 0.1
done

"$here/../../.ci/install-provider" "$bin/terraform-provider-btar" "$root/mirror"
printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$root/mirror" > "$root/rc"
cat > "$root/ours/provider.tf" <<CONF
terraform {
  required_providers {
    btar = { source = "btar/btar" }
  }
}
provider "btar" {
  api_url = "http://127.0.0.1:$port"
}
CONF
export TF_CLI_CONFIG_FILE=$root/rc AIVEN_TOKEN=$token CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
cat > "$root/ours/main.tf" <<CONF
resource "aiven_service_backup_region" "all" {
  provider     = btar
  count        = $count
  project      = "bench"
  service_name = "svc-\${count.index}"
  region       = "aws-eu-central-1"
}
CONF
cat > "$root/theirs/main.tf" <<CONF
resource "terraform_data" "all" {
  count = $count
  input = {
    project      = "bench"
    service_name = "svc-\${count.index}"
    region       = "aws-eu-central-1"
  }
}
CONF
plan() { (cd "$root/$1" && "$tf" plan -input=false -no-color >plan.log 2>&1) || { tail -n 20 "$root/$1/plan.log"; exit 1; }; }
timed() {
  local at
  at=$(date +%s%N)
  plan "$1"
  echo $((($(date +%s%N) - at) / 1000000))
}
for which in ours theirs; do
  (cd "$root/$which" && "$tf" init -input=false -no-color >init.log 2>&1)
  plan "$which" # Warm-up, discarded.
done
grep -q "$count to add" "$root/ours/plan.log" || { tail "$root/ours/plan.log"; exit 1; }

peak=0
watch_memory() {
  while sleep 0.02; do
    for pid in $(pgrep -f "$root/mirror/.*terraform-provider-btar|terraform-provider-btar_v" || true); do
      awk '/VmHWM/ {print $2}' "/proc/$pid/status" 2>/dev/null || true
    done
  done > "$root/memory"
}
watch_memory &
watcher=$!
ours=() theirs=()
for _ in $(seq $rounds); do
  ours+=("$(timed ours)")
  theirs+=("$(timed theirs)")
done
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null || true
peak=$(sort -n "$root/memory" | tail -n 1)
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
a=$(median "${ours[@]}") b=$(median "${theirs[@]}")
ratio=$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.2f", a / b }')
echo "plan of $count aiven_service_backup_region: $a ms (median of $rounds: ${ours[*]})"
echo "plan of $count terraform_data:              $b ms (median of $rounds: ${theirs[*]})"
echo "ratio $ratio (limit $ratio_max); peak memory of the plugin $((peak / 1024)) MB (limit $((memory_max_kb / 1024)) MB)"
awk -v r="$ratio" -v m="$ratio_max" 'BEGIN { exit !(r <= m) }' || { echo "too slow" >&2; exit 1; }
[ "$peak" -gt 0 ] || { echo "the plugin's memory was not seen" >&2; exit 1; }
[ "$peak" -le "$memory_max_kb" ] || { echo "too much memory" >&2; exit 1; }

# With a refresh, and mixed.
services=600 requests_rest=20
cat > "$root/ours/main.tf" <<CONF
resource "aiven_service_backup_region" "all" {
  provider            = btar
  count               = $services
  project             = "bench"
  service_name        = "svc-\${count.index}"
  region              = "aws-eu-central-1"
  deletion_protection = false
}
data "aiven_service_backups" "all" {
  provider     = btar
  count        = $((count - services))
  project      = "bench"
  service_name = "svc-\${count.index}"
}
CONF
for which in ours theirs; do
  (cd "$root/$which" && "$tf" apply -auto-approve -input=false -no-color >apply.log 2>&1) || {
    tail -n 20 "$root/$which/apply.log"
    exit 1
  }
  plan "$which" # Warm-up, discarded.
done
grep -q 'No changes' "$root/ours/plan.log" || { tail "$root/ours/plan.log"; exit 1; }
requests() { grep -c 'a request' "$root/engine.log"; }
before=$(requests)
plan ours
asked=$(($(requests) - before))
ours=() theirs=()
for _ in $(seq $rounds); do
  ours+=("$(timed ours)")
  theirs+=("$(timed theirs)")
done
a=$(median "${ours[@]}") b=$(median "${theirs[@]}")
ratio=$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.2f", a / b }')
echo "refreshing plan of $services backup regions and $((count - services)) lists of backups: $a ms (median of $rounds: ${ours[*]})"
echo "refreshing plan of $count terraform_data: $b ms (median of $rounds: ${theirs[*]})"
echo "ratio $ratio (limit $ratio_max); $asked requests for $services services (limit $((services + requests_rest)))"
awk -v r="$ratio" -v m="$ratio_max" 'BEGIN { exit !(r <= m) }' || { echo "too slow" >&2; exit 1; }
[ "$asked" -gt 0 ] || { echo "the requests were not seen" >&2; exit 1; }
[ "$asked" -le $((services + requests_rest)) ] || { echo "too many requests" >&2; exit 1; }
