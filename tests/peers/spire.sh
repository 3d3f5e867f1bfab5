#!/usr/bin/env bash
# SPIRE's command line against the admin socket of a running `errand dev`: each verb and flag that is served, and how the others
# are refused. Called by run.sh with the program as its argument and dev.env in the environment.
set -euo pipefail
program=$1
socket=$ERRAND_SERVER_SOCKET
td=$ERRAND_TRUST_DOMAIN
work=$(mktemp -d "${TMPDIR:-/tmp}/errand-spire.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

fail() { echo "spire-server: $*" >&2; exit 1; }
spire() { "$program" "$@" -socketPath "$socket"; }
# gives TEXT COMMAND…: it succeeds and says TEXT.
gives() {
  local text=$1 said
  shift
  said=$(spire "$@" 2>&1) || fail "\`$*\` failed: $said"
  grep -qF -- "$text" <<<"$said" || fail "\`$*\` does not say \`$text\`: $said"
}
# refuses TEXT COMMAND…: it fails and says TEXT.
refuses() {
  local text=$1 said
  shift
  if said=$(spire "$@" 2>&1); then fail "\`$*\` succeeded: $said"; fi
  grep -qF -- "$text" <<<"$said" || fail "\`$*\` does not say \`$text\`: $said"
}
held() { echo "spire-server: $*"; }

gives 'Server is healthy.' healthcheck
gives 'Checking server health' healthcheck -verbose -shallow
gives "spiffe://$td/spire/server" debug getinfo
refuses Unimplemented logger get
held 'healthcheck, debug getinfo'

gives '1 bundle' bundle count
spire bundle show >"$work/bundle.pem"
openssl x509 -in "$work/bundle.pem" -noout -subject >/dev/null || fail 'bundle show prints no certificate'
gives '"use": "x509-svid"' bundle show -format spiffe
gives '' bundle list
refuses NotFound bundle list -id spiffe://other.test
refuses Unimplemented bundle set -id spiffe://other.test -path "$work/bundle.pem"
refuses Unimplemented bundle delete -id spiffe://other.test -mode dissociate
held 'bundle show, count, list; set and delete are refused'

gives 'Token: ' token generate -ttl 60 -spiffeID "spiffe://$td/rack"
gives "spiffe://$td/rack" entry show -spiffeID "spiffe://$td/rack"
gives 'Missing SPIFFE ID' token generate
refuses InvalidArgument token generate -ttl 0
refuses InvalidArgument token generate -spiffeID spiffe://other.test/rack
held 'token generate, with and without a second name'

agent=$(spire agent list | sed -n 's/^SPIFFE ID *: //p')
gives '1 attested agent' agent count
gives 'Found 1 attested agent' agent list -attestationType join_token -banned false -canReattest false \
  -expiresBefore '2099-01-02 15:04:05 -0700 -07'
gives 'No attested agents' agent list -expiresBefore '2001-01-02 15:04:05 +0100 +01'
for how in exact any superset subset; do
  gives '0 attested agents' agent count -selector a:b -matchSelectorsOn "$how"
done
gives '0 attested agents' agent count -banned true
gives '0 attested agents' agent count -canReattest true
gives "$agent" agent show -spiffeID "$agent"
refuses InvalidArgument agent show -spiffeID "spiffe://$td/web"
refuses NotFound agent ban -spiffeID "spiffe://$td/spire/agent/none"
refuses NotFound agent evict -spiffeID "spiffe://$td/spire/agent/none"
gives 'No agents to purge' agent purge -expiredFor 1h -dryRun
held 'agent list, count, show, ban, evict, purge'

gives 'JwtSvidIncludeJti       : true' entry create -entryID web -parentID "$agent" -spiffeID "spiffe://$td/web" \
  -selector unix:uid:1 -selector unix:gid:2 -x509SVIDTTL 600 -jwtSVIDTTL 60 -admin -downstream -storeSVID -hint blue \
  -entryExpiry 4000000000 -dns a.test -dns b.test -disableX509SVIDPrefetch -jwtSVIDIncludeJTI
for line in 'Downstream              : true' 'X509-SVID TTL           : 600' 'JWT-SVID TTL            : 60' \
  'Selector                : unix:gid:2' 'Selector                : unix:uid:1' 'DNS name                : a.test' \
  'DNS name                : b.test' 'Admin                   : true' 'StoreSvid               : true' \
  'Hint                    : blue' 'DisableX509SvidPrefetch : true' 'Expiration time         : 2096-10-02'; do
  gives "$line" entry show -entryID web
done
gives "spiffe://$td/spire/server" entry create -node -entryID gpus -spiffeID "spiffe://$td/gpus" -selector rack:gpu
refuses 'similar entry already exists' entry create -parentID "$agent" -spiffeID "spiffe://$td/web" \
  -selector unix:gid:2 -selector unix:uid:1
refuses 'selectors of one type' entry create -parentID "$agent" -spiffeID "spiffe://$td/stored" -storeSVID \
  -selector unix:uid:1 -selector rack:gpu
refuses 'does not federate' entry create -parentID "$agent" -spiffeID "spiffe://$td/far" -selector unix:uid:1 \
  -federatesWith spiffe://other.test
refuses InvalidArgument entry create -parentID "$agent" -spiffeID spiffe://other.test/web -selector unix:uid:1
cat >"$work/entries.json" <<JSON
{"entries": [
  {"spiffe_id": "spiffe://$td/one", "parent_id": "$agent", "selectors": [{"type": "unix", "value": "uid:7"}]},
  {"spiffe_id": "spiffe://$td/two", "parent_id": "$agent", "selectors": [{"type": "unix", "value": "uid:8"}], "hint": "two"}
]}
JSON
gives "spiffe://$td/two" entry create -data "$work/entries.json"
gives 'Found 1 entry' entry show -hint two
gives 'Found 1 entry' entry show -parentID "spiffe://$td/spire/server"
gives 'Found 1 entry' entry show -downstream -spiffeID "spiffe://$td/web"
gives 'Found 0 entries' entry show -federatesWith other.test -matchFederatesWithOn any
# web has uid:1 and gid:2.
matches() { gives "$1 registration entr" entry count -downstream -matchSelectorsOn "$2" "${@:3}"; }
matches 1 superset -selector unix:uid:1
matches 0 superset -selector unix:uid:1 -selector unix:uid:9
matches 0 exact -selector unix:uid:1
matches 1 exact -selector unix:uid:1 -selector unix:gid:2
matches 0 subset -selector unix:uid:1
matches 1 subset -selector unix:uid:1 -selector unix:gid:2 -selector unix:uid:9
matches 1 any -selector unix:uid:1 -selector unix:uid:9
matches 0 any -selector unix:uid:9
gives 'Revision                : 2' entry update -entryID web -parentID "$agent" -spiffeID "spiffe://$td/web" \
  -selector unix:uid:3 -hint green
gives 'Found 1 entry' entry show -hint green -selector unix:uid:3
refuses AlreadyExists entry update -entryID web -parentID "$agent" -spiffeID "spiffe://$td/one" -selector unix:uid:7
refuses NotFound entry update -entryID none -parentID "$agent" -spiffeID "spiffe://$td/web" -selector unix:uid:3
gives 'Deleted 1 entries successfully' entry delete -entryID web
refuses NotFound entry delete -entryID web
refuses NotFound entry show -entryID web
held 'entry create, show, count, update, delete, with every flag'

# More entries than one page of `entry show`.
for n in $(seq 1100); do
  printf '{"spiffe_id": "spiffe://%s/many/%s", "parent_id": "%s", "selectors": [{"type": "unix", "value": "uid:5"}]}\n' "$td" "$n" "$agent"
done | sed '1s/^/{"entries": [/; $!s/$/,/; $s/$/]}/' >"$work/many.json"
refuses '1 to 1000' entry create -data "$work/many.json"
sed -i '2,201d' "$work/many.json"
spire entry create -data "$work/many.json" >/dev/null
gives 'Found 900 entries' entry show -selector unix:uid:5 -matchSelectorsOn exact
held 'entry show over several pages'

spire x509 mint -spiffeID "spiffe://$td/minted" -ttl 5m -dns minted.test -write "$work" >/dev/null 2>&1
openssl verify -partial_chain -CAfile "$work/bundle.pem" "$work/svid.pem" >/dev/null || fail 'the minted certificate does not verify'
openssl x509 -in "$work/svid.pem" -noout -ext subjectAltName | grep -qF "URI:spiffe://$td/minted" || fail 'it is not the one asked for'
openssl x509 -in "$work/svid.pem" -noout -ext subjectAltName | grep -qF 'DNS:minted.test' || fail 'it lacks its DNS name'
openssl pkey -in "$work/key.pem" -noout || fail 'the key cannot be read'
refuses InvalidArgument x509 mint -spiffeID "spiffe://$td/spire/server"
spire jwt mint -spiffeID "spiffe://$td/minted" -audience a.test -audience b.test -ttl 1m -write "$work/token" >/dev/null 2>&1
[ "$(tr -cd . <"$work/token")" = .. ] || fail 'jwt mint writes no token'
refuses InvalidArgument jwt mint -spiffeID spiffe://other.test/minted -audience a.test
held 'x509 mint, jwt mint'

gives 'Agent banned successfully' agent ban -spiffeID "$agent"
gives 'Banned            : true' agent show -spiffeID "$agent"
gives '1 attested agent' agent count -banned true
gives 'Agent evicted successfully' agent evict -spiffeID "$agent"
gives 'No attested agents' agent list
held 'a ban, and an eviction'
