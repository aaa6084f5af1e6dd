/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the programs of both ports share: the sockets by receive queue, the counters, and the one way to a socket.
 * A program defines COUNTERS, the number of its counters, before it includes this file.
 */
#ifndef QHAUL_STEER_H
#define QHAUL_STEER_H

#include "bpf.h"

/* The loader's MAX_QUEUES. */
#define MAX_QUEUES 64

struct {
	MAP_UINT(type, BPF_MAP_TYPE_XSKMAP);
	MAP_UINT(max_entries, MAX_QUEUES);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} xsks SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_UINT(max_entries, COUNTERS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} counters SEC(".maps");

/* The counters that both programs begin with, in the order of the loader's structs. */
enum {
	RECEIVED,
	TO_SOCKET,
	NO_SOCKET,
	FIRST_OWN_COUNTER,
};

ALWAYS_INLINE void count(u32 counter)
{
	u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

ALWAYS_INLINE int drop(u32 counter)
{
	count(counter);
	return XDP_DROP;
}

ALWAYS_INLINE int to_kernel(u32 counter)
{
	count(counter);
	return XDP_PASS;
}

/*
 * Hands the frame to the socket of its queue. Without one it is dropped, never passed: passing would give clear text to the
 * kernel. The socket is looked up first so that the drop has a name; the redirect would drop as well, but silently.
 */
ALWAYS_INLINE int to_socket(struct xdp_md *ctx)
{
	u32 queue = ctx->rx_queue_index;

	if (!bpf_map_lookup_elem(&xsks, &queue))
		return drop(NO_SOCKET);
	count(TO_SOCKET);
	return bpf_redirect_map(&xsks, queue, XDP_DROP);
}

#endif
