#!/usr/bin/env bash
# The product's story with real parts: a PostgreSQL with pgBackRest backups in one region, the
# engine, Terraform, the loss of that region, and the fork in the other one.
# usage: run.sh DIRECTORY_WITH_THE_BINARIES
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
primary_port=$(free_port 40000 44999)
engine_port=$(free_port 45000 49999)
fork_port=$(free_port 50000 54999)
psql_primary() { user "$pg_bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$root/primary" -p "$primary_port" -d shop "$@"; }

say "1. A PostgreSQL in aws-eu-west-1, backed up by pgBackRest into that region's store"
step="starting PostgreSQL"
cat > "$root/pgbackrest.conf" <<CONF
[global]
repo1-path=$root/stores/eu-west-1/pgbackrest
repo1-retention-full=2
compress-type=zst
start-fast=y
log-path=$root/logs
lock-path=$root/spool
spool-path=$root/spool
log-level-console=warn
log-level-file=off

[orders]
pg1-path=$root/primary/data
pg1-socket-path=$root/primary
pg1-port=$primary_port
CONF
pgbackrest() { user pgbackrest --config="$root/pgbackrest.conf" --stanza=orders "$@"; }
user "$pg_bin/initdb" -D "$root/primary/data" -A trust --no-sync >/dev/null
user tee -a "$root/primary/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
port = $primary_port
unix_socket_directories = '$root/primary'
archive_mode = on
archive_command = 'pgbackrest --config=$root/pgbackrest.conf --stanza=orders archive-push %p'
fsync = off
CONF
user "$pg_bin/pg_ctl" -w -D "$root/primary/data" -l "$root/logs/primary.log" start >/dev/null
user "$pg_bin/createdb" -h "$root/primary" -p "$primary_port" shop
user "$pg_bin/pgbench" -i -q -s 5 -h "$root/primary" -p "$primary_port" shop >/dev/null 2>&1
psql_primary -c "create table orders (id bigserial primary key, placed_at timestamptz not null default clock_timestamp())"
psql_primary -c "insert into orders select from generate_series(1, 1000)"
note "$(psql_primary -c "select 'pgbench tables with ' || (select count(*) from pgbench_accounts) || ' accounts, orders with ' || (select count(*) from orders) || ' rows'")"
step="taking a base backup"
pgbackrest stanza-create
pgbackrest --type=full backup
psql_primary -c "insert into orders select from generate_series(1, 500)" -c "select pg_switch_wal()" >/dev/null
note "pgBackRest: $(pgbackrest --output=json info | jq -r '.[0].backup | "\(length) full backup \(.[-1].label), \(.[-1].info.size / 1048576 | floor) MiB"')"

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

[[region]]
cloud = "aws-eu-central-1"
store = "file://$root/stores/eu-central-1"

[[region]]
cloud = "google-europe-west3"
store = "file://$root/stores/europe-west3"

[[service]]
project = "demo"
name = "orders"
type = "pg"
cloud = "aws-eu-west-1"
plan = "startup-4"
backup = { format = "pgbackrest", stanza = "orders", path = "pgbackrest" }
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
grep -q 'nearest valid time' last.log || fail "the refusal does not name the nearest valid time"
sed -n '/^.*Error:/,$p' last.log | sed 's/^/   /'

say "5. More orders, a moment worth remembering, and a mistake"
step="writing"
for _ in 1 2 3; do
  psql_primary -c "insert into orders select from generate_series(1, 217)"
  user "$pg_bin/pgbench" -n -c 2 -t 200 -h "$root/primary" -p "$primary_port" shop >/dev/null 2>&1
done
sleep 1.1
moment=$(psql_primary -c "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
rows=$(psql_primary -c "select count(*) from orders")
sum=$(psql_primary -c "select sum(abalance) from pgbench_accounts")
sleep 1.1
psql_primary -c "insert into orders select from generate_series(1, 333)"
after=$(psql_primary -c "select count(*) from orders")
psql_primary -c "drop table orders"
psql_primary -c "insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 1, 0, now())" -c "select pg_switch_wal()" >/dev/null
note "at $moment the table orders had $rows rows"
note "then came more ($after rows), and then: DROP TABLE orders"
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
user "$pg_bin/pg_ctl" -D "$root/primary/data" -m immediate stop >/dev/null
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
found=$("$pg_bin/psql" -X -At -v ON_ERROR_STOP=1 "${uri%/*}/shop" -c "select count(*) from orders")
found_sum=$("$pg_bin/psql" -X -At "${uri%/*}/shop" -c "select sum(abalance) from pgbench_accounts")
note "psql: select count(*) from orders → $found rows; expected $rows"
[ "$found" = "$rows" ] || fail "the fork has $found rows, at the moment there were $rows"
[ "$found_sum" = "$sum" ] || fail "the balances differ: $found_sum, expected $sum"
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
