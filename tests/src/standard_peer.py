"""A standard ESP peer: seals UDP datagrams in IPv4 and IPv6 with Scapy, under a key that it is given, with arbitrary IVs.

usage: standard_peer.py JSON        prints one Ethernet frame per packet, in hexadecimal

JSON: spi, secret (key and salt, hexadecimal), sequences (64-bit), outer and port (the UDP source port), and for each version of
inner packets, in turn, source and destination.
"""

import json
import logging
import random
import sys

logging.getLogger("scapy").setLevel(logging.CRITICAL)

from scapy.compat import raw
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether


def inner(peer, sequence):
    """A datagram that carries its sequence number."""
    turn = peer["inner"][sequence % len(peer["inner"])]
    layer = IPv6(src=turn[0], dst=turn[1], hlim=9) if ":" in turn[0] else IP(src=turn[0], dst=turn[1], ttl=9)
    return layer / UDP(sport=4000, dport=7001) / sequence.to_bytes(8, "big")


def main():
    peer = json.loads(sys.argv[1])
    source, destination = peer["outer"]
    chance = random.Random(4303)
    for sequence in peer["sequences"]:
        association = SecurityAssociation(
            ESP,
            spi=peer["spi"],
            crypt_algo="AES-GCM",
            crypt_key=bytes.fromhex(peer["secret"]),
            tunnel_header=IP(src=source, dst=destination),
            esn_en=True,
            esn=sequence >> 32,
        )
        packet = inner(peer, sequence)
        sealed = association.encrypt(packet, seq_num=sequence & 0xFFFFFFFF, iv=chance.randbytes(8))
        # In UDP by hand (RFC 3948): Scapy 2.5 leaves a wrong length in the header that it makes itself.
        outer = IP(src=source, dst=destination, flags="DF") / UDP(sport=peer["port"], dport=4500, chksum=0)
        print(raw(Ether(src=peer["macs"][0], dst=peer["macs"][1]) / outer / raw(sealed[ESP])).hex())


main()
