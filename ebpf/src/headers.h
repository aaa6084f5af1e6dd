/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef QHAUL_HEADERS_H
#define QHAUL_HEADERS_H

#include "bpf.h"

/* Headers as on the wire: every field lies at its natural alignment, so none needs packing. */
struct ethernet {
	u8 destination[6];
	u8 source[6];
	u16 type;
};

struct ipv4 {
	u8 version_ihl;
	u8 tos;
	u16 total_length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 checksum;
	u32 source;
	u32 destination;
};

struct ipv6 {
	u8 version_class;
	u8 class_flow;
	u16 flow;
	u16 payload_length;
	u8 next_header;
	u8 hop_limit;
	u32 source[4];
	u32 destination[4];
};

struct ports {
	u16 source;
	u16 destination;
};

enum {
	/* What stands at its place below this is a length (IEEE 802.3). */
	FIRST_ETHERTYPE = 0x0600,
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_ARP = 0x0806,
	ETHERTYPE_IPV6 = 0x86dd,
	ETHERTYPE_PTP = 0x88f7,
	PROTOCOL_ICMP = 1,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_ICMPV6 = 58,
	PORT_PTP_EVENT = 319,
	PORT_PTP_GENERAL = 320,
	/* RFC 791: more fragments, and the offset. */
	MORE_OR_OFFSET = 0x3fff,
};

#endif
