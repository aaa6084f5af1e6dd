# shellcheck shell=dash disable=SC1091,SC2016,SC2154
# The lab's two sites on virtio cards in place of its veths: a driver with rings of its own, in copy mode, and in zero-copy
# where the kernel has it.
. /vm/say.sh
. /vm/sites.sh
. /vm/measure.sh

# card MAC NAMESPACE NAME MTU: moves the card of this address to where it serves.
card() {
    local found
    found=$(grep -l "$1" /sys/class/net/*/address | head -n 1)
    found=$(basename "$(dirname "$found")")
    ip link set "$found" netns "$2" name "$3"
    ip -n "$2" link set "$3" mtu "$4" up
}

# on_cards CHECK MODE LIVE: starts the sites in a mode; what is live must be LIVE, and frames must cross.
on_cards() {
    local modes why
    if ! start_sites "$2"; then
        bad "$1" "not active in mode $2"
        site_logs
    else
        modes="$(status a | text mode) $(status b | text mode)"
        why=$(pings 200 10.77.0.2)$(pings 50 10.77.0.2 -s 1472)
        [ "$modes" = "$3 $3" ] || why="live is $modes, not $3; $why"
        if [ -z "$why" ]; then
            ok "$1" "live $modes; 250 pings, none lost, in order"
        else
            bad "$1" "$why"
            last_words /tmp/ping.log
            site_logs
        fi
    fi
    stop_site a
    stop_site b
}

stop_site a
stop_site b
for side in a b; do
    number=$(number_of $side)
    ip -n gw-$side link del plain
    [ $side = b ] || ip -n gw-a link del cipher
    card "02:00:5e:77:00:0$number" host-$side eth0 1500
    card "02:00:5e:aa:00:0$number" gw-$side plain 1500
    card "02:00:5e:99:00:0$number" gw-$side cipher 1600
    addresses $side
done

on_cards virtio-copy native-copy native-copy
if [ "$label" = newest ]; then
    on_cards virtio-zero-copy zero-copy zero-copy
    on_cards virtio-auto auto zero-copy
else
    on_cards virtio-auto auto native-copy
fi
