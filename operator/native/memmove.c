/* memcpy and memmove for the static binary on x86_64.
 *
 * What is copied here are mostly names and values of a few bytes, read from JSON. musl copies with `rep movsq`, which takes
 * tens of cycles to begin: that was a fifth of all processor time (docs/benchmarks.md). For aarch64 musl has an
 * implementation that is made for short copies.
 */
#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned char byte;

static inline __m128i sixteen(const byte *from)
{
	return _mm_loadu_si128((const __m128i *)from);
}

static inline void put_sixteen(byte *to, __m128i value)
{
	_mm_storeu_si128((__m128i *)to, value);
}

/* Copies n bytes, at least as many as the type has and at most twice as many: both are read before either is written. */
#define BOTH_ENDS(type)                                                  \
	do {                                                             \
		type first, last;                                        \
		__builtin_memcpy(&first, from, sizeof first);            \
		__builtin_memcpy(&last, from + n - sizeof last, sizeof last); \
		__builtin_memcpy(to, &first, sizeof first);              \
		__builtin_memcpy(to + n - sizeof last, &last, sizeof last); \
	} while (0)

static inline __attribute__((always_inline)) void move(byte *to, const byte *from, size_t n)
{
	if (n < 16) {
		if (n >= 8)
			BOTH_ENDS(uint64_t);
		else if (n >= 4)
			BOTH_ENDS(uint32_t);
		else if (n >= 2)
			BOTH_ENDS(uint16_t);
		else if (n == 1)
			*to = *from;
	} else if (n <= 32) {
		BOTH_ENDS(__m128i);
	} else if ((uintptr_t)to - (uintptr_t)from >= n) {
		/* The end may be overwritten before it is reached. */
		__m128i last[2] = { sixteen(from + n - 32), sixteen(from + n - 16) };
		for (size_t i = 0; i < n - 32; i += 32) {
			__m128i some[2] = { sixteen(from + i), sixteen(from + i + 16) };
			put_sixteen(to + i, some[0]);
			put_sixteen(to + i + 16, some[1]);
		}
		put_sixteen(to + n - 32, last[0]);
		put_sixteen(to + n - 16, last[1]);
	} else {
		/* And here the beginning. */
		__m128i first[2] = { sixteen(from), sixteen(from + 16) };
		for (size_t i = n; i > 32; i -= 32) {
			__m128i some[2] = { sixteen(from + i - 32), sixteen(from + i - 16) };
			put_sixteen(to + i - 32, some[0]);
			put_sixteen(to + i - 16, some[1]);
		}
		put_sixteen(to, first[0]);
		put_sixteen(to + 16, first[1]);
	}
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	move(to, from, n);
	return to;
}

/* musl's would bring musl's memcpy with it. */
void *memmove(void *to, const void *from, size_t n)
{
	move(to, from, n);
	return to;
}
