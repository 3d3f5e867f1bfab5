#!/usr/bin/env bash
# Three servers on one PostgreSQL, two agents, and a task at work while servers are killed and the database stands still.
# Every sentence it prints is checked; the first that does not hold ends it with status 1.
#
#   ERRAND_BIN=/path/to/errand   use this binary instead of building one
#   SHORT=1                      the database stands still for two seconds, not five
set -euo pipefail
export LC_ALL=C
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
work=$(mktemp -d /tmp/errand-three.XXXXXX)
chmod 711 "$work"
declare -A pids=()
# shellcheck source=../lib.sh
. "$here/../lib.sh"

clean_up() {
  local status=$? name
  trap - EXIT INT TERM HUP
  set +e
  stand_still CONT 2>/dev/null
  for name in "${!pids[@]}"; do kill -TERM "${pids[$name]}" 2>/dev/null; done
  for name in "${!pids[@]}"; do gone "${pids[$name]}" 10 || kill -KILL "${pids[$name]}" 2>/dev/null; done
  if [ -f "$work/pg/data/postmaster.pid" ]; then pg pg_ctl -D "$work/pg/data" -m immediate stop >/dev/null 2>&1; fi
  rm -rf -- "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# === Servers and agents ===

# Ports that no two of them share: a free one may be given twice before it is used.
next_port() {
  port_used=${port_used:-$((21000 + RANDOM % 9000))}
  while :; do
    port_used=$((port_used + 1))
    (exec 3<>"/dev/tcp/127.0.0.1/$port_used") 2>/dev/null || break
  done
}

declare -A grpc=()
configure_server() { # N
  local listen=() part
  for part in grpc http mtls public metrics; do next_port; listen+=("127.0.0.1:$port_used"); done
  grpc[$1]=${listen[0]}
  mkdir -p "$work/s$1"
  cat >"$work/s$1/server.toml" <<TOML
[server]
trust_domain = "shop.example.org"
data_dir = "$work/s$1/data"
[store]
url = "postgres://errand_store@127.0.0.1:$port/errand"
password_file = "$work/store-password"
[admin]
socket = "$work/s$1/server.sock"
operators = { "$(id -u)" = "kim" }
[grpc]
listen = "${listen[0]}"
[http]
issuer = "https://localhost:8442"
listen = "${listen[1]}"
[http.mtls]
listen = "${listen[2]}"
[http.public]
listen = "${listen[3]}"
[telemetry]
metrics_listen = "${listen[4]}"
[authority]
kek_file = "$work/kek"
[targets]
secrets_dir = "$work/secrets"
TOML
}

start() { # NAME errand-ARGUMENTS…
  local name=$1 until=$((SECONDS + 30))
  shift
  : >"$work/$name.log"
  errand "$@" </dev/null >>"$work/$name.log" 2>&1 &
  pids[$name]=$!
  until grep -q '^ready' "$work/$name.log"; do
    kill -0 "${pids[$name]}" 2>/dev/null || fail "$name ended"
    [ "$SECONDS" -lt "$until" ] || fail "$name is not ready after 30 s"
    sleep 0.02
  done
}
start_server() { start "server$1" server run --config "$work/s$1/server.toml"; }

kill_server() { # NAME
  typed "kill -9 ${pids[$1]}    # $1"
  { kill -9 "${pids[$1]}" && wait "${pids[$1]}"; } 2>/dev/null || true
  unset "pids[$1]"
}

# Operators ask whichever server lives.
ask() {
  local name
  for name in server1 server2 server3; do
    if [ -n "${pids[$name]:-}" ]; then
      ERRAND_SERVER_SOCKET="$work/s${name#server}/server.sock" errand "$@"
      return
    fi
  done
  fail "no server lives"
}

start_agent() { # NAME
  local token
  token=$(ask node token --output json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p')
  mkdir -p "$work/$1"
  cat >"$work/$1/agent.toml" <<TOML
[agent]
trust_domain = "shop.example.org"
server = ["${grpc[1]}", "${grpc[2]}", "${grpc[3]}"]
data_dir = "$work/$1/data"
socket = "$work/$1/agent.sock"
launch_socket = "$work/$1/launch.sock"
trust_bundle = "$work/ca.pem"
[node_attestor]
kind = "join_token"
token = "$token"
[[workload_attestor]]
kind = "unix"
TOML
  start "$1" agent run --config "$work/$1/agent.toml"
}

# Which server an agent talks to, by what it logged last.
server_of() { # AGENT
  local at n
  at=$(sed -n 's/.*connected to the server.* server=\([0-9.:]*\).*/\1/p' "$work/$1.log" | tail -n 1)
  for n in 1 2 3; do [ "${grpc[$n]}" != "$at" ] || printf 'server%s' "$n"; done
}
# Which living server has a duty.
holder_of() { # DUTY
  local name
  for name in server1 server2 server3; do
    if [ -n "${pids[$name]:-}" ] && grep -q "duty=\"$1\"" "$work/$name.log"; then printf '%s' "$name"; return; fi
  done
}

# Stops or continues every process of PostgreSQL.
stand_still() { # STOP|CONT
  local postmaster file parent
  postmaster=$(head -n 1 "$work/pg/data/postmaster.pid")
  for file in /proc/[0-9]*/status; do
    parent=$(sed -n 's/^PPid:\t//p' "$file" 2>/dev/null) || continue
    if [ "$parent" = "$postmaster" ]; then
      file=${file%/status}
      kill "-$1" "${file#/proc/}" 2>/dev/null || true
    fi
  done
  kill "-$1" "$postmaster"
}

# === The task's own program ===

# Obtains a credential again and again, uses it, and looks whether it is still who it is.
cat >"$work/worker.sh" <<'WORKER'
#!/usr/bin/env bash
work=$1
while [ ! -e "$work/stop" ]; do
  errand svid x509 >/dev/null 2>>"$work/worker.err" || echo lost >>"$work/worker.log"
  if answer=$(errand exchange orders-db/readonly --as json 2>"$work/refusal"); then
    name=$(sed -n 's/.*"user": *"\([^"]*\)".*/\1/p' <<<"$answer" | head -n 1)
    echo "got $name" >>"$work/worker.log"
  else
    echo "refused $? $(head -n 1 "$work/refusal")" >>"$work/worker.log"
  fi
  sleep 0.2
done
WORKER
chmod 755 "$work/worker.sh"

got() { grep -c '^got ' "$work/worker.log" || true; }
goes_on() { # SINCE: a credential came after so many
  [ "$(got)" -gt "$1" ]
}
# Sets `took`: how long it was until the next credential.
recovers() { # SECONDS WHAT
  local before began
  before=$(got) began=$EPOCHREALTIME
  eventually "$1" "$2" goes_on "$before"
  took=$(ms "$began")
}

# === The story ===

printf '%sErrand: three servers on one database, and a task that outlives two of them.%s\n' "$bold" "$off"
tell "Everything happens on 127.0.0.1 and in $work, and is removed at the end."
build
pg_bin=$(find_postgres)
export PATH=$work/bin:$pg_bin:$PATH XDG_STATE_HOME=$work/state XDG_DATA_HOME=$work/data ERRAND_OUTPUT=table
unset SPIFFE_ENDPOINT_SOCKET ERRAND_SERVER_SOCKET ERRAND_BIN ERRAND_DIR ERRAND_TASK_ID "${!PG@}"
pause=5
[ -z "${SHORT:-}" ] || pause=2

chapter "1. One database, three servers, two agents"
secret() { od -An -N 16 -tx1 /dev/urandom | tr -d ' \n'; }
target_password=$(secret) store_password=$(secret)
start_postgres
psql -Xq -h "$work/pg" -p "$port" -U postgres -d postgres -v "errand_password=$target_password" -v "kim_password=$(secret)" \
  -f "$here/../quickstart/orders.sql" >"$work/setup.log" 2>&1 || fail "$(tail -n 3 "$work/setup.log")"
root_sql "CREATE ROLE errand_store LOGIN PASSWORD '$store_password'" postgres
root_sql "CREATE DATABASE errand OWNER errand_store" postgres
(umask 077 && mkdir "$work/secrets" && printf '%s' "$target_password" >"$work/secrets/password" && printf '%s' "$store_password" >"$work/store-password")
for n in 1 2 3; do configure_server "$n"; done
for n in 1 2 3; do start_server "$n"; done
good "Three servers are ready: one set of keys, one journal, no leader to choose."
ask bundle show >"$work/ca.pem"
for agent in agent1 agent2; do start_agent "$agent"; done
good "agent1 talks to $(server_of agent1), agent2 to $(server_of agent2)."
planner=spiffe://shop.example.org/planner
for node in $(ask node list --output json | grep -o 'spiffe://shop[^"]*/join_token/[0-9a-f]*' | sort -u); do
  ask entry create --parent-id "$node" --spiffe-id "$planner" --selector "unix:uid:$(id -u)" >/dev/null 2>&1
done
printf 'permit (principal == Workload::"%s", action, resource);\n' "$planner" >"$work/planner.cedar"
ask policy apply -f "$work/planner.cedar" >/dev/null 2>&1
cat >"$work/orders-db.toml" <<TOML
[[target]]
name = "orders-db"
kind = "postgres"
url  = "postgres://errand@127.0.0.1:$port/orders"
password_file = "$work/secrets/password"
[[target.role]]
name = "readonly"
member_of = ["orders_reader"]
max_ttl = "30m"
TOML
ask target apply -f "$work/orders-db.toml" >/dev/null 2>&1

chapter "2. A task at work"
: >"$work/worker.log"
served() { SPIFFE_ENDPOINT_SOCKET=unix://$work/agent1/agent.sock errand svid x509; }
eventually 15 "the workload is not served" served
typed "errand run --intent 'count the orders' --grant orders-db/readonly -- ./worker.sh"
SPIFFE_ENDPOINT_SOCKET=unix://$work/agent1/agent.sock errand run --intent 'count the orders' --grant orders-db/readonly -- \
  "$work/worker.sh" "$work" >"$work/run.out" 2>"$work/run.log" &
running=$!
pids[run]=$running
eventually 20 "the task obtains nothing" goes_on 2
good "It asks for a credential again and again."

chapter "3. The server that its agent talks to is killed"
victim=$(server_of agent1)
[ -n "$victim" ] || fail "nobody knows which server agent1 talks to"
kill_server "$victim"
recovers 20 "the task obtains nothing any more"
good "$took ms later it had its next credential, by way of $(server_of agent1)."
start_server "${victim#server}"

chapter "4. The server that signs checkpoints is killed"
signs() { signer=$(holder_of checkpoints) && [ -n "$signer" ]; }
eventually 20 "nobody signs checkpoints" signs
kill_server "$signer"
taken_over() { local other; other=$(holder_of checkpoints); [ -n "$other" ] && [ "$other" != "$signer" ]; }
eventually 20 "nobody signs checkpoints any more" taken_over
recovers 20 "the task obtains nothing any more"
good "$(holder_of checkpoints) signs them now, and the task had its next credential."
start_server "${signer#server}"

chapter "5. The database stands still for $pause seconds"
stand_still STOP
sleep "$pause"
stand_still CONT
recovers 30 "the task obtains nothing any more"
good "$took ms after it went on the task had its next credential."

chapter "6. The task is over"
touch "$work/stop"
gone "$running" 30 || fail "the task goes on"
wait "$running" || fail "errand run: $(cat "$work/run.log")"
unset "pids[run]"
! grep -q '^lost' "$work/worker.log" || fail "the task lost its identity: $(tail -n 3 "$work/worker.err")"
good "It had its identity all the time, and $(got) credentials; $(grep -c '^refused' "$work/worker.log" || true) requests were refused cleanly."
nobody() { [ -z "$(roles)" ]; }
eventually 20 "a credential outlives its task" nobody
for n in 1 2 3; do
  export ERRAND_SERVER_SOCKET=$work/s$n/server.sock
  settled() { errand lease list --live --output json | grep -q '"leases": *\[\]'; }
  eventually 20 "server$n knows of open leases" settled
  errand journal verify >"$work/verify$n" 2>&1 || fail "server$n: $(cat "$work/verify$n")"
done
unset ERRAND_SERVER_SOCKET
given=$(ask journal search --all --kind lease.handed --output json | grep -o '"name": *"errand_[a-z0-9_]*"' | sort -u)
while read -r _ name; do
  grep -q "\"$name\"" <<<"$given" || fail "$name was handed out and is not on record"
done < <(grep '^got ' "$work/worker.log")
good "No role is left in PostgreSQL, no lease is open in any server, and each credential it had is on record."
good "The journal is whole, as each of the three tells it: $(sed -n 's/.*root *//p' "$work/verify1" | head -n 1)"
printf '\n%sThat was all of it, in %s s.%s\n' "$bold" "$SECONDS" "$off"
