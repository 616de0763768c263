// SPDX-License-Identifier: Apache-2.0
// Floods: each frame leaves with the next of many sources in it, checksums in order. And the least that a receiver can do.
#define BPF_LICENSE Apache-2.0
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>

// A source, and the checksums of the packet that has it; all as they stand in the packet.
struct source_v4 {
	u32 address;
	u16 header, transport;
};

struct source_v6 {
	u32 address[4];
	u16 transport, padding[3];
};

BPF_F_TABLE("array", u32, struct source_v4, sources_v4, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct source_v6, sources_v6, 1, BPF_F_MMAPABLE);
// How many sources there are, less one, a power of two; where the checksum of the transport stands; the next source.
BPF_F_TABLE("array", u32, u64, course, 3, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, table, 262144, BPF_F_MMAPABLE);

static inline __attribute__((always_inline)) u32 next_source(void)
{
	u32 place = 2, zero = 0;
	u64 *next = course.lookup(&place), *mask = course.lookup(&zero);

	return next && mask ? (*next)++ & *mask : 0;
}

static inline __attribute__((always_inline)) u16 *transport_checksum(void *data, void *end)
{
	u32 place = 1;
	u64 *at = course.lookup(&place);
	u16 *field;

	if (!at)
		return 0;
	field = data + (*at & 127);
	return (void *)(field + 1) > end ? 0 : field;
}

static inline __attribute__((always_inline)) int make_v4(struct xdp_md *context, int verdict)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct iphdr *header = data + sizeof(struct ethhdr);
	u32 place = next_source();
	struct source_v4 *source = sources_v4.lookup(&place);
	u16 *checksum = transport_checksum(data, end);

	if ((void *)(header + 1) > end || !source || !checksum)
		return XDP_ABORTED;
	header->saddr = source->address;
	header->check = source->header;
	*checksum = source->transport;
	return verdict;
}

static inline __attribute__((always_inline)) int make_v6(struct xdp_md *context, int verdict)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ipv6hdr *header = data + sizeof(struct ethhdr);
	u32 place = next_source();
	struct source_v6 *source = sources_v6.lookup(&place);
	u16 *checksum = transport_checksum(data, end);

	if ((void *)(header + 1) > end || !source || !checksum)
		return XDP_ABORTED;
	__builtin_memcpy(&header->saddr, source->address, sizeof(header->saddr));
	*checksum = source->transport;
	return verdict;
}

int flood_v4(struct xdp_md *context)
{
	return make_v4(context, XDP_TX);
}

int flood_v6(struct xdp_md *context)
{
	return make_v6(context, XDP_TX);
}

// What making frames costs: they go nowhere.
int discard_v4(struct xdp_md *context)
{
	return make_v4(context, XDP_DROP);
}

int discard_v6(struct xdp_md *context)
{
	return make_v6(context, XDP_DROP);
}

// The limit: nothing is looked at.
int drop_all(struct xdp_md *context)
{
	return XDP_DROP;
}

// What an interface costs that has a program, whatever that does.
int pass_all(struct xdp_md *context)
{
	return XDP_PASS;
}

// What one far read costs on this machine: of 2 MB, at a place that the source's address says.
int drop_after_reading(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct iphdr *header = data + sizeof(struct ethhdr);
	u32 place;
	u64 *word;

	if ((void *)(header + 1) > end)
		return XDP_DROP;
	place = (u32)(header->saddr * 0x9e3779b1U) >> 14;
	word = table.lookup(&place);
	return word && *word ? XDP_PASS : XDP_DROP;
}

int shot_all(struct __sk_buff *context)
{
	return 2; // TC_ACT_SHOT
}
