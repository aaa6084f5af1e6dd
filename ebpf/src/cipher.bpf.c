// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The cipher port, which faces the hostile backhaul. ESP from a peer in an epoch that there are keys for, in UDP or bare, goes to
 * the AF_XDP socket of its queue; what the host needs to live on that network goes to the kernel; what may cross in clear by the
 * policy goes on; all else is dropped, and each drop is counted by its reason.
 */

#define COUNTERS 14
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
	EPOCH_NOT_LIVE,
	LAST_COUNTER = EPOCH_NOT_LIVE,
};

_Static_assert(COUNTERS == LAST_COUNTER + 1, "a counter was added without room for it");

#include "clear.h"

/* Set by the loader before the program is loaded; addresses and ports in network byte order. */
struct settings {
	/* An IPv4 address is the first word. */
	u32 own[4];
	/* 0: bare ESP. */
	u16 esp_port;
	u16 channel_port;
	u32 is_ipv6;
};

volatile const struct settings settings = {};

/* The loader's MAX_PEERS. */
#define MAX_PEERS 256

/* In network byte order; an IPv4 address is the first word, and the others are 0. */
struct address {
	u32 words[4];
};

struct peer {
	/* Its place in `live_epochs`, below MAX_PEERS. */
	u32 number;
	/* 1: it opens the link channel to us; 0: we open it to the peer. */
	u32 calls;
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(max_entries, MAX_PEERS);
	MAP_TYPE(key, struct address);
	MAP_TYPE(value, struct peer);
} peers SEC(".maps");

/*
 * For each peer a bit for each epoch that there are keys for. Not in `peers`: an update of a hash table puts a new element in the old
 * one's place, which may serve another peer while a packet is still looked at; an array is written where it stands.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, MAX_PEERS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} live_epochs SEC(".maps");

/* With the length (in 8 bytes, less one) that the router alert option has. */
struct hop_by_hop {
	u8 next_header;
	u8 length;
	u8 options[6];
};

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
	PROTOCOL_ESP = 50,
	HOP_BY_HOP = 0,
	FRAGMENT_HEADER = 44,
	/* SPI and sequence number. */
	ESP_HEADER = 8,
	/* An SPI is 0, epoch 5, lane 5, slot 21 bits. */
	EPOCH_SHIFT = 26,
	EPOCHS = 32,
	TCP_HEADER_MIN = 20,
	TCP_SYN = 0x02,
	TCP_ACK = 0x10,
	ICMP_HEADER = 8,
	/* RFC 4861: router solicitation to redirect, which no router may have forwarded. */
	ND_FIRST = 133,
	ND_LAST = 137,
	ND_HOP_LIMIT = 255,
	/* RFC 4443: unreachable, packet too big, time exceeded, parameter problem; echo request and reply. */
	ICMPV6_ERROR_FIRST = 1,
	ICMPV6_ERROR_LAST = 4,
	ICMPV6_ECHO = 128,
	ICMPV6_REPLY = 129,
	MLD_QUERY = 130,
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

/*
 * Whether `length` bytes are there from `start` on, which is so many bytes into the frame. The kernel is asked only about what may be in
 * further pieces.
 */
ALWAYS_INLINE int is_there(struct xdp_md *ctx, void *start, u32 into, u32 length, void *end)
{
	/* So that no verifier has to know what a swap of bytes leaves of a number; the compiler does, and would drop a mask. */
	asm volatile("%0 &= 0xffff" : "+r"(length));
	return start + length <= end || into + length <= bpf_xdp_get_buff_len(ctx);
}

/* ESP whose header starts at `spi`, from a peer in a live epoch, or a drop. */
ALWAYS_INLINE int esp_from(struct xdp_md *ctx, u32 *spi, void *end, struct peer *peer)
{
	u32 epoch, number, *live;

	if (!peer)
		return drop(FOREIGN_SOURCE);
	if ((void *)(spi + 1) > end)
		return drop(MALFORMED);
	epoch = BE32(*spi) >> EPOCH_SHIFT;
	number = peer->number;
	live = bpf_map_lookup_elem(&live_epochs, &number);
	if (!live || epoch >= EPOCHS || !(*live >> epoch & 1))
		return drop(EPOCH_NOT_LIVE);
	return to_socket(ctx);
}

/* ESP in UDP (RFC 3948) from a peer, or a drop. `length` is that of the IP payload, as in all of these. */
ALWAYS_INLINE int udp(struct xdp_md *ctx, struct udp *udp, void *end, u32 length, struct peer *peer)
{
	if ((void *)(udp + 1) > end || length < sizeof(*udp) || BE16(udp->length) != length)
		return drop(MALFORMED);
	if (!settings.esp_port || udp->ports.destination != settings.esp_port)
		return drop(OTHER);
	if (length < sizeof(*udp) + ESP_HEADER)
		return drop(MALFORMED);
	return esp_from(ctx, (void *)(udp + 1), end, peer);
}

/* Bare ESP (RFC 4303) from a peer where that is what was agreed on, or a drop. */
ALWAYS_INLINE int esp(struct xdp_md *ctx, u32 *spi, void *end, u32 length, struct peer *peer)
{
	if (settings.esp_port)
		return drop(OTHER);
	if (length < ESP_HEADER)
		return drop(MALFORMED);
	return esp_from(ctx, spi, end, peer);
}

/*
 * The link channel in our role towards this peer, or a drop: no other port of this host is reached, and where we are the one who
 * calls, nobody opens a connection to us.
 */
ALWAYS_INLINE int tcp(struct tcp *tcp, void *end, u32 length, struct peer *peer)
{
	int to_channel, from_channel;

	if ((void *)(tcp + 1) > end || length < TCP_HEADER_MIN)
		return drop(MALFORMED);
	to_channel = tcp->ports.destination == settings.channel_port;
	from_channel = tcp->ports.source == settings.channel_port;
	if (!peer)
		return drop(to_channel || from_channel ? FOREIGN_SOURCE : OTHER);
	if (peer->calls ? !to_channel : !from_channel || (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return drop(OTHER);
	return to_kernel(TO_KERNEL_CHANNEL);
}

ALWAYS_INLINE int ipv4(struct xdp_md *ctx, struct ipv4 *ip, void *end)
{
	struct address source = {};
	u32 total, length;
	struct peer *peer;

	if ((void *)(ip + 1) > end)
		return drop(MALFORMED);
	if (settings.is_ipv6 || ip->destination != settings.own[0])
		return stranger(ctx, NOT_FOR_US);
	/* Options (a header above 20 bytes) are no part of what a peer sends. */
	total = BE16(ip->total_length);
	if (ip->version_ihl != 0x45 || total < sizeof(*ip) ||
	    !is_there(ctx, ip, sizeof(struct ethernet), total, end))
		return drop(MALFORMED);
	if (BE16(ip->fragment) & MORE_OR_OFFSET)
		return drop(FRAGMENT);

	length = total - sizeof(*ip);
	source.words[0] = ip->source;
	peer = bpf_map_lookup_elem(&peers, &source);
	switch (ip->protocol) {
	case PROTOCOL_UDP:
		return udp(ctx, (void *)(ip + 1), end, length, peer);
	case PROTOCOL_ESP:
		return esp(ctx, (void *)(ip + 1), end, length, peer);
	case PROTOCOL_TCP:
		return tcp((void *)(ip + 1), end, length, peer);
	case PROTOCOL_ICMP:
		return length < ICMP_HEADER ? drop(MALFORMED) : to_kernel(TO_KERNEL_ICMP);
	default:
		return drop(OTHER);
	}
}

/* Whether an IPv6 payload of this length is there. */
ALWAYS_INLINE int ipv6_is_there(struct xdp_md *ctx, struct ipv6 *ip, u32 length, void *end)
{
	return is_there(ctx, ip + 1, sizeof(struct ethernet) + sizeof(*ip), length, end);
}

ALWAYS_INLINE int is_address(const u32 *address, const volatile u32 *wanted)
{
	return address[0] == wanted[0] && address[1] == wanted[1] && address[2] == wanted[2] && address[3] == wanted[3];
}

/*
 * Neighbour discovery, which serves us and no router between; and where the tunnel runs over IPv6, errors and echo for our
 * address.
 */
ALWAYS_INLINE int icmpv6(struct xdp_md *ctx, struct ipv6 *ip, u8 *type, void *end, int is_ours)
{
	u32 length = BE16(ip->payload_length);

	if ((void *)(type + 1) > end || !length || !ipv6_is_there(ctx, ip, length, end))
		return drop(MALFORMED);
	if (*type >= ND_FIRST && *type <= ND_LAST)
		return ip->hop_limit == ND_HOP_LIMIT ? to_kernel(TO_KERNEL_NEIGHBOUR) : stranger(ctx, OTHER);
	if (!is_ours)
		return stranger(ctx, settings.is_ipv6 ? NOT_FOR_US : OTHER);
	if (length < ICMP_HEADER)
		return drop(MALFORMED);
	if ((*type >= ICMPV6_ERROR_FIRST && *type <= ICMPV6_ERROR_LAST) || *type == ICMPV6_ECHO || *type == ICMPV6_REPLY)
		return to_kernel(TO_KERNEL_ICMP);
	return drop(OTHER);
}

/*
 * A query of multicast listeners behind the router alert option (RFC 2710, RFC 3810): switches that snoop on the answers
 * let neighbour solicitations through to those who answer.
 */
ALWAYS_INLINE int listener_query(struct xdp_md *ctx, struct ipv6 *ip, struct hop_by_hop *options, void *end)
{
	u8 *type = (void *)(options + 1);

	if ((void *)(type + 1) > end)
		return drop(MALFORMED);
	if (options->next_header != PROTOCOL_ICMPV6 || options->length || *type != MLD_QUERY || ip->hop_limit != 1)
		return stranger(ctx, OTHER);
	return to_kernel(TO_KERNEL_NEIGHBOUR);
}

ALWAYS_INLINE int ipv6(struct xdp_md *ctx, struct ipv6 *ip, void *end)
{
	void *payload = ip + 1;
	struct address source;
	struct peer *peer;
	int is_ours;
	u32 length;

	if (payload > end || ip->version_class >> 4 != 6)
		return drop(MALFORMED);
	is_ours = settings.is_ipv6 && is_address(ip->destination, settings.own);
	if (ip->next_header == PROTOCOL_ICMPV6)
		return icmpv6(ctx, ip, payload, end, is_ours);
	if (ip->next_header == HOP_BY_HOP && !is_ours)
		return listener_query(ctx, ip, payload, end);
	if (!is_ours)
		return stranger(ctx, settings.is_ipv6 ? NOT_FOR_US : OTHER);
	length = BE16(ip->payload_length);
	if (!ipv6_is_there(ctx, ip, length, end))
		return drop(MALFORMED);

	for (u32 i = 0; i < 4; i++)
		source.words[i] = ip->source[i];
	peer = bpf_map_lookup_elem(&peers, &source);
	switch (ip->next_header) {
	case PROTOCOL_UDP:
		return udp(ctx, payload, end, length, peer);
	case PROTOCOL_ESP:
		return esp(ctx, payload, end, length, peer);
	case PROTOCOL_TCP:
		return tcp(payload, end, length, peer);
	case FRAGMENT_HEADER:
		return drop(FRAGMENT);
	default:
		return drop(OTHER);
	}
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
