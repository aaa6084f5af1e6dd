#!/usr/bin/env python3
"""Makes the capture files beside this script, with Scapy (2.5 and later): `./make.py`. The same bytes each time."""

import struct
from pathlib import Path

from scapy.all import (ARP, Dot1AD, Dot1Q, Dot3, Ether, GRE, ICMP, IP, LLC, Padding, PPPoE, PPP, Raw, SCTP,
                       SCTPChunkData, SCTPChunkHeartbeatReq, SCTPChunkInit, SNAP, STP, TCP, UDP, fragment, raw)
from scapy.contrib.gtp import GTPEchoRequest, GTPPDUSessionContainer, GTP_U_Header
from scapy.contrib.lacp import LACP, SlowProtocol
from scapy.contrib.lldp import (LLDPDU, LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID, LLDPDUTimeToLive)
from scapy.contrib.mpls import MPLS
from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Jumbo)
from scapy.layers.ipsec import ESP
from scapy.layers.isakmp import ISAKMP

HERE = Path(__file__).parent
A, B = "02:00:5e:77:00:01", "02:00:5e:77:00:02"
ETH = Ether(src=A, dst=B)
V4 = IP(src="172.16.1.1", dst="172.16.2.2", id=7)
V6 = IPv6(src="2001:db8:1::1", dst="2001:db8:2::2")


def text(length):
    return Raw(bytes((7 * at + length) & 0xff for at in range(length)))


def gtp():
    user = IP(src="10.45.0.2", dst="10.46.0.2", id=9) / UDP(sport=40000, dport=443) / text(200)
    tunnel = ETH / V4 / UDP(sport=2152, dport=2152)
    for teid in (1, 0x1000, 0xffffffff):
        yield tunnel / GTP_U_Header(teid=teid) / user
        for qfi in (1, 9, 63):
            for kind in (0, 1):
                container = GTPPDUSessionContainer(type=kind, QFI=qfi)
                yield tunnel / GTP_U_Header(teid=teid, E=1, next_ex=0x85) / container / user
    yield tunnel / GTP_U_Header(teid=5, S=1, seq=77) / user
    yield tunnel / GTP_U_Header(teid=5, PN=1, npdu=3) / user
    yield tunnel / GTP_U_Header(teid=0, S=1, seq=1) / GTPEchoRequest()
    yield tunnel / GTP_U_Header(teid=0, S=1, gtp_type=26) / Raw(bytes.fromhex("1000000005850004ac100101"))
    yield tunnel / GTP_U_Header(teid=5, gtp_type=254)
    yield ETH / V6 / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=6) / user
    # A chain whose extension claims no length, and one that runs past the end.
    head = bytes.fromhex("34ff00080000000500000085")
    yield tunnel / Raw(head + bytes(4))
    yield tunnel / Raw(head + bytes.fromhex("ff0000c0"))


def signalling():
    for port in (36412, 38412, 36422, 38422, 2905, 3565, 14001):
        association = ETH / V4 / SCTP(sport=port, dport=port, tag=0x01020304)
        data = SCTPChunkData(tsn=9, stream_id=1, proto_id=60, beginning=1, ending=1, data=bytes(range(61)))
        yield association / data
        yield association / data / SCTPChunkHeartbeatReq() / data
    yield ETH / V4 / SCTP(sport=38412, dport=38412, tag=0) / SCTPChunkInit(init_tag=3)
    yield ETH / V6 / SCTP(sport=38412, dport=38412, tag=5) / SCTPChunkData(data=b"over IPv6")


def control():
    yield Ether(src=A, dst="01:80:c2:00:00:0e") / LLDPDU() / LLDPDUChassisID(subtype=4, id=bytes(6)) / LLDPDUPortID(
        subtype=5, id="eth0") / LLDPDUTimeToLive(ttl=120) / LLDPDUEndOfLLDPDU()
    yield Dot3(src=A, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP()
    yield Ether(src=A, dst="01:80:c2:00:00:02") / SlowProtocol() / LACP()
    yield Ether(src=A, dst="01:80:c2:00:00:02", type=0x8809) / Raw(bytes.fromhex("0a0019a700011000000001000402") + bytes(32))
    yield Ether(src=A, dst="01:80:c2:00:00:01", type=0x8808) / Raw(bytes.fromhex("0001ffff") + bytes(42))
    yield Ether(src=A, dst="01:1b:19:00:00:00", type=0x88f7) / Raw(bytes.fromhex("0002002c") + bytes(40))
    yield Ether(src=A, dst="01:80:c2:00:00:0e", type=0x88f7) / Raw(bytes.fromhex("1202003600") + bytes(49))
    yield Dot3(src=A, dst="01:00:0c:cc:cc:cc") / LLC() / SNAP(OUI=0x00000c, code=0x2000) / text(60)
    yield Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=A, psrc="172.16.1.1", pdst="172.16.2.2") / Padding(bytes(18))
    yield ETH / ARP(op=2, hwsrc=A, hwdst=B, psrc="172.16.1.1", pdst="172.16.2.2")
    yield Ether(src=A, dst="33:33:ff:00:00:02") / V6 / ICMPv6ND_NS(tgt="2001:db8:2::2")


def layers():
    inner = V4 / UDP(sport=5000, dport=9) / text(80)
    yield ETH / Dot1Q(vlan=100, prio=5) / inner
    yield ETH / Dot1Q(vlan=0, prio=7) / inner
    yield ETH / Dot1AD(vlan=7) / Dot1Q(vlan=100) / inner
    yield ETH / Dot1AD(vlan=7) / Dot1Q(vlan=8) / Dot1Q(vlan=9) / inner
    yield ETH / Dot1Q(vlan=7, type=0x9100) / Dot1Q(vlan=8) / inner
    yield ETH / MPLS(label=16, s=1, ttl=3) / inner
    yield ETH / MPLS(label=16, s=0) / MPLS(label=17, s=0) / MPLS(label=18, s=1) / inner
    yield ETH / MPLS(label=20, s=1) / Raw(bytes(4)) / Ether(src=B, dst=A) / inner
    yield ETH / PPPoE(sessionid=5) / PPP() / inner
    yield Ether(src=A, dst="ff:ff:ff:ff:ff:ff", type=0x8863) / Raw(bytes.fromhex("110900000004") + bytes.fromhex("01010000"))
    yield ETH / V4 / GRE() / inner
    yield ETH / V4 / UDP(sport=4500, dport=4500) / ESP(spi=0x1000, seq=1, data=bytes(range(48)))
    yield ETH / V4 / UDP(sport=500, dport=500) / ISAKMP(init_cookie=b"initiate", exch_type=34)
    yield ETH / V4 / UDP(sport=4789, dport=4789) / Raw(bytes.fromhex("0800000000000a00")) / Ether(src=B, dst=A) / inner


def packets():
    yield ETH / IP(src="172.16.1.1", dst="172.16.2.2", options=[(b"\x07\x07\x04" + bytes(4))]) / ICMP() / text(56)
    for piece in fragment(IP(src="172.16.1.1", dst="172.16.2.2", id=77) / UDP(sport=1, dport=2) / text(3000), 1400):
        yield ETH / piece
    yield ETH / IP(src="172.16.1.1", dst="172.16.2.2", chksum=0xdead) / TCP(sport=80, dport=81, flags="SA", seq=1)
    yield ETH / IP(src="172.16.1.1", dst="172.16.2.2", len=9999) / UDP(sport=1, dport=2) / text(20)
    yield ETH / IP(src="172.16.1.1", dst="172.16.2.2", len=3) / UDP(sport=1, dport=2) / text(20)
    yield ETH / IP(src="172.16.1.1", dst="172.16.2.2", ihl=15) / text(20)
    yield ETH / V6 / ICMPv6EchoRequest(data=bytes(56))
    yield ETH / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / text(30)
    yield ETH / V6 / IPv6ExtHdrFragment(id=5, m=1, nh=17) / UDP(sport=1, dport=2) / text(64)
    yield ETH / V6 / IPv6ExtHdrFragment(id=5, offset=9, nh=17) / text(60)
    yield ETH / IPv6(src="2001:db8:1::1", dst="2001:db8:2::2", plen=0) / IPv6ExtHdrHopByHop(
        options=Jumbo(jumboplen=100000)) / UDP(sport=1, dport=2) / text(90)
    for size in (46, 47, 100, 1499, 1500):
        yield ETH / V4 / UDP(sport=5, dport=size) / text(size - 28)


def classic(name, frames, order="<", magic=0xa1b2c3d4, snap=262144):
    """Classic pcap: two timestamps, the captured length, the length on the wire."""
    body = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, 1)
    for number, frame in enumerate(frames):
        body += struct.pack(order + "IIII", number, 5, min(len(frame), snap), len(frame)) + frame[:snap]
    (HERE / name).write_bytes(body)


def ng(name, frames, order="<"):
    """pcapng: one section, two interfaces, enhanced and simple packet blocks and one that nobody knows."""
    def block(kind, body):
        body += bytes(-len(body) % 4)
        length = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + length + body + length

    file = block(0x0a0d0d0a, struct.pack(order + "IHHq", 0x1a2b3c4d, 1, 0, -1))
    file += 2 * block(1, struct.pack(order + "HHI", 1, 0, 0))
    file += block(0x0bad, b"what is this?")
    for number, frame in enumerate(frames):
        if number % 3 == 2:
            file += block(3, struct.pack(order + "I", len(frame)) + frame)
        else:
            head = struct.pack(order + "IIIII", number % 2, 0, number, len(frame), len(frame))
            file += block(6, head + frame)
    (HERE / name).write_bytes(file)


def main():
    made = {part.__name__: [raw(frame) for frame in part()] for part in (gtp, signalling, control, layers, packets)}
    classic("gtp.pcap", made["gtp"])
    classic("signalling.pcap", made["signalling"], order=">")
    classic("packets.pcap", made["packets"], magic=0xa1b23c4d)
    classic("cut.pcap", made["packets"] + made["gtp"], snap=60)
    ng("control.pcapng", made["control"])
    ng("layers.pcapng", made["layers"], order=">")


if __name__ == "__main__":
    main()
