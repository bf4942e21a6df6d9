# shellcheck shell=bash
# Part of run.sh: a PostgreSQL that is backed up by pgBackRest.

backup='{ format = "pgbackrest", stanza = "orders", path = "pgbackrest" }'
store_options=""
private_key=""
primary_port=$(free_port 40000 44999)
psql_primary() { user "$pg_bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$root/primary" -p "$primary_port" -d shop "$@"; }
pgbackrest() { user pgbackrest --config="$root/pgbackrest.conf" --stanza=orders "$@"; }

prepare_primary() {
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
}

# More rows, a moment that is remembered in $moment and $rows, and a mistake.
go_on() {
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
}

stop_primary() {
  user "$pg_bin/pg_ctl" -D "$root/primary/data" -m immediate stop >/dev/null
}

# Sets $found. The argument is the fork's address without a database.
ask_fork() {
  found=$("$pg_bin/psql" -X -At -v ON_ERROR_STOP=1 "$1/shop" -c "select count(*) from orders")
  found_sum=$("$pg_bin/psql" -X -At "$1/shop" -c "select sum(abalance) from pgbench_accounts")
  note "psql: select count(*) from orders → $found rows; expected $rows"
  [ "$found" = "$rows" ] || fail "the fork has $found rows, at the moment there were $rows"
  [ "$found_sum" = "$sum" ] || fail "the balances differ: $found_sum, expected $sum"
}
