# What the examples have in common: how they speak, a private PostgreSQL, a build of errand. Sourced, not run: the caller has
# set `here`, its own folder, and `work`, a folder that it removes at the end.

# === What is printed ===

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' off=$'\e[0m'
else
  bold='' dim='' green='' off=''
fi
chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
tell()    { printf '  %s\n' "$*"; }
typed()   { printf '  %s$ %s%s\n' "$dim" "$*" "$off"; }
good()    { printf '  %s✓%s %s\n' "$green" "$off" "$*"; }
quote()   { sed -e 's/^/    /' <<<"$1"; }

fail() {
  printf '\nThis should not have happened: %s\n' "$*" >&2
  local log
  for log in "$work"/*.log "$work"/pg/server.log; do
    if [ -s "$log" ]; then printf '%s\n' "-- the end of $log" >&2; tail -n 8 "$log" >&2; fi
  done
  exit 1
}

gone() { # PID SECONDS: waits for a child to end
  local until=$((SECONDS + $2))
  while kill -0 "$1" 2>/dev/null; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 0.05
  done
}

# === PostgreSQL: a private one, of the user postgres when we are root, for it refuses to run as root ===

find_postgres() {
  local dir found=
  for dir in "${ERRAND_TEST_POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin "$(pg_config --bindir 2>/dev/null || true)"; do
    [ -n "$dir" ] && [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
    [ -n "$found" ] && [ "$(printf '%s\n' "$found" "$dir" | sort -V | tail -n 1)" = "$found" ] || found=$dir
    [ "$dir" != "${ERRAND_TEST_POSTGRES_BIN:-}" ] || break
  done
  [ -n "$found" ] || fail "no PostgreSQL server is installed; \`make deps\` installs one"
  printf '%s' "$found"
}

pg() { # a PostgreSQL program, as the user that may run it
  local program=$1
  shift
  if [ "$(id -u)" != 0 ]; then
    "$pg_bin/$program" "$@"
  elif command -v runuser >/dev/null; then
    (cd / && runuser -u postgres -- "$pg_bin/$program" "$@")
  else
    (cd / && setpriv --reuid=postgres --regid=postgres --init-groups -- "$pg_bin/$program" "$@")
  fi
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s' "$port"
}

start_postgres() {
  mkdir -m 700 "$work/pg"
  if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || fail "there is no user postgres to run PostgreSQL as; \`make deps\` installs it"
    chown postgres: "$work/pg"
  fi
  pg initdb -D "$work/pg/data" -U postgres --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --no-sync >"$work/initdb.log" 2>&1 ||
    fail "initdb: $(tail -n 3 "$work/initdb.log")"
  local try
  for try in 1 2 3 4 5; do
    port=$(free_port)
    if pg pg_ctl -D "$work/pg/data" -l "$work/pg/server.log" -w -t 60 \
      -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/pg -c fsync=off -c log_line_prefix='%u ' -c max_connections=120" \
      start >/dev/null 2>&1; then return; fi
  done
  fail "PostgreSQL does not start"
}

# The superuser, through the private socket. Not what any workload has.
root_sql() { "$pg_bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$work/pg" -p "$port" -U postgres -d "${2:-orders}" -c "$1"; }
roles()    { root_sql "SELECT rolname FROM pg_roles WHERE rolname LIKE 'errand\_%\_%'"; }

# === Errand ===

build() {
  if [ -n "${ERRAND_BIN:-}" ]; then
    [ -x "$ERRAND_BIN" ] || fail "ERRAND_BIN=$ERRAND_BIN is not a program"
    mkdir "$work/bin" && ln -s "$(readlink -f -- "$ERRAND_BIN")" "$work/bin/errand"
    return
  fi
  command -v cargo >/dev/null || fail "cargo is not installed; see https://rustup.rs"
  local root=$here/../.. crates last=
  tell "Building errand (several minutes the first time, then seconds) …"
  (cd "$root" && CARGO_TERM_PROGRESS_WHEN=never CARGO_TERM_COLOR=never \
    cargo build --locked -p cli --message-format=json-render-diagnostics >"$work/build.json" 2>"$work/build.log") &
  local cargo=$!
  while kill -0 "$cargo" 2>/dev/null; do
    crates=$(grep -c '^ *Compiling' "$work/build.log" || true)
    if [ "$crates" != "$last" ] && [ -t 1 ]; then printf '\r    %s crates ' "$crates"; last=$crates; fi
    sleep 0.2
  done
  if [ -n "$last" ]; then printf '\r                  \r'; fi
  wait "$cargo" || { tail -n 30 "$work/build.log" >&2; fail "the build failed"; }
  local made
  made=$(sed -n 's/.*"executable":"\([^"]*\/errand\)".*/\1/p' "$work/build.json" | tail -n 1)
  [ -x "$made" ] || fail "the build made no program"
  mkdir "$work/bin" && ln -s "$made" "$work/bin/errand"
}

ms() { local now=${EPOCHREALTIME/./} then=${1/./}; printf '%s' $(((now - then) / 1000)); }

# Waits until a condition holds: a command that succeeds.
eventually() { # SECONDS WHAT COMMAND…
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "$what, even after a while"
    sleep 0.02
  done
}
