/* Compares what memmove.c copies, its functions renamed, with copies byte by byte: every length, at every distance. */
#include <stdio.h>
#define memcpy checked_memcpy
#define memmove checked_memmove
#include "memmove.c"

enum { LONGEST = 200, ROOM = 3 * LONGEST };

static byte was[ROOM], expected[ROOM], found[ROOM];

static int check(void *copy(void *, const void *, size_t), const char *name, size_t to, size_t from, size_t n)
{
	for (size_t i = 0; i < ROOM; i++)
		was[i] = expected[i] = found[i] = (byte)(i * 7 + i / 256);
	for (size_t i = 0; i < n; i++)
		expected[to + i] = was[from + i];
	int wrong = copy(found + to, found + from, n) != found + to;
	for (size_t i = 0; i < ROOM; i++)
		wrong |= found[i] != expected[i];
	if (wrong)
		printf("%s of %zu bytes from %zu to %zu\n", name, n, from, to);
	return wrong;
}

static void *copy_apart(void *to, const void *from, size_t n)
{
	return checked_memcpy(to, from, n);
}

int main(void)
{
	int wrong = 0;
	size_t checked = 0;
	for (size_t n = 0; n <= LONGEST; n++) {
		for (size_t to = 0; to < 2 * LONGEST; to++, checked++)
			wrong += check(checked_memmove, "memmove", to, LONGEST, n);
		for (size_t at = 0; at < 16; at++, checked += 2) {
			wrong += check(copy_apart, "memcpy", at, LONGEST + 16, n);
			wrong += check(copy_apart, "memcpy", LONGEST + 16, at, n);
		}
	}
	printf("%zu copies, %d wrong\n", checked, wrong);
	return wrong != 0;
}
