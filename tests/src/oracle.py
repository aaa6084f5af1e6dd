"""Opens the ESP packets (in UDP or bare, over IPv4 or IPv6) of a capture with keys of a key log, with Scapy and from scratch (RFC 4303, RFC 4106), and compares.

usage: oracle.py PCAP KEYLOG        prints one JSON object per ESP packet, exits with 1 if one does not open
"""

import json
import logging
import socket
import struct
import sys

logging.getLogger("scapy").setLevel(logging.CRITICAL)

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.compat import raw
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.utils import RawPcapReader


def read_keys(path):
    """SPI to all keys that it ever had: epoch numbers come round."""
    keys = {}
    for line in open(path):
        direction, spi, secret = line.split()
        if direction == "tx":
            keys.setdefault(int(spi, 16), []).append(bytes.fromhex(secret))
    return keys


def esp_of(frame):
    """Outer IP header and ESP packet of a frame, or None."""
    if frame[12:14] == b"\x08\x00" and frame[14] == 0x45:
        length = struct.unpack("!H", frame[16:18])[0]
        source, destination = (socket.inet_ntop(socket.AF_INET, frame[at : at + 4]) for at in (26, 30))
        outer, protocol, payload = IP(src=source, dst=destination, proto=50), frame[23], frame[34 : 14 + length]
    elif frame[12:14] == b"\x86\xdd":
        length = struct.unpack("!H", frame[18:20])[0]
        source, destination = (socket.inet_ntop(socket.AF_INET6, frame[at : at + 16]) for at in (22, 38))
        outer, protocol, payload = IPv6(src=source, dst=destination, nh=50), frame[20], frame[54 : 54 + length]
    else:
        return None
    if protocol == 50:
        return outer, payload
    return (outer, payload[8:]) if protocol == 17 and payload[2:4] == b"\x11\x94" else None


def open_by_rfc(esp, secret):
    """RFC 4106: nonce is salt and IV, AAD is SPI and 64-bit sequence number; RFC 4303: the trailer."""
    spi, low = struct.unpack("!II", esp[:8])
    iv = esp[8:16]
    high = struct.unpack("!I", iv[:4])[0]
    aad = struct.pack("!III", spi, high, low)
    text = AESGCM(secret[:32]).decrypt(secret[32:] + iv, esp[16:], aad)
    padding, next_header = text[-2], text[-1]
    payload = text[: len(text) - 2 - padding]
    assert text[len(payload) : -2] == bytes(range(1, padding + 1)), "padding against RFC 4303 section 2.4"
    assert struct.unpack("!I", iv[4:])[0] == low, "the IV's low half is not the sequence number"
    return payload, padding, next_header


def open_by_scapy(outer, esp, secret):
    """Scapy returns the payload of a tunnel as whatever its next header says: raw bytes, for one that it does not know."""
    spi, _, high = struct.unpack("!III", esp[:12])
    association = SecurityAssociation(
        ESP,
        spi=spi,
        crypt_algo="AES-GCM",
        crypt_key=secret,
        tunnel_header=outer.copy(),
        esn_en=True,
        esn=high,
    )
    return raw(association.decrypt(outer / ESP(esp)))


def open_packet(outer, esp, keys):
    spi, _, high, low = struct.unpack("!IIII", esp[:16])
    for secret in keys.get(spi, []):
        try:
            payload, padding, next_header = open_by_rfc(esp, secret)
        except InvalidTag:
            continue
        assert open_by_scapy(outer, esp, secret) == payload, "Scapy reads another payload"
        return {
            "spi": spi,
            "sequence": high << 32 | low,
            "next": next_header,
            "padding": padding,
            "key": secret.hex(),
            "payload": payload.hex(),
        }
    raise SystemExit(f"no key opens the packet with SPI {spi:#010x} and sequence number {high << 32 | low}")


def main():
    keys = read_keys(sys.argv[2])
    for frame, _ in RawPcapReader(sys.argv[1]):
        found = esp_of(frame)
        if found:
            print(json.dumps(open_packet(*found, keys)))


main()
