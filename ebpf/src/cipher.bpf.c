// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The cipher port, which faces the hostile backhaul. ESP in UDP from the peer goes to the AF_XDP socket of its queue; what
 * the host needs to live on that network goes to the kernel; what may cross in clear by the policy goes on; all else is dropped,
 * and each drop is counted by its reason.
 */

#define COUNTERS 13
#include "steer.h"

/* In the order of the loader's `CipherCounters`. */
enum {
	TO_KERNEL_ARP = FIRST_OWN_COUNTER,
	TO_KERNEL_NEIGHBOUR,
	TO_KERNEL_ICMP,
	TO_KERNEL_CHANNEL,
	FOREIGN_SOURCE,
	FRAGMENT,
	MALFORMED,
	NOT_FOR_US,
	OTHER,
	PTP_FORWARDED,
	LAST_COUNTER = PTP_FORWARDED,
};

_Static_assert(COUNTERS == LAST_COUNTER + 1, "a counter was added without room for it");

#include "clear.h"

/* Set by the loader before the program is loaded; all in network byte order. */
struct settings {
	u32 peer_address;
	u32 own_address;
	u16 esp_port;
	u16 channel_port;
	/* 1: the peer opens the link channel to us; 0: we open it to the peer. */
	u32 channel_listens;
};

volatile const struct settings settings = {};

struct tcp {
	struct ports ports;
	u32 sequence;
	u32 acknowledgement;
	u8 offset;
	u8 flags;
};

struct udp {
	struct ports ports;
	u16 length;
	u16 checksum;
};

enum {
	TCP_HEADER_MIN = 20,
	TCP_SYN = 0x02,
	TCP_ACK = 0x10,
	ICMP_HEADER = 8,
	/* RFC 4861: router solicitation to redirect, which no router may have forwarded. */
	ND_FIRST = 133,
	ND_LAST = 137,
	ND_HOP_LIMIT = 255,
};

/*
 * A frame that is not for this host: it may be one that crosses in clear. The worker then decides; what no bypass rule can mean is
 * dropped here as `reason`.
 */
ALWAYS_INLINE int stranger(struct xdp_md *ctx, u32 reason)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = (void *)(long)ctx->data;
	struct clear *clear = clear_settings();

	if ((void *)(ethernet + 1) > end)
		return drop(MALFORMED);
	if (forwards_ptp(clear, ethernet, end))
		return forward_ptp(clear);
	if (may_bypass(clear, BE16(ethernet->type)))
		return to_socket(ctx);
	return drop(reason);
}

/* ESP in UDP (RFC 3948) from the peer, or a drop. `length` is that of the IPv4 payload. */
ALWAYS_INLINE int udp(struct xdp_md *ctx, struct ipv4 *ip, void *end, u32 length)
{
	struct udp *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || length < sizeof(*udp) || BE16(udp->length) != length)
		return drop(MALFORMED);
	if (udp->ports.destination != settings.esp_port)
		return drop(OTHER);
	if (ip->source != settings.peer_address)
		return drop(FOREIGN_SOURCE);
	return to_socket(ctx);
}

/*
 * The link channel in our role, or a drop: no other port of this host is reached, and where we are the one who calls, nobody
 * opens a connection to us.
 */
ALWAYS_INLINE int tcp(struct ipv4 *ip, void *end, u32 length)
{
	struct tcp *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end || length < TCP_HEADER_MIN)
		return drop(MALFORMED);
	if (settings.channel_listens ? tcp->ports.destination != settings.channel_port
				     : tcp->ports.source != settings.channel_port ||
					       (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return drop(OTHER);
	if (ip->source != settings.peer_address)
		return drop(FOREIGN_SOURCE);
	return to_kernel(TO_KERNEL_CHANNEL);
}

ALWAYS_INLINE int ipv4(struct xdp_md *ctx, struct ipv4 *ip, void *end)
{
	u32 total, present;

	if ((void *)(ip + 1) > end)
		return drop(MALFORMED);
	if (ip->destination != settings.own_address)
		return stranger(ctx, NOT_FOR_US);
	/* Options (a header above 20 bytes) are no part of what a peer sends. */
	total = BE16(ip->total_length);
	present = bpf_xdp_get_buff_len(ctx) - sizeof(struct ethernet);
	if (ip->version_ihl != 0x45 || total < sizeof(*ip) || total > present)
		return drop(MALFORMED);
	if (BE16(ip->fragment) & MORE_OR_OFFSET)
		return drop(FRAGMENT);

	switch (ip->protocol) {
	case PROTOCOL_UDP:
		return udp(ctx, ip, end, total - sizeof(*ip));
	case PROTOCOL_TCP:
		return tcp(ip, end, total - sizeof(*ip));
	case PROTOCOL_ICMP:
		return total < sizeof(*ip) + ICMP_HEADER ? drop(MALFORMED) : to_kernel(TO_KERNEL_ICMP);
	default:
		return drop(OTHER);
	}
}

/* Neighbour discovery alone: the tunnel and the link channel run over IPv4. */
ALWAYS_INLINE int ipv6(struct xdp_md *ctx, struct ipv6 *ip, void *end)
{
	u8 *type = (void *)(ip + 1);

	if ((void *)(ip + 1) > end)
		return drop(MALFORMED);
	if (ip->next_header != PROTOCOL_ICMPV6)
		return stranger(ctx, OTHER);
	if ((void *)(type + 1) > end || BE16(ip->payload_length) > bpf_xdp_get_buff_len(ctx) - sizeof(struct ethernet) - sizeof(*ip))
		return drop(MALFORMED);
	if (*type < ND_FIRST || *type > ND_LAST || ip->hop_limit != ND_HOP_LIMIT)
		return stranger(ctx, OTHER);
	return to_kernel(TO_KERNEL_NEIGHBOUR);
}

SEC("xdp")
int qhaul_cipher(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = (void *)(long)ctx->data;

	count(RECEIVED);
	if ((void *)(ethernet + 1) > end)
		return drop(MALFORMED);

	switch (BE16(ethernet->type)) {
	case ETHERTYPE_IPV4:
		return ipv4(ctx, (void *)(ethernet + 1), end);
	case ETHERTYPE_IPV6:
		return ipv6(ctx, (void *)(ethernet + 1), end);
	case ETHERTYPE_ARP:
		return to_kernel(TO_KERNEL_ARP);
	default:
		return stranger(ctx, OTHER);
	}
}

/* No helper in use asks for a GPL-compatible licence. */
char licence[] SEC("license") = "MIT OR Apache-2.0";
