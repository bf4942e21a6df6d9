# shellcheck shell=bash
# Part of run.sh: a recorded site of PGHoard with encrypted backups and a timeline switch. What is true
# about each moment was recorded with it.

recorded="$here/../../tests/fixtures/pghoard/pghoard-orders.tar.zst"
backup='{ format = "pghoard", path = "orders" }'
store_options='store_options = { sidecars = true }'
private_key="[[private_key]]
id = \"k1\"
file = \"$root/site/keys/k1.pem\""
site_store=$root/stores/eu-west-1

arrive() { # arrive FILES, below the site
  (cd "$root/site" && tar cf - "$@") | user tar xf - -C "$site_store"
}
truth() { jq -r "$@" "$root/site/truth.json"; }

prepare_primary() {
  say "1. A PostgreSQL in aws-eu-west-1, backed up by PGHoard into that region's store (recorded)"
  step="unpacking the recorded site"
  mkdir -p "$root/site"
  tar --zstd -xf "$recorded" -C "$root/site"
  [ "${#as_user[@]}" -eq 0 ] || chown -R postgres: "$root/site/keys"
  cd "$root/site"
  # All but the newest timeline: that is still to come.
  arrive orders/basebackup* orders/xlog/00000001*
  note "PGHoard $(truth '.pghoard_version | split(" ")[0]'): $(truth '.base_backups | length') base backups, $(truth '[.base_backups[] | select(.encryption_key_id)] | length') of them encrypted; a test key, used nowhere else"
}

# The rest arrives; a moment is remembered in $moment and $rows.
go_on() {
  say "5. The database was rolled forward on a new timeline, and PGHoard goes on"
  step="the newest timeline arrives"
  cd "$root/site"
  arrive orders/timeline orders/xlog/00000002*
  cd "$root/terraform"
  moment=$(truth '.targets[] | select(.name == "timeline-2") | .time')
  rows=$(truth '.targets[] | select(.name == "timeline-2") | .row_count')
  sum=$(truth '.targets[] | select(.name == "timeline-2") | .rows_sha256')
  note "at $moment, on timeline 2, the table ledger had $rows rows"
}

stop_primary() { :; }

# Sets $found. The argument is the fork's address without a database.
ask_fork() {
  local sql="select id || '|' || to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || '|' || note from ledger order by id"
  found=$("$pg_bin/psql" -X -At -v ON_ERROR_STOP=1 "$1/postgres" -c "select count(*) from ledger")
  found_sum=$("$pg_bin/psql" -X -At "$1/postgres" -c "$sql" | sha256sum | cut -d' ' -f1)
  note "psql: select count(*) from ledger → $found rows; expected $rows"
  [ "$found" = "$rows" ] || fail "the fork has $found rows, at the moment there were $rows"
  [ "$found_sum" = "$sum" ] || fail "the rows differ: $found_sum, expected $sum"
}
