# shellcheck shell=bash
# Part of run.sh: a MariaDB whose backups `btar push` takes, with mariadb-backup and its binary logs.

service_type=mysql
backup='{ format = "stream", path = "orders" }'
store_options=""
private_key=""
mariadbd=$(command -v mariadbd || echo /usr/sbin/mariadbd)
[ -x "$mariadbd" ] || fail "MariaDB is missing (package mariadb-server)"
mariadb() { user mariadb --no-defaults --batch --skip-column-names -S "$root/primary/socket" -u root "$@"; }
shop() { mariadb shop "$@"; }
push() { user "$root/bin/btar" push --config "$root/push.toml" "$@" >>"$root/logs/push.log" 2>&1; }

prepare_primary() {
  say "1. A MariaDB in aws-eu-west-1, backed up by btar push into that region's store"
  step="starting MariaDB"
  # A MariaDB that starts removes the temporary tables of all others in the same directory.
  user mkdir "$root/primary/tmp"
  user mariadb-install-db --no-defaults --datadir="$root/primary/data" --tmpdir="$root/primary/tmp" \
    --auth-root-authentication-method=normal >"$root/logs/install.log" 2>&1
  user "$mariadbd" --no-defaults --datadir="$root/primary/data" --socket="$root/primary/socket" \
    --pid-file="$root/primary/pid" --tmpdir="$root/primary/tmp" \
    --skip-networking --server-id=16 --log-bin=bin --binlog-format=ROW \
    >"$root/logs/primary.log" 2>&1 &
  primary=$!
  for _ in $(seq 200); do
    mariadb -e 'select 1' >/dev/null 2>&1 && break
    kill -0 "$primary" 2>/dev/null || fail "MariaDB ended: $(tail -n3 "$root/logs/primary.log")"
    sleep 0.1
  done
  mariadb -e "create database shop"
  shop -e "create table orders (id bigint auto_increment primary key, placed_at timestamp(6) default current_timestamp(6), amount int not null) engine=innodb"
  shop -e "insert into orders (amount) select seq from seq_1_to_1000"
  note "orders with $(shop -e 'select count(*) from orders') rows"
  step="taking a base backup"
  cat > "$root/push.toml" <<CONF
store = "file://$root/stores/eu-west-1"
path = "orders"
state_dir = "$root/spool"

[server]
socket = "$root/primary/socket"
user = "root"
CONF
  push base
  shop -e "insert into orders (amount) select seq from seq_1_to_500"
  push binlogs --flush
  note "btar push: $(find "$root/stores/eu-west-1/orders/backups" -name backup.json | wc -l) base backup, $(find "$root/stores/eu-west-1/orders/binlogs" -name '*.zst' | wc -l) binary logs"
}

# More rows, a moment that is remembered in $moment and $rows, and a mistake.
go_on() {
  say "5. More orders, a moment worth remembering, and a mistake"
  step="writing"
  for _ in 1 2 3; do
    shop -e "insert into orders (amount) select seq from seq_1_to_217"
    push binlogs --flush
  done
  # MariaDB's binary log tells whole seconds.
  sleep 1.1
  moment=$(shop -e "select date_format(utc_timestamp(6), '%Y-%m-%dT%H:%i:%s.%fZ')")
  rows=$(shop -e "select count(*) from orders")
  sum=$(shop -e "select sum(amount) from orders")
  sleep 1.1
  shop -e "insert into orders (amount) select seq from seq_1_to_333"
  after=$(shop -e "select count(*) from orders")
  shop -e "drop table orders"
  sleep 1.1
  push binlogs --flush
  note "at $moment the table orders had $rows rows"
  note "then came more ($after rows), and then: DROP TABLE orders"
}

stop_primary() {
  kill -KILL "$(cat "$root/primary/pid")"
  wait "$primary" 2>/dev/null || true
}

# Sets $found. The argument is the fork's address without a database.
ask_fork() {
  local account=${1#mysql://} address
  address=${account#*@} account=${account%@*}
  # A password is no argument: everybody on the machine sees those.
  printf '[client]\nuser=%s\npassword=%s\nhost=%s\nport=%s\n' "${account%%:*}" "${account#*:}" \
    "${address%:*}" "${address##*:}" | (umask 077 && cat >"$root/fork.cnf")
  ask() { command mariadb --defaults-file="$root/fork.cnf" --batch --skip-column-names shop -e "$1"; }
  found=$(ask "select count(*) from orders")
  found_sum=$(ask "select sum(amount) from orders")
  note "mariadb: select count(*) from orders → $found rows; expected $rows"
  [ "$found" = "$rows" ] || fail "the fork has $found rows, at the moment there were $rows"
  [ "$found_sum" = "$sum" ] || fail "the amounts differ: $found_sum, expected $sum"
}
