"""A VLAN sub-interface in user space, for kernels built without 802.1Q.

usage: vlan_tap.py LOWER VLAN NAME

Untagged frames of the TAP interface NAME leave LOWER with the tag; tagged frames that arrive on LOWER come up untagged.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
ETH_P_ALL, SO_ATTACH_FILTER, PACKET_OUTGOING = 0x0003, 26, 4
SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT = 0xFFFFF000 + 44, 0xFFFFF000 + 48


def only_tagged(sock, vlan):
    """Classic BPF: the kernel has taken the tag out of the frame and beside it, where only a filter can ask for it."""
    program = [
        (0x30, 0, 0, SKF_AD_VLAN_TAG_PRESENT),
        (0x15, 3, 0, 0),
        (0x28, 0, 0, SKF_AD_VLAN_TAG),
        (0x54, 0, 0, 0x0FFF),
        (0x15, 1, 0, vlan),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0x40000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


def main():
    lower, vlan, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    only_tagged(wire, vlan)
    wire.bind((lower, ETH_P_ALL))
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    tag = struct.pack("!HH", 0x8100, vlan)
    while True:
        ready, _, _ = select.select([wire, tap], [], [])
        if wire in ready:
            frame, address = wire.recvfrom(65535)
            if address[2] != PACKET_OUTGOING:
                try_write(tap, frame)
        if tap in ready:
            frame = os.read(tap, 65535)
            wire.send(frame[:12] + tag + frame[12:])


def try_write(tap, frame):
    """A TAP interface that is not up yet refuses frames, as an interface that is down loses them."""
    try:
        os.write(tap, frame)
    except OSError:
        pass


main()
