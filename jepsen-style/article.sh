#!/usr/bin/env bash
# The articles' failure, step by step, with nothing but `ip`, `iptables` and `mcpctl`: three control
# planes in three clouds, a configuration that spans them, one cut off at the peer port, five minutes
# of watching, and the reunion. Needs root. Everything it makes is gone afterwards.
#
#   sudo jepsen-style/article.sh [SECONDS-TO-WATCH]      # docs/reproduction.md shows what it prints
set -euo pipefail

WATCH_S=${1:-300}
PORT=7400
MCPCTL=${MCPCTL:-mcpctl}
RUN=article-$$          # names of namespaces carry our process id
DIR=$(mktemp -d)
declare -A HOST=([us-east-1]=10.0.1.10 [hangzhou]=10.0.2.10 [edge]=10.0.3.10)
NODES=(us-east-1 hangzhou edge)

at() { local place=$1; shift; ip netns exec "$RUN-$place" "$@"; }
say() { printf '\n# %s\n' "$*"; }
show() {
  local place=$1; shift
  printf '%s$ %s\n' "$place" "${*/#"$MCPCTL"/mcpctl}"
  at "$place" env MCPCTL_CERTS="$DIR/certs" COLUMNS=118 "$@" 2>&1 | sed 's/ *$//' || true
}
end() { # a run's namespaces, and what lives in them
  ip netns list | awk -v run="$1-" 'index($1, run) == 1 {print $1}' | while read -r name; do
    ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null || true
    ip netns del "$name"
  done
}

tidy() {
  trap - EXIT INT TERM
  end "$RUN"
  rm -rf "$DIR"
}
trap tidy EXIT
trap 'exit 130' INT TERM
for tool in ip iptables "$MCPCTL"; do command -v "$tool" >/dev/null || { echo "article.sh: $tool is missing" >&2; exit 2; }; done
[ "$(id -u)" = 0 ] || { echo "article.sh: namespaces need root" >&2; exit 2; }

# What a killed run left behind: its namespaces carry the id of a process that is gone.
for old in $(ip netns list | sed -n 's/^\(article-[0-9]*\)-.*/\1/p' | sort -u); do
  kill -0 "${old#article-}" 2>/dev/null || end "$old"
done

say "1. Three control planes, each in a network of its own, joined by a bridge"
ip netns add "$RUN-hub"
ip -n "$RUN-hub" link add br0 type bridge
ip -n "$RUN-hub" link set br0 up
for place in "${NODES[@]}"; do
  ip netns add "$RUN-$place"
  ip -n "$RUN-hub" link add "v-$place" type veth peer name eth0 netns "$RUN-$place"
  ip -n "$RUN-hub" link set "v-$place" master br0 up
  ip -n "$RUN-$place" addr add "${HOST[$place]}/16" dev eth0
  ip -n "$RUN-$place" link set eth0 up
  ip -n "$RUN-$place" link set lo up
done

cd "$DIR"
hosts=()
for place in "${NODES[@]}"; do hosts+=(--node "$place=${HOST[$place]}"); done
"$MCPCTL" certs init certs --cluster mcp "${hosts[@]}" --client app --admin ops >/dev/null
for place in "${NODES[@]}"; do
  cat >"$place.toml" <<TOML
cluster = "mcp"
node = "$place"
listen = "${HOST[$place]}:$PORT"
data = "data/$place"
bootstrap = true
zone = "$place"
[peers]
us-east-1 = "${HOST[us-east-1]}:$PORT"
hangzhou = "${HOST[hangzhou]}:$PORT"
edge = "${HOST[edge]}:$PORT"
[tls]
ca = "certs/ca.crt"
certificate = "certs/node-$place.crt"
key = "certs/node-$place.key"
[groups.main]
voters = ["us-east-1", "hangzhou", "edge"]
machine = "kv"
election_timeout_s = 5
heartbeat_s = 1
TOML
  at "$place" "$MCPCTL" serve "$place.toml" >"$place.log" 2>&1 &
done

ALL=${HOST[us-east-1]}:$PORT,${HOST[hangzhou]}:$PORT,${HOST[edge]}:$PORT
ask() { at "$1" env MCPCTL_CERTS="$DIR/certs" "$MCPCTL" "${@:2}"; }
until ask us-east-1 put ready yes --as app --endpoints "$ALL" >/dev/null 2>&1; do sleep 0.5; done
show us-east-1 "$MCPCTL" status --as ops --endpoints "$ALL"

say "2. A configuration that spans the clouds"
cat >mesh.yaml <<'YAML'
kind: ServiceMeshRoute
service: payments
routes:
  - {from: us-east-1, to: hangzhou, weight: 60}
  - {from: us-east-1, to: edge, weight: 40}
YAML
show us-east-1 "$MCPCTL" put mesh/payments - --as app --endpoints "$ALL" <mesh.yaml

cut=$(ask us-east-1 status --as ops --endpoints "$ALL" -o json | grep -o '"leader": *"[^"]*"' | head -1 | cut -d'"' -f4)
left=(); for place in "${NODES[@]}"; do [ "$place" = "$cut" ] || left+=("$place"); done
TWO=${HOST[${left[0]}]}:$PORT,${HOST[${left[1]}]}:$PORT

say "3. $cut, which leads, is cut off at the peer port"
for side in d s; do
  printf '%s$ iptables -A INPUT ! -i lo -p tcp --%sport %s -j DROP\n' "$cut" "$side" "$PORT"
  at "$cut" iptables -A INPUT ! -i lo -p tcp "--${side}port" "$PORT" -j DROP
done
began=$SECONDS

say "4. Watching for $WATCH_S seconds; a client writes on the majority's side meanwhile"
written=0
next=15
while [ $((SECONDS - began)) -lt "$WATCH_S" ]; do
  if ask "${left[0]}" put "load/$written" x --as app --endpoints "$TWO" >/dev/null 2>&1; then
    [ $written -gt 0 ] || say "after $((SECONDS - began)) s: the first write is acknowledged on the majority's side"
    written=$((written + 1))
  fi
  sleep 0.3
  if [ $((SECONDS - began)) -ge $next ]; then
    say "after $((SECONDS - began)) s, $written writes acknowledged on the majority's side"
    show "${left[0]}" "$MCPCTL" status --as ops --endpoints "$TWO"
    show "$cut" "$MCPCTL" status --as ops --endpoints "${HOST[$cut]}:$PORT"
    next=$((next * 4))
  fi
done
say "What the side that is cut off says to a client beside it"
show "$cut" "$MCPCTL" put mesh/payments stolen --as app --endpoints "${HOST[$cut]}:$PORT" --timeout 5
show "$cut" "$MCPCTL" get mesh/payments --consistency stale --as app --endpoints "${HOST[$cut]}:$PORT"
show "$cut" iptables -nvxL INPUT

say "5. The link is mended"
at "$cut" iptables -F INPUT
mended=$(date +%s%N)
until [ "$(ask "$cut" get "load/$((written - 1))" --consistency stale --as app --endpoints "${HOST[$cut]}:$PORT" 2>/dev/null)" = x ]; do sleep 0.2; done
caught_up=$(date +%s%N)
say "$cut had all $written writes again after $(((caught_up - mended) / 1000000)) ms"
show "$cut" "$MCPCTL" status --as ops --endpoints "$ALL"
say "What $cut wrote into its log about it"
grep "main" "$cut.log" | grep -v "has been silent" | sed 's/^/  /'
