#!/usr/bin/env bash
# One story about one task, on this machine alone: a private PostgreSQL, `errand dev`, and an agent that believes what
# it reads. Every sentence it prints is checked; the first that does not hold ends it with status 1.
#
#   ERRAND_BIN=/path/to/errand   use this binary instead of building one
#   NO_COLOR=1                   no colours on a terminal either
set -euo pipefail
export LC_ALL=C
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
# Where a path inside it is asked for, PostgreSQL runs as another user: not below somebody's home.
work=$(mktemp -d /tmp/errand-demo.XXXXXX)
chmod 711 "$work"
server=
waiter=
# shellcheck source=../lib.sh
. "$here/../lib.sh"

# === Cleaning up, however it ends ===

stop_server() {
  [ -n "$server" ] || return 0
  kill -TERM "$server" 2>/dev/null || true
  gone "$server" 20 || kill -KILL "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}

clean_up() {
  local status=$?
  trap - EXIT INT TERM HUP
  set +e
  stop_server
  [ -z "$waiter" ] || kill "$waiter" 2>/dev/null
  if [ -f "$work/pg/data/postmaster.pid" ]; then pg pg_ctl -D "$work/pg/data" -m immediate stop >/dev/null 2>&1; fi
  rm -rf -- "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# === Errand ===

start_errand() {
  local began=$EPOCHREALTIME until=$((SECONDS + 30))
  : >"$work/dev.log"
  errand dev --data-dir "$work/dev" --http 127.0.0.1:0 </dev/null >>"$work/dev.log" 2>&1 &
  server=$!
  until grep -q '^ready' "$work/dev.log"; do
    kill -0 "$server" 2>/dev/null || fail "errand dev ended"
    [ "$SECONDS" -lt "$until" ] || fail "errand dev is not ready after 30 s"
    sleep 0.01
  done
  ready_ms=$(ms "$began")
  # shellcheck source=/dev/null
  . "$work/dev/dev.env"
}

# Notes the moment at which a role is gone: PostgreSQL itself looks, every millisecond, so nothing else is measured.
watch_role() {
  : >"$work/gone"
  "$pg_bin/psql" -XAtq -h "$work/pg" -p "$port" -U postgres -d orders >"$work/gone" 2>&1 <<SQL &
SELECT 'watching';
DO \$\$ BEGIN
  WHILE EXISTS (SELECT FROM pg_roles WHERE rolname = '$1') LOOP PERFORM pg_sleep(0.001); END LOOP;
END \$\$;
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
SQL
  waiter=$!
  eventually 10 "nobody watches the role" grep -q watching "$work/gone"
}
role_gone() { # SINCE: sets `took`, the milliseconds until it was gone
  gone "$waiter" 30 || fail "the role is still there"
  wait "$waiter" || fail "watching the role failed: $(cat "$work/gone")"
  waiter=
  local at
  at=$(tail -n 1 "$work/gone")
  took=$(((at - ${1/./}) / 1000))
}

# === The story ===


printf '%sErrand: a credential for one errand, gone when the errand is over.%s\n' "$bold" "$off"
tell "Everything happens on 127.0.0.1 and in $work, and is removed at the end."
build
pg_bin=$(find_postgres)
export PATH=$work/bin:$pg_bin:$PATH XDG_STATE_HOME=$work/state XDG_DATA_HOME=$work/data ERRAND_OUTPUT=table
# What the caller's own surroundings say about servers must not change the story.
unset SPIFFE_ENDPOINT_SOCKET ERRAND_SERVER_SOCKET ERRAND_BIN ERRAND_DIR ERRAND_TASK_ID "${!PG@}"

chapter "1. A shop's database, and Errand beside it"
# The only two passwords of this story; neither is ever shown to the agent.
errand_password=$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')
kim_password=$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')
start_postgres
psql -Xq -h "$work/pg" -p "$port" -U postgres -d postgres -v "errand_password=$errand_password" -v "kim_password=$kim_password" \
  -f "$here/orders.sql" >"$work/setup.log" 2>&1 || fail "$(tail -n 3 "$work/setup.log")"
(umask 077 && printf '%s' "$errand_password" >"$work/password")
good "PostgreSQL $(root_sql 'SHOW server_version' | cut -d' ' -f1) runs on 127.0.0.1:$port with 42 orders in it."
start_errand
good "errand dev was ready after $ready_ms ms: server and agent in one process."
cat >"$work/orders-db.toml" <<TOML
[[target]]
name = "orders-db"
kind = "postgres"
url  = "postgres://errand@127.0.0.1:$port/orders"
password_file = "$work/password"
[[target.role]]
name = "readonly"
member_of = ["orders_reader"]
max_ttl = "30m"
[[target.role]]
name = "owner"
member_of = ["orders_owner"]
max_ttl = "5m"
TOML
typed "errand target apply -f orders-db.toml && errand target check orders-db"
errand target apply -f "$work/orders-db.toml" >/dev/null
checked=$(errand target check orders-db 2>&1) || fail "$checked"
quote "$checked"
typed "errand policy apply -f no-owner.cedar"
errand policy apply -f "$here/no-owner.cedar" >"$work/out" 2>&1 || fail "$(cat "$work/out")"
quote "$(cat "$work/out")"

chapter "2. An agent works, and believes what it reads"
tell "One row of the table carries an instruction. The developer's own superuser password lies in the"
tell "environment, as it so often does. The agent gets a database user made for this task alone:"
typed "errand run --intent 'summarise the orders' --grant orders-db/readonly -- ./agent.sh"
PGUSER=kim PGPASSWORD=$kim_password PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=orders \
  errand run --intent 'summarise the orders' --grant orders-db/readonly -- "$here/agent.sh" >"$work/agent.out" 2>&1 ||
  fail "the agent: $(cat "$work/agent.out")"
quote "$(cat "$work/agent.out")"
grep -q 'I am errand_' "$work/agent.out" || fail "the agent is not the user that was made for it"
! grep -q "$kim_password" "$work/agent.out" || fail "the developer's password reached the agent"
good "The developer's PGUSER and PGPASSWORD did not win: the agent never saw them."
grep -q 'ERROR:  must be owner of table orders' "$work/agent.out" || fail "DROP TABLE was not refused"
[ "$(root_sql 'SELECT count(*) FROM orders')" = 42 ] || fail "orders are missing"
good "DROP TABLE was refused by PostgreSQL; all 42 orders are there."
grep -q 'this task has no grant for orders-db/owner' "$work/agent.out" || fail "the task obtained what it was not granted"
good "orders-db/owner was refused: a task has what it was started with and never more."
tell "So somebody is talked into starting a task that asks for it outright:"
typed "errand run --intent 'tidy up, as the assistant asked' --grant orders-db/owner -- psql"
status=0
errand run --intent 'tidy up, as the assistant asked' --grant orders-db/owner -- "$pg_bin/psql" -c 'DROP TABLE orders' >"$work/out" 2>&1 || status=$?
quote "$(head -n 1 "$work/out" | cut -d';' -f1)"
[ "$status" = 77 ] && grep -q 'forbidden by no-owner' "$work/out" || fail "the policy did not refuse it (status $status)"
good "Refused by the policy no-owner, before anything was made. Exit status 77."
eventually 5 "the agent's database user outlives its task" test -z "$(roles)"
good "The agent is done, and its database user does not exist any more."

chapter "3. The agent is killed"
errand run --intent 'watch the orders' --grant orders-db/readonly -- \
  /bin/sh -c "echo \$\$ >'$work/agent.pid'; psql -Xc 'SELECT pg_sleep(300)'" >/dev/null 2>&1 &
running=$!
sleeping() { [ "$(root_sql "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'errand\_%\_%' AND query LIKE '%pg_sleep(300)%'")" = 1 ]; }
eventually 20 "the second agent does not work" sleeping
role=$(roles)
tell "Another task is in the middle of a query, as $role."
watch_role "$role"
typed "kill -9 $(cat "$work/agent.pid")"
began=$EPOCHREALTIME
kill -9 "$(cat "$work/agent.pid")"
role_gone "$began"
wait "$running" 2>/dev/null || true
[ "$(root_sql "SELECT count(*) FROM pg_stat_activity WHERE usename = '$role' OR (usesysid IS NOT NULL AND usesysid NOT IN (SELECT oid FROM pg_roles))")" = 0 ] || fail "its session lives"
good "$took ms after the SIGKILL its user, its session and its rights were gone."

chapter "4. The server is killed in the middle of making a user"
# PostgreSQL waits for a standby that never comes: the user is made, and the answer never arrives.
root_sql "ALTER SYSTEM SET synchronous_standby_names = 'nobody'" && root_sql "SELECT pg_reload_conf()" >/dev/null
errand run --intent 'bad timing' --grant orders-db/readonly -- /bin/true >/dev/null 2>&1 &
running=$!
hanging() { [ "$(root_sql "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'errand'")" != 0 ]; }
eventually 10 "the commit does not hang" hanging
tell "PostgreSQL holds back its answer to COMMIT. Now:"
typed "kill -9 $server    # errand dev"
# The shell would tell of the killed job, too.
{ kill -9 "$server" && wait "$server"; } 2>/dev/null || true
server=
root_sql "ALTER SYSTEM RESET synchronous_standby_names" && root_sql "SELECT pg_reload_conf()" >/dev/null
landed() { [ -n "$(roles)" ]; }
eventually 10 "the user did not land" landed
wait "$running" 2>/dev/null || true
role=$(roles)
tell "The user landed after its maker's death: $role is alive, and nobody holds its password."
watch_role "$role"
typed "errand dev    # again, on the same directory"
began=$EPOCHREALTIME
start_errand
role_gone "$began"
good "Ready after $ready_ms ms, and $took ms after the start the half-made user was gone:"
tell "its name was written down before PostgreSQL was asked to make it."
settled() { errand who "$role" | grep -q '^over  *yes'; }
eventually 5 "its lease is not closed" settled

chapter "5. Who was that?"
line=$(grep -m 1 'must be owner of table orders' "$work/pg/server.log") || fail "PostgreSQL did not log the refusal"
role=${line%% *}
tell "PostgreSQL's own log says:"
quote "$line"
typed "errand who $role"
who=$(errand who "$role" 2>&1) || fail "$who"
quote "$who"
grep -q 'summarise the orders' <<<"$who" || fail "it names another task"
good "From a name in somebody else's log to the task, its reason, its policy and its node."

chapter "6. Somebody edits the journal"
typed "errand journal verify"
verified=$(errand journal verify 2>&1) || fail "$verified"
quote "$verified"
position=$(errand journal search --kind task.refused --output json 2>/dev/null | sed -n 's/.*"position": *\([0-9]*\).*/\1/p' | head -n 1)
stop_server
store=$work/dev/server/errand.db
at=$(grep -abo '"kind":"task.refused"' "$store" | head -n 1 | cut -d: -f1)
[ -n "$at" ] || fail "the record is not in the store"
printf 'r' | dd of="$store" bs=1 seek=$((at + 14)) conv=notrunc status=none
tell "The server is stopped, and one byte of its store changed: task.refused now says task.rrfused."
start_errand
typed "errand journal verify"
status=0
verified=$(errand journal verify 2>&1) || status=$?
quote "$(grep -v '^ *next' <<<"$verified")"
[ "$status" = 1 ] || fail "nobody noticed (status $status)"
[ -n "$position" ] && grep -q "first bad position $position\$" <<<"$verified" || fail "it names another record than $position"
good "Record $position is named: the one in which the policy said no."

printf '\n%sThat was all of it, in %s s.%s README.md says how to try it on a database of yours.\n' "$bold" "$SECONDS" "$off"
