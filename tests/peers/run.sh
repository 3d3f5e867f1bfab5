#!/usr/bin/env bash
# Other people's SPIFFE clients against a running `errand dev`: go-spiffe, py-spiffe, and SPIRE's command line. Outside of
# `make test`, since all are fetched from the network the first time.
#
#   ERRAND_BIN=/path/to/errand   use this binary instead of building one
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
work=$(mktemp -d /tmp/errand-peers.XXXXXX)
server=
watcher=
clean_up() {
  local status=$?
  trap - EXIT
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -rf -- "$work"
  exit "$status"
}
trap clean_up EXIT

errand=${ERRAND_BIN:-}
if [ -z "$errand" ]; then
  (cd "$here/../.." && cargo build --locked --quiet -p cli --message-format=json-render-diagnostics) >"$work/build.json"
  errand=$(sed -n 's/.*"executable":"\([^"]*\/errand\)".*/\1/p' "$work/build.json" | tail -n 1)
fi

export XDG_STATE_HOME=$work/state
: >"$work/dev.log"
"$errand" dev --data-dir "$work/dev" --http 127.0.0.1:0 >"$work/dev.log" 2>&1 &
server=$!
for _ in $(seq 300); do
  if grep -q '^ready' "$work/dev.log"; then break; fi
  kill -0 "$server" 2>/dev/null || { cat "$work/dev.log" >&2; exit 1; }
  sleep 0.1
done
# shellcheck source=/dev/null
. "$work/dev/dev.env"

tried=0
if command -v go >/dev/null; then
  (cd "$here/go" && go build -o "$work/peer" .)
  "$errand" bundle show --format spiffe >"$work/bundle.json"
  PEERS_BUNDLE=$work/bundle.json "$work/peer"
  : >"$work/watch.log"
  "$work/peer" watch >"$work/watch.log" &
  watcher=$!
  for _ in $(seq 100); do
    if grep -q watching "$work/watch.log"; then break; fi
    sleep 0.1
  done
  "$errand" entry create --spiffe-id "spiffe://$ERRAND_TRUST_DOMAIN/late" --selector "unix:uid:$(id -u)" >/dev/null
  wait "$watcher"
  watcher=
  cat "$work/watch.log"
  tried=$((tried + 1))
else
  echo "peers: Go is not installed: go-spiffe is left out" >&2
fi

if python3 -c 'import venv, ensurepip' 2>/dev/null; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"
  "$work/venv/bin/python" "$here/python/peer.py"
  tried=$((tried + 1))
else
  echo "peers: python3 with venv is not installed: py-spiffe is left out" >&2
fi

# Last: it bans the agent that the others need.
if command -v go >/dev/null; then
  (cd "$here/spire" && go build -o "$work/spire-server" .)
  "$here/spire.sh" "$work/spire-server"
  tried=$((tried + 1))
fi

[ "$tried" -gt 0 ] || { echo "peers: nothing was tried" >&2; exit 1; }
echo "peers: all of it held"
