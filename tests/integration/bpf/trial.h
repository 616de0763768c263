// SPDX-License-Identifier: GPL-2.0
#define ENTRIES 256

static inline __attribute__((always_inline)) u32 first_of(const u8 *byte)
{
	return *byte;
}
