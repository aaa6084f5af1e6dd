/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The few kernel types and helpers that the programs use, so that the build depends neither on the host's kernel headers,
 * nor on its BTF, nor on libbpf's headers. Numbers and layouts are kernel ABI: include/uapi/linux/bpf.h.
 */
#ifndef QHAUL_BPF_H
#define QHAUL_BPF_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_XSKMAP = 17,
};

enum xdp_action {
	XDP_DROP = 1,
	XDP_PASS = 2,
};

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const bpf_redirect_map)(void *map, u64 key, u64 flags) = (void *)51;
/* The whole length: of a frame in several buffers, data to data_end is only the first. */
static u64 (*const bpf_xdp_get_buff_len)(void *ctx) = (void *)188;

#define SEC(name) __attribute__((section(name), used))
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Map definitions as libbpf reads them from BTF. */
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, type) type *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(x) __builtin_bswap16(x)
#define BE32(x) __builtin_bswap32(x)
#else
#define BE16(x) (x)
#define BE32(x) (x)
#endif

#endif
