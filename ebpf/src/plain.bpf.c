// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The plain port: every frame, of whatever kind, goes to the AF_XDP socket of its queue, but for PTP where the policy has it
 * forwarded. The kernel's own stack sees none.
 */

#define COUNTERS 4
#include "steer.h"

/* In the order of the loader's `PlainCounters`. */
enum {
	PTP_FORWARDED = FIRST_OWN_COUNTER,
	LAST_COUNTER = PTP_FORWARDED,
};

_Static_assert(COUNTERS == LAST_COUNTER + 1, "a counter was added without room for it");

#include "clear.h"

SEC("xdp")
int qhaul_plain(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = (void *)(long)ctx->data;
	struct clear *clear = clear_settings();

	count(RECEIVED);
	if ((void *)(ethernet + 1) <= end && forwards_ptp(clear, ethernet, end))
		return forward_ptp(clear);
	return to_socket(ctx);
}

/* No helper in use asks for a GPL-compatible licence. */
char licence[] SEC("license") = "MIT OR Apache-2.0";
