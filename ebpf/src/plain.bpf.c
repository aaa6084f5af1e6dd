// SPDX-License-Identifier: MIT OR Apache-2.0
/* The plain port: every frame, of whatever kind, goes to the AF_XDP socket of its queue. The kernel sees none. */

#define COUNTERS 3
#include "steer.h"

_Static_assert(COUNTERS == FIRST_OWN_COUNTER, "a counter was added without room for it");

SEC("xdp")
int qhaul_plain(struct xdp_md *ctx)
{
	count(RECEIVED);
	return to_socket(ctx);
}

/* No helper in use asks for a GPL-compatible licence. */
char licence[] SEC("license") = "MIT OR Apache-2.0";
