# shellcheck shell=dash disable=SC1091,SC2154
# Copy mode on veth, with a kernel of another age beneath.
. /vm/say.sh
. /vm/sites.sh
. /vm/measure.sh

namespaces
key_servers
ip -batch - <<END
link add cipher netns gw-a address 02:00:5e:99:00:01 mtu 1600 type veth peer cipher netns gw-b address 02:00:5e:99:00:02 mtu 1600
link add eth0 netns host-a address 02:00:5e:77:00:01 type veth peer plain netns gw-a
link add eth0 netns host-b address 02:00:5e:77:00:02 type veth peer plain netns gw-b
END
addresses a
addresses b
if ! start_sites auto; then
    bad lab-up "not active"
    site_logs
    exit
fi
ok lab-up "both sites active $(cut -d' ' -f1 /proc/uptime) s after the start of the kernel"

modes="$(status a | text mode) $(status b | text mode)"
if [ "$modes" = "native-copy native-copy" ]; then ok lab-mode "$modes"; else bad lab-mode "$modes"; fi

before=$(status a | number switches)
ping_check lab-ping 200 10.77.0.2
ping_check lab-ping6 50 fd77::2
ping_check lab-vlan 50 10.77.100.2
why=$(pings 50 10.77.0.2 -M "do" -s 1472)$(pings 50 10.77.0.2 -s 16)
if [ -z "$why" ]; then ok lab-sizes "1,500 and 44 bytes of IP"; else bad lab-sizes "$why"; fi
sleep 4
switches=$(($(status a | number switches) - before))
if [ "$switches" -ge 2 ]; then ok lab-rotation "$switches rotations"; else bad lab-rotation "$switches rotations"; fi
