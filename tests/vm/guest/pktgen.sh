# shellcheck shell=dash disable=SC1091,SC2016,SC2154
# The kernel's own generator drives the plain port of a; host b counts UDP for a port where nobody listens.
. /vm/say.sh
. /vm/sites.sh

# No more than a ring holds: a worker that the emulation starves for a while must not lose any.
count=2000 rate=1000

sunk() { ip netns exec host-b awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp; }

# generate: 32 flows, told apart by their source ports.
generate() {
    ip netns exec host-a dash -e <<END
echo rem_device_all >/proc/net/pktgen/kpktgend_0
echo add_device eth0 >/proc/net/pktgen/kpktgend_0
for line in "count $count" "ratep $rate" "pkt_size 300" "dst 10.77.0.2" "src_min 10.77.0.1" "src_max 10.77.0.1" \
    "dst_mac 02:00:5e:77:00:02" "udp_dst_min 9" "udp_dst_max 9" "udp_src_min 5000" "udp_src_max 5031"; do
    echo "\$line" >/proc/net/pktgen/eth0
done
echo start >/proc/net/pktgen/pgctrl
grep pkts-sofar /proc/net/pktgen/eth0
echo rem_device_all >/proc/net/pktgen/kpktgend_0
END
}

before=$(sunk)
said=$(generate 2>&1 | tail -n 1)
sent=$(echo "$said" | sed -n 's/.*pkts-sofar: \([0-9]*\).*/\1/p')
for _ in 1 2 3 4 5; do
    arrived=$(($(sunk) - before))
    [ "$arrived" -lt "${sent:-0}" ] || break
    sleep 1
done
if [ "${sent:-0}" -eq "$count" ] && [ "$arrived" -eq "$count" ]; then
    ok pktgen-count "$sent sent at $rate/s, $arrived arrived"
else
    bad pktgen-count "${sent:-none} sent of $count, $arrived arrived ($said)"
    status a | tr ',' '\n' | sed 's/^/vm: | a /'
    status b | tr ',' '\n' | sed 's/^/vm: | b /'
fi
