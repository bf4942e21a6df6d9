#!/usr/bin/env bash
# The product's story with real parts: a database with backups in one region, the engine, Terraform, the
# loss of that region, and the fork in the other one. The database is PostgreSQL and its backups are made
# here by pgBackRest; with FORMAT=pghoard they are a recorded site of PGHoard, which has no package. With
# ENGINE=mysql it is a MariaDB whose backups btar push takes.
# usage: [ENGINE=mysql] [FORMAT=pghoard] run.sh DIRECTORY_WITH_THE_BINARIES
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
bin_from=$1
step="starting"
root=""

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() {
  printf '\nDEMO FAILED at the step "%s": %s\n' "$step" "$*" >&2
  exit 1
}

# PostgreSQL refuses to run as root: as root everything but Terraform runs as `postgres`.
as_user=()
if [ "$(id -u)" -eq 0 ]; then
  id postgres >/dev/null 2>&1 || fail "there is no user postgres (package postgresql)"
  as_user=(runuser -u postgres --)
fi
user() { "${as_user[@]}" "$@"; }

tf=$(command -v terraform || command -v tofu || true)
[ -n "$tf" ] || {
  echo "Terraform or OpenTofu is missing. It is the one thing to get by hand:" >&2
  echo "  https://developer.hashicorp.com/terraform/install or https://opentofu.org/docs/intro/install" >&2
  exit 1
}
pg_bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n1)")

cleanup() {
  local code=$?
  set +e
  if [ -n "$root" ] && [ -d "$root" ]; then
    if [ "$code" -ne 0 ]; then
      for log in "$root"/logs/*.log "$root"/terraform/last.log; do
        [ -s "$log" ] && { echo "--- the end of ${log##*/}:"; tail -n 25 "$log"; } >&2
      done
    fi
    for pidfile in "$root"/primary/pid "$root"/engine/forks/*/server.pid; do
      [ -f "$pidfile" ] && kill -KILL "$(head -n1 "$pidfile")" 2>/dev/null
    done
    for pidfile in "$root"/primary/data/postmaster.pid "$root"/engine/forks/*/*/data/postmaster.pid \
      "$root"/engine/forks/*/data/postmaster.pid; do
      [ -f "$pidfile" ] && kill -QUIT "$(head -n1 "$pidfile")" 2>/dev/null
    done
    [ -n "${engine:-}" ] && kill "$engine" 2>/dev/null && wait "$engine" 2>/dev/null
    cd / && rm -rf "$root"
  fi
  exit "$code"
}
trap cleanup EXIT
trap 'fail "the command in line $LINENO did not succeed"' ERR
started=$SECONDS

step="preparing a place to work"
root=$(mktemp -d "${TMPDIR:-/tmp}/btar-demo.XXXXXX")
chmod 0755 "$root"
mkdir -p "$root"/{bin,primary,stores/eu-west-1/pgbackrest,stores/eu-central-1,engine,logs,terraform,spool}
install -m 0755 "$bin_from/btar" "$bin_from/terraform-provider-btar" "$root/bin/"
if [ "${#as_user[@]}" -gt 0 ]; then
  chown -R postgres: "$root"/{primary,stores,engine,logs,spool}
fi
free_port() {
  local port
  for port in $(shuf -i "$1-$2" -n 40); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  fail "no free port between $1 and $2"
}
engine_port=$(free_port 45000 49999)
fork_port=$(free_port 50000 54999)
# What differs between the tools that made the backups.
service_type=pg
case ${ENGINE:-pg}/${FORMAT:-} in
pg/ | pg/pgbackrest) . "$here/pgbackrest.sh" ;;
pg/pghoard) . "$here/pghoard.sh" ;;
mysql/ | mysql/stream) . "$here/stream.sh" ;;
pg/*) fail "FORMAT=$FORMAT is none of pgbackrest and pghoard" ;;
mysql/*) fail "FORMAT=$FORMAT is not stream" ;;
*) fail "ENGINE=$ENGINE is neither pg nor mysql" ;;
esac
prepare_primary

say "2. The engine"
step="starting btar serve"
token=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
export AIVEN_TOKEN=$token
cat > "$root/btar.toml" <<CONF
[engine]
listen = "127.0.0.1:$engine_port"
data_dir = "$root/engine"
poll_interval = "1s"

[[token]]
name = "demo"
sha256 = "$(printf %s "$token" | sha256sum | cut -d' ' -f1)"

[forks]
ports = "$fork_port-$((fork_port + 9))"
disk_reserve = "64MiB"

[[region]]
cloud = "aws-eu-west-1"
store = "file://$root/stores/eu-west-1"
$store_options

[[region]]
cloud = "aws-eu-central-1"
store = "file://$root/stores/eu-central-1"
$store_options

[[region]]
cloud = "google-europe-west3"
store = "file://$root/stores/europe-west3"
$store_options

[[service]]
project = "demo"
name = "orders"
type = "$service_type"
cloud = "aws-eu-west-1"
plan = "startup-4"
backup = $backup

$private_key
CONF
mkdir -p "$root/stores/europe-west3"
[ "${#as_user[@]}" -eq 0 ] || chown postgres: "$root/stores/europe-west3"
chmod 0644 "$root/btar.toml"
url=http://127.0.0.1:$engine_port
"$root/bin/btar" serve --config "$root/btar.toml" >"$root/logs/engine.log" 2>&1 &
engine=$!
for _ in $(seq 100); do
  curl -fsS -o /dev/null "$url/v1/clouds" 2>/dev/null && break
  kill -0 "$engine" 2>/dev/null || fail "the engine ended: $(tail -n3 "$root/logs/engine.log")"
  sleep 0.1
done
curl -fsS -o /dev/null "$url/v1/clouds" || fail "the engine does not answer at $url"
api() { curl -fsS -H "Authorization: aivenv1 $token" -H 'Content-Type: application/json' "$@"; }
status() { "$root/bin/btar" status --url "$url"; }
note "$(curl -fsS "$url/v1/clouds" | jq -r '[.clouds[].cloud_name] | "serving at '"$url"' for " + join(", ")')"

say "3. Terraform enables aws-eu-central-1 as backup region"
step="terraform init"
"$here/../../.ci/install-provider" "$root/bin/terraform-provider-btar" "$root/mirror"
cat > "$root/terraform.rc" <<CONF
provider_installation {
  filesystem_mirror {
    path = "$root/mirror"
  }
}
CONF
export TF_CLI_CONFIG_FILE=$root/terraform.rc TF_IN_AUTOMATION=1 TF_VAR_api_url=$url CHECKPOINT_DISABLE=1
cp "$here/main.tf" "$root/terraform/"
cd "$root/terraform"
"$tf" init -input=false >last.log 2>&1 || fail "terraform init"
step="terraform apply of the backup region"
"$tf" apply -input=false -auto-approve -no-color >last.log 2>&1 || fail "terraform apply"
note "$(grep '^Apply complete' last.log)"
status

say "4. What cannot work is refused at plan time"
step="a region of another provider"
if "$tf" plan -input=false -no-color -var secondary_region=google-europe-west3 >last.log 2>&1; then
  fail "a region of another provider was not refused"
fi
grep -q 'not of the same cloud provider' last.log || fail "the refusal does not say why"
sed -n '/^.*Error:/,$p' last.log | sed 's/^/   /'
step="an impossible restore time"
if "$tf" plan -input=false -no-color -var fork=true -var restore_time=2020-01-01T00:00:00Z >last.log 2>&1; then
  fail "an impossible restore time was not refused"
fi
tr -s '\n ' ' ' <last.log | grep -q 'nearest valid time' || fail "the refusal does not name the nearest valid time"
sed -n '/^.*Error:/,$p' last.log | sed 's/^/   /'

go_on
step="waiting until the copy covers the moment"
for _ in $(seq 300); do
  end=$(api "$url/v1/project/demo/service/orders/backups" | jq -r '.pitr.additional_regions[0].pitr_range_end // ""')
  [[ "$end" > "$moment" ]] && break
  sleep 0.1
done
[[ "$end" > "$moment" ]] || fail "the copy reaches to $end only, the moment is $moment"
note "the copy in aws-eu-central-1 can be restored to $end"

say "6. aws-eu-west-1 is gone: its server is killed, its store is taken away"
step="taking the primary region away"
stop_primary
mv "$root/stores/eu-west-1" "$root/taken-away"
mv "$root/primary" "$root/taken-away-primary"
sleep 2
status

say "7. Terraform forks the database in aws-eu-central-1, at that moment"
step="terraform apply of the fork"
export TF_VAR_fork=true TF_VAR_restore_time=$moment
at=$SECONDS
"$tf" apply -input=false -auto-approve -no-color >last.log 2>&1 || fail "terraform apply"
note "$(grep '^Apply complete' last.log) ($((SECONDS - at)) s)"
uri=$("$tf" output -raw fork_uri)
step="asking the fork"
ask_fork "${uri%/*}"
status

say "8. Nothing is left to do, and drift is found"
step="a plan without changes"
code=0
"$tf" plan -input=false -no-color -detailed-exitcode >last.log 2>&1 || code=$?
[ "$code" -eq 0 ] || fail "terraform plan -detailed-exitcode gave $code, expected 0"
note "terraform plan -detailed-exitcode → 0 (no changes)"
step="drift"
api -X PUT -d '{"user_config": {"additional_backup_regions": []}}' "$url/v1/project/demo/service/orders" >/dev/null
code=0
"$tf" plan -input=false -no-color -detailed-exitcode >last.log 2>&1 || code=$?
[ "$code" -eq 2 ] || fail "drift was not found: terraform plan -detailed-exitcode gave $code, expected 2"
note "somebody switched the backup region off behind Terraform's back: plan → 2 (drift found)"
grep -E 'will be created|must be replaced|will be updated' last.log | sed 's/^ */   /'

step="cleaning up"
api -X PUT -d '{"user_config": {"additional_backup_regions": ["aws-eu-central-1"]}}' "$url/v1/project/demo/service/orders" >/dev/null
"$tf" destroy -input=false -auto-approve -no-color >last.log 2>&1 || fail "terraform destroy"
note "$(grep '^Destroy complete' last.log)"
say "Done in $((SECONDS - started)) seconds: $found of $rows rows, from the other region."
