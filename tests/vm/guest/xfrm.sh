# shellcheck shell=dash disable=SC1091,SC2016,SC2034,SC2154
# Mode ip: the kernel's own ESP takes site b's place, with keys of the debug key log, and site a does not notice.
. /vm/say.sh
. /vm/sites.sh
. /vm/measure.sh

# A slot that no flow of site b has reached.
free_slot=900

# networks SIDE: a network for each family behind each gateway.
networks() {
    local mine peer
    mine=$(number_of "$1")
    peer=$((3 - mine))
    ip -n "gw-$1" -batch - <<END
addr add 10.78.$mine.254/24 dev plain
addr add fd78:0:0:$mine::fe/64 dev plain nodad
END
    ip -n "host-$1" -batch - <<END
addr add 10.78.$mine.1/24 dev eth0
addr add fd78:0:0:$mine::1/64 dev eth0 nodad
route add 10.78.$peer.0/24 via 10.78.$mine.254
route add fd78:0:0:$peer::/64 via fd78:0:0:$mine::fe
END
}

# until_replied TARGET: pings until one reply comes.
until_replied() {
    for _ in $(seq 30); do
        ! ip netns exec host-a /tools/ping -n -c 1 -W 1 "$1" >/dev/null 2>&1 || return 0
    done
    return 1
}

# forge SPI: a packet of site b that does not open; site a derives, and logs, its flow's key.
forge() {
    local octal
    octal=$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)))
    # shellcheck disable=SC2059 # the bytes are the format
    { printf "$octal\\000\\000\\000\\001" && head -c 40 /dev/zero; } |
        ip netns exec gw-b /tools/socat -u - UDP4-SENDTO:192.0.2.1:4500,bind=192.0.2.2
}

# association SRC DST SPI KEY OPTION...: a security association of the kernel in site b's place.
association() {
    local src=$1 dst=$2 spi=$3 key=$4
    shift 4
    ip -n gw-b xfrm state add src "$src" dst "$dst" proto esp spi "$spi" mode tunnel \
        aead 'rfc4106(gcm(aes))' "0x$key" 128 encap espinudp 4500 4500 0.0.0.0 \
        flag esn af-unspec replay-window 64 "$@"
}

# policies A B: from network A to B and back, both directions of one family, as site b sees them.
policies() {
    local out="src 192.0.2.2 dst 192.0.2.1 proto esp mode tunnel" in="src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel"
    ip -n gw-b -batch - <<END
xfrm policy add src $1 dst $2 dir fwd tmpl $in
xfrm policy add src $2 dst $1 dir out tmpl $out
END
}

# take_over: the kernel in place of site b's encryptor; true if it took all associations.
take_over() {
    local spi ours secret direction name key
    spi=$((($(status b | number epoch) << 26) | free_slot))
    ours=$(printf '0x%08x' $spi)
    stop_site b
    # A datagram of ESP is the kernel's once a socket says so (RFC 3948; 17, 100, 2: UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP).
    ip netns exec gw-b /tools/socat -u UDP4-RECV:4500,bind=192.0.2.2,setsockopt-listen=17:100:i2 /dev/null &
    sleep 1
    forge $spi
    for _ in $(seq 20); do
        secret=$(awk -v spi="$ours" '$1 == "rx" && $2 == spi { print $3 }' "$lab/keys-a")
        [ -z "$secret" ] || break
        sleep 0.2
    done
    [ -n "$secret" ] || { echo "site a did not log a key for $ours"; return 1; }
    # A receiver takes what is up to 2^32 less its window ahead: half way first.
    association 192.0.2.2 192.0.2.1 "$ours" "$secret" replay-oseq 0x80000000 || return 1
    while read -r direction name key; do
        [ "$direction" != tx ] || association 192.0.2.1 192.0.2.2 "$name" "$key" || return 1
    done <"$lab/keys-a"
    policies 10.78.1.0/24 10.78.2.0/24
    policies fd78:0:0:1::/64 fd78:0:0:2::/64
    ip -n gw-b route add 10.78.1.0/24 via 192.0.2.1
    # The outer header is IPv4: a route of the inner family is only needed for the policy to be looked at.
    ip -n gw-b route add fd78:0:0:1::/64 dev cipher
    ip netns exec gw-b dash -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    until_replied 10.78.2.1 || { echo "no ping crosses"; evidence; return 1; }
    # Then so far that the high half, which is not on the wire, changes under the pings that follow.
    ip -n gw-b xfrm state delete src 192.0.2.2 dst 192.0.2.1 proto esp spi "$ours"
    association 192.0.2.2 192.0.2.1 "$ours" "$secret" replay-oseq 0xffffffd0
}

# evidence: what the kernel counted, for a failure.
evidence() {
    ip netns exec gw-b dash -c 'grep -v "[[:space:]]0$" /proc/net/xfrm_stat; /tools/ip -s xfrm state' | grep -v aead | sed 's/^/vm: | /'
    status a | grep -o '"counters":{.*' | cut -c1-900 | sed 's/^/vm: | /'
}

stop_site a
stop_site b
networks a
networks b
top='mode = "ip"' cipher='iv = "any"
nat = true' rotate=10m hard_limit=20m key_log=1
if ! start_sites native-copy || ! until_replied 10.78.2.1 || ! until_replied fd78:0:0:2::1; then
    bad xfrm-associations "mode ip does not work between two sites of ours"
    site_logs
    exit
fi
if ! take_over >/tmp/take_over 2>&1; then
    bad xfrm-associations "the kernel did not take site b's place: $(tail -n 1 /tmp/take_over)"
    last_words /tmp/take_over
    exit
fi
ok xfrm-associations "AES-256-GCM with ESN, in UDP: $(ip -n gw-b xfrm state | grep -c '^src')"
opened=$(status a | number plain_out)
ping_check xfrm-ping 100 10.78.2.1
ping_check xfrm-ping6 100 fd78:0:0:2::1
why=$(pings 30 10.78.2.1 -s 1300)
[ -z "$why" ] || echo "vm: | of 1,300 bytes: $why"
opened=$(($(status a | number plain_out) - opened))
errors=$(ip netns exec gw-b awk '$2 > 0' /proc/net/xfrm_stat)
high=$(ip -n gw-b -s xfrm state | grep -o 'oseq-hi 0x[1-9a-f][0-9a-f]*' | head -n 1)
if [ "$opened" -eq 230 ] && [ -z "$errors$why" ] && [ -n "$high" ]; then
    ok xfrm-books "$opened packets opened by us, none refused by the kernel, past 2^32 ($high)"
else
    bad xfrm-books "$opened packets opened by us of 230; the kernel's errors: ${errors:-none}; ${high:-not past 2^32}"
    evidence
fi
stop_site a
