// SPDX-License-Identifier: Apache-2.0
// The filter's parsing and look-ups a step later, where the kernel has made a socket buffer: what XDP saves is measured
// by it. It knows nothing of VLAN tags, which the kernel has taken off by then.
#include <uapi/linux/pkt_cls.h>
#include "xdp_filter.c"

int tc_flat_v4(struct __sk_buff *context)
{
	struct packet packet = {};
	int passed = parse(&packet, (void *)(long)context->data, (void *)(long)context->data_end);
	u32 zero = 0, cause;
	struct shape *now = shape.lookup(&zero);
	u64 *count;

	if (!now)
		return TC_ACT_OK;
	cause = passed < 0 ? judge(&packet, now, KIND_FLAT, KIND_TRIE, 0) : passed;
	count = causes.lookup(&cause);
	if (count)
		*count += 1;
	return cause >= CAUSE_DROPPED_IPV4 ? TC_ACT_SHOT : TC_ACT_OK;
}
