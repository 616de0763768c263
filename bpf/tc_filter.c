// SPDX-License-Identifier: Apache-2.0
// The filter's parsing and look-ups a step later, where the kernel has made a socket buffer: what XDP saves is measured
// by it. It knows nothing of VLAN tags, which the kernel has taken off by then.
#include <uapi/linux/pkt_cls.h>
#include "xdp_filter.c"

int tc_flat_v4(struct __sk_buff *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;

	return dropped(data, end, KIND_FLAT, KIND_TRIE, 0) ? TC_ACT_SHOT : TC_ACT_OK;
}
