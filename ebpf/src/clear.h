/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What may cross in clear, by the policy's bypass rules. The worker decides about each frame; this only keeps from it what no rule
 * can mean. PTP alone does not go through the worker: where the policy says so, it is forwarded right here, to spare its timing.
 * A program defines PTP_FORWARDED, a counter, before it includes this file.
 */
#ifndef QHAUL_CLEAR_H
#define QHAUL_CLEAR_H

#include "headers.h"

/* The loader's MAX_TYPES. */
#define MAX_CLEAR_TYPES 16

enum {
	/* Frames of every type. */
	CLEAR_ANY = 1,
	/* Forward PTP to `ptp_port`. */
	CLEAR_PTP = 2,
};

/* Set by the loader, also while the program runs; all zero: nothing crosses in clear. */
struct clear {
	u32 flags;
	/* Interface number of the other port. */
	u32 ptp_port;
	/* How many of `types` are set. */
	u32 count;
	/* In host byte order; 0 stands for the lengths of IEEE 802.2. */
	u16 types[MAX_CLEAR_TYPES];
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct clear);
} clear SEC(".maps");

ALWAYS_INLINE struct clear *clear_settings(void)
{
	u32 key = 0;

	return bpf_map_lookup_elem(&clear, &key);
}

ALWAYS_INLINE int is_ptp_port(u16 port)
{
	return BE16(port) == PORT_PTP_EVENT || BE16(port) == PORT_PTP_GENERAL;
}

/* IEEE 1588 over Ethernet (annex E), or over UDP (annexes C and D) in whole packets with plain headers; untagged. */
ALWAYS_INLINE int is_ptp(struct ethernet *ethernet, void *end)
{
	struct ipv4 *v4 = (void *)(ethernet + 1);
	struct ipv6 *v6 = (void *)(ethernet + 1);
	struct ports *ports;

	switch (BE16(ethernet->type)) {
	case ETHERTYPE_PTP:
		return 1;
	case ETHERTYPE_IPV4:
		ports = (void *)(v4 + 1);
		return (void *)(ports + 1) <= end && v4->version_ihl == 0x45 && v4->protocol == PROTOCOL_UDP &&
		       !(BE16(v4->fragment) & MORE_OR_OFFSET) && is_ptp_port(ports->destination);
	case ETHERTYPE_IPV6:
		ports = (void *)(v6 + 1);
		return (void *)(ports + 1) <= end && v6->next_header == PROTOCOL_UDP &&
		       is_ptp_port(ports->destination);
	default:
		return 0;
	}
}

ALWAYS_INLINE int forwards_ptp(struct clear *clear, struct ethernet *ethernet, void *end)
{
	return clear && clear->flags & CLEAR_PTP && is_ptp(ethernet, end);
}

ALWAYS_INLINE int forward_ptp(struct clear *clear)
{
	count(PTP_FORWARDED);
	return bpf_redirect(clear->ptp_port, 0);
}

/* Whether a bypass rule may mean frames of this type. */
ALWAYS_INLINE int may_bypass(struct clear *clear, u16 type)
{
	u32 i;

	if (!clear)
		return 0;
	if (clear->flags & CLEAR_ANY)
		return 1;
	if (type < FIRST_ETHERTYPE)
		type = 0;
	for (i = 0; i < MAX_CLEAR_TYPES; i++)
		if (i < clear->count && clear->types[i] == type)
			return 1;
	return 0;
}

#endif
