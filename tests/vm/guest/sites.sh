# shellcheck shell=dash disable=SC1091,SC2016,SC2154
# Two sites with a host and a key server each, in four namespaces: host-a, gw-a, gw-b, host-b. Source it after say.sh.
#
# As few processes as can be: under emulation each costs what a thousand packets do.

lab=/run/vm

# namespaces: makes them, and the management cable. A gateway's kernel answers no ARP for another port.
namespaces() {
    ip -batch - <<END
netns add host-a
netns add host-b
netns add gw-a
netns add gw-b
link add mgmt netns gw-a type veth peer mgmt netns gw-b
END
    for side in a b; do
        number=$(number_of $side)
        ip -n gw-$side -batch - <<END
link set lo up
addr add 10.88.0.$number/24 dev mgmt
link set mgmt up
END
        ip netns exec gw-$side dash -c 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore'
    done
}

# number_of SIDE: 1 for a, 2 for b: the last digit of each address.
number_of() { [ "$1" = a ] && echo 1 || echo 2; }

# addresses SIDE: of the host and the cipher port, once the interfaces eth0, plain and cipher are in place.
addresses() {
    local number
    number=$(number_of "$1")
    # A bump in the wire shows the frames as they are on the wire: whole, with their checksums.
    for port in "host-$1 eth0" "gw-$1 plain" "gw-$1 cipher"; do
        # shellcheck disable=SC2086 # namespace and interface
        set -- "$1" $port
        ip netns exec "$2" ethtool -K "$3" gso off tso off gro off tx off >/dev/null 2>&1
    done
    ip -n "host-$1" -batch - <<END
link set lo up
link set eth0 up
addr add 10.77.0.$number/24 dev eth0
addr add fd77::$number/64 dev eth0 nodad
link add link eth0 name eth0.100 type vlan id 100
addr add 10.77.100.$number/24 dev eth0.100
link set eth0.100 up
END
    ip -n "gw-$1" -batch - <<END
addr add 192.0.2.$number/24 dev cipher
link set plain up
link set cipher up
END
}

# site_file SIDE MODE: the site's configuration; waits are long, because time is short under emulation. The variables `top` and
# `cipher` are further lines of these sections, `rotate` is the period of rotations.
site_file() {
    local peer number
    number=$(number_of "$1")
    [ "$1" = a ] && peer=b || peer=a
    cat >"$lab/site-$1.toml" <<END
link = "vm"
$top
[site]
sae = "sae-$1"
peer_sae = "sae-$peer"
control = "$1.sock"
[plain]
interface = "plain"
[cipher]
interface = "cipher"
address = "192.0.2.$number"
peer = "192.0.2.$((3 - number))"
$cipher
[channel]
ca = "channel-ca.pem"
cert = "channel-$1.pem"
key = "channel-$1.key"
[kme]
url = "https://10.88.0.$number:8443"
name = "kme-$1"
ca = "kme-ca.pem"
cert = "sae-$1.pem"
key = "sae-$1.key"
timeout = "20s"
startup = "60s"
[keys]
rotate = "${rotate:-2s}"
grace = "2s"
hard_limit = "${hard_limit:-300s}"
pool = 4
[worker]
core = $((number - 1))
mode = "$2"
flows = 1024
ring = 2048
END
}

# key_servers: certificates, and both key servers.
key_servers() {
    mkdir -p "$lab"
    qhaul pki --dir "$lab" >/dev/null
    for side in a b; do
        number=$(number_of $side)
        [ $side = a ] && peer=b || peer=a
        cat >"$lab/kme-$side.toml" <<END
[kme]
id = "kme-$side"
listen = "10.88.0.$number:8443"
[tls]
ca = "kme-ca.pem"
cert = "kme-$side.pem"
key = "kme-$side.key"
[sae]
id = "sae-$side"
[peer]
kme_id = "kme-$peer"
sae_id = "sae-$peer"
listen = "10.88.0.$number:8444"
address = "10.88.0.$((3 - number)):8444"
[keys]
END
        ip netns exec gw-$side qhaul-kme --config "$lab/kme-$side.toml" >"$lab/kme-$side.log" 2>&1 &
    done
}

# start_site SIDE MODE: an encryptor. With `key_log` set, it logs flow keys.
start_site() {
    site_file "$1" "$2"
    # shellcheck disable=SC2086 # options
    ip netns exec "gw-$1" qhaul run --config "$lab/site-$1.toml" ${key_log:+--debug --debug-key-log "$lab/keys-$1"} \
        >"$lab/qhaul-$1.log" 2>&1 &
    echo $! >"$lab/qhaul-$1.pid"
}

# start_sites MODE: both; true if both are active in time.
start_sites() {
    start_site a "$1"
    start_site b "$1"
    for _ in $(seq 120); do
        [ "$(status a | text state) $(status b | text state)" != "active active" ] || return 0
        kill -0 "$(cat "$lab/qhaul-a.pid")" "$(cat "$lab/qhaul-b.pid")" 2>/dev/null || return 1
        sleep 0.5
    done
    return 1
}

# stop_site SIDE: asks an encryptor to end, and waits until it is gone.
stop_site() {
    kill "$(cat "$lab/qhaul-$1.pid")" 2>/dev/null
    for _ in $(seq 100); do
        kill -0 "$(cat "$lab/qhaul-$1.pid")" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "vm: encryptor $1 does not stop"
}

# site_logs: the end of what each said.
site_logs() {
    for log in "$lab"/*.log; do
        echo "vm: | $log"
        last_words "$log"
    done
}

# status SIDE: the JSON of a site. The control socket is a file, and needs no namespace.
status() { qhaul status --config "$lab/site-$1.toml" --json 2>/dev/null; }

# text NAME, number NAME: the first field of this name in a status on standard input.
text() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4; }
number() { grep -o "\"$1\":[0-9]*" | head -n 1 | cut -d: -f2; }
