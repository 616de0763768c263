// SPDX-License-Identifier: GPL-2.0
// What the tests of the loader load: counts packets by the first byte behind the Ethernet header, drops listed ones.
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include "trial.h"

BPF_F_TABLE("array", u32, u64, listed, ENTRIES, BPF_F_MMAPABLE);
BPF_PERCPU_ARRAY(seen, u64, 1);
BPF_HASH(notes, u32, u64, 4);
BPF_SOCKHASH(sockets, u32, 4);

int by_first_byte(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct ethhdr *frame = (void *)(long)context->data;
	u8 *first = (void *)(frame + 1);
	u32 zero = 0, key;
	u64 *count = seen.lookup(&zero), *value;

	if (count)
		*count += 1;
#ifndef UNCHECKED
	if ((void *)(first + 1) > end)
		return XDP_PASS;
#endif
	key = first_of(first);
	value = listed.lookup(&key);
	return value && *value ? XDP_DROP : XDP_PASS;
}

// What the loader puts in: a map's address and a number.
BPF_F_TABLE("array", u32, u64, row, 1, BPF_F_MMAPABLE);

int by_constants(struct xdp_md *context)
{
	u64 *words = (void *)bpf_pseudo_fd(2, 0);

	return words[3] == bpf_pseudo_fd(2, 1) ? XDP_DROP : XDP_PASS;
}

int always_drop(struct xdp_md *context)
{
	return XDP_DROP;
}

int always_shot(struct __sk_buff *context)
{
	return 2; // TC_ACT_SHOT
}

int note_sockets(struct bpf_sock_ops *context)
{
	return 1;
}

int pass_messages(struct sk_msg_md *context)
{
	u32 key = 0;

	sockets.msg_redirect_hash(context, &key, BPF_F_INGRESS);
	return SK_PASS;
}
