// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The plain port: every frame, of whatever kind, goes to the AF_XDP socket of its queue, but for PTP where the policy has it
 * forwarded. The kernel's own stack sees none, but where this host is the plain side's router (mode "ip"): there ARP and IPv6
 * neighbour discovery go to the kernel, which answers for its own addresses and learns the neighbours'. No packet that the kernel
 * could forward is among them.
 */

#define COUNTERS 6
#include "steer.h"

/* In the order of the loader's `PlainCounters`. */
enum {
	PTP_FORWARDED = FIRST_OWN_COUNTER,
	TO_KERNEL_ARP,
	TO_KERNEL_NEIGHBOUR,
	LAST_COUNTER = TO_KERNEL_NEIGHBOUR,
};

_Static_assert(COUNTERS == LAST_COUNTER + 1, "a counter was added without room for it");

#include "clear.h"

/* The loader's MAX_OWN_V6. */
#define MAX_OWN 16

/* Set by the loader before the program is loaded; addresses in network byte order. */
struct settings {
	/* 1: this host is the plain side's router. */
	u32 router;
	u32 own_count;
	u32 own[MAX_OWN][4];
};

volatile const struct settings settings = {};

struct neighbour_message {
	u32 version_class_flow;
	u16 payload_length;
	u8 next_header;
	u8 hop_limit;
	u8 source[16];
	u32 destination[4];
	u8 type;
};

enum {
	/* RFC 4861: what asks for a neighbour, and the answer, which no router may have forwarded. */
	NEIGHBOUR_SOLICITATION = 135,
	NEIGHBOUR_ADVERTISEMENT = 136,
	ND_HOP_LIMIT = 255,
};

ALWAYS_INLINE int is_own(const u32 *address)
{
	for (u32 i = 0; i < MAX_OWN; i++)
		if (i < settings.own_count && address[0] == settings.own[i][0] && address[1] == settings.own[i][1] &&
		    address[2] == settings.own[i][2] && address[3] == settings.own[i][3])
			return 1;
	return 0;
}

/* Neighbour discovery to a group or to this host itself: a kernel that forwards has nothing to forward in it. */
ALWAYS_INLINE int is_neighbour_discovery(struct neighbour_message *message, void *end)
{
	if ((void *)(message + 1) > end || message->next_header != PROTOCOL_ICMPV6 || message->hop_limit != ND_HOP_LIMIT)
		return 0;
	if (message->type != NEIGHBOUR_SOLICITATION && message->type != NEIGHBOUR_ADVERTISEMENT)
		return 0;
	return *(u8 *)message->destination == 0xff || is_own(message->destination);
}

SEC("xdp")
int qhaul_plain(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = (void *)(long)ctx->data;
	struct clear *clear = clear_settings();

	count(RECEIVED);
	if ((void *)(ethernet + 1) > end)
		return to_socket(ctx);
	if (settings.router && ethernet->type == BE16(ETHERTYPE_ARP))
		return to_kernel(TO_KERNEL_ARP);
	if (settings.router && ethernet->type == BE16(ETHERTYPE_IPV6) && is_neighbour_discovery((void *)(ethernet + 1), end))
		return to_kernel(TO_KERNEL_NEIGHBOUR);
	if (forwards_ptp(clear, ethernet, end))
		return forward_ptp(clear);
	return to_socket(ctx);
}

/* No helper in use asks for a GPL-compatible licence. */
char licence[] SEC("license") = "MIT OR Apache-2.0";
