# shellcheck shell=dash
# Traffic that counts itself. Source it after say.sh.

# pings COUNT TARGET OPTION...: host a pings; each reply must come, once, in order, with the bytes that were sent. Prints what
# is wrong.
pings() {
    local count=$1 target=$2
    shift 2
    # Of a byte that differs from the pattern in a reply, ping tells.
    ip netns exec host-a /bin/timeout 90 /tools/ping -n -c "$count" -i 0.02 -W 5 -p 716861756c "$@" "$target" >/tmp/ping.log 2>&1
    awk -v want="$count" '
        /icmp_seq=/ {
            match($0, /icmp_seq=[0-9]+/)
            seq = substr($0, RSTART + 9, RLENGTH - 9) + 0
            if (seq != last + 1 && !odd) odd = "reply " seq " follows " last
            last = seq; replies++
        }
        /DUP!|wrong data/ && !odd { odd = $0 }
        END { if (replies != want) print replies + 0 " replies of " want; else if (odd) print odd }' /tmp/ping.log
}

# ping_check NAME COUNT TARGET OPTION...
ping_check() {
    local name=$1 why
    shift
    why=$(pings "$@")
    if [ -z "$why" ]; then
        ok "$name" "$1 of $1 replies in order"
    else
        bad "$name" "$why"
        last_words /tmp/ping.log
    fi
}
