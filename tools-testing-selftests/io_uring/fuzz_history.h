/* SPDX-License-Identifier: GPL-2.0 */
/* Histories for level_fuzz_test: sequences of steps, random or as text */
#ifndef IO_URING_SELFTEST_FUZZ_HISTORY_H
#define IO_URING_SELFTEST_FUZZ_HISTORY_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EPISODE		400	/* steps, each episode begins from scratch */

enum op {
	/* another thread may do that, while the ring is being waited for */
	WRITE, READ, FILL, DRAIN, SHUTDOWN, CLOSE, DUP, NEW, PASS, LAND, CRASH,
	FORK, ADD, MODIFY, REMOVE, CAP, NR_OPS
};

static const struct {
	const char *name;
	unsigned int weight;
} ops[NR_OPS] = {
	[WRITE]		= { "write", 40 },
	[READ]		= { "read", 24 },
	[FILL]		= { "fill", 10 },
	[DRAIN]		= { "drain", 24 },
	[SHUTDOWN]	= { "shutdown", 6 },
	[CLOSE]		= { "close", 14 },
	[DUP]		= { "dup", 6 },
	[NEW]		= { "new", 14 },
	[PASS]		= { "pass", 4 },
	[LAND]		= { "land", 4 },
	[CRASH]		= { "crash", 1 },
	[FORK]		= { "fork", 1 },
	[ADD]		= { "add", 40 },
	[MODIFY]	= { "modify", 16 },
	[REMOVE]	= { "remove", 10 },
	[CAP]		= { "cap", 4 },
};

/* All of it is random, each operation makes of that what it can. */
struct step {
	uint8_t op;
	uint8_t a, b, c;
	uint8_t how;	/* see how_of() */
	uint8_t wait;	/* for the ring in that way */
	uint8_t cap;
	uint8_t keep;	/* don't look, or don't consume what's there */
};

/* Is it done by another thread, and who sleeps meanwhile? It's what takes time. */
enum how { ALONE, JOINED, RING_SLEEPS, EPOLL_SLEEPS };

static inline enum how how_of(const struct step *s)
{
	return s->how >= 224 ? s->how % 4 : ALONE;
}

static inline uint64_t mix(uint64_t v)
{
	v += 0x9e3779b97f4a7c15;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
	v = (v ^ v >> 27) * 0x94d049bb133111eb;
	return v ^ v >> 31;
}

static inline void generate(struct step *s, unsigned long long seed,
			    unsigned long long episode)
{
	unsigned int i, op, weight, total = 0;
	uint64_t v = mix(mix(seed) + episode);

	for (op = 0; op < NR_OPS; op++)
		total += ops[op].weight;
	for (i = 0; i < EPISODE; i++) {
		v = mix(v);
		memcpy(&s[i], &v, sizeof(s[i]));
		weight = mix(v ^ seed) % total;
		for (op = 0; weight >= ops[op].weight; op++)
			weight -= ops[op].weight;
		s[i].op = op;
	}
}

static inline void print_history(const char *ring, const struct step *s,
				 unsigned int n)
{
	unsigned int i;

	printf("# ring %s\n", ring);
	for (i = 0; i < n; i++)
		printf("# %s %u %u %u %u %u %u %u\n", ops[s[i].op].name, s[i].a,
		       s[i].b, s[i].c, s[i].how, s[i].wait, s[i].cap,
		       s[i].keep);
}

static inline bool parse_step(struct step *s, const char *line)
{
	uint8_t *v[] = { &s->a, &s->b, &s->c, &s->how, &s->wait, &s->cap,
			 &s->keep };
	unsigned int i, n;
	char name[16];
	int len;

	if (sscanf(line, "# %15s%n", name, &len) != 1)
		return false;
	for (s->op = 0; s->op < NR_OPS; s->op++)
		if (!strcmp(name, ops[s->op].name))
			break;
	for (i = 0; i < ARRAY_SIZE(v); i++) {
		line += len;
		if (sscanf(line, "%u%n", &n, &len) != 1)
			return false;
		*v[i] = n;
	}
	return s->op < NR_OPS;
}

/* The first one in the output of a run. The kind of ring goes to *ring. */
static inline unsigned int read_history(const char *path, struct step *s,
					char **ring)
{
	FILE *f = fopen(path, "r");
	unsigned int n = 0;
	char line[128];

	while (f && n < EPISODE && fgets(line, sizeof(line), f)) {
		if (!n && sscanf(line, "# ring %ms", ring) == 1)
			continue;
		if (parse_step(&s[n], line))
			n++;
		else if (n)
			break;
	}
	if (f)
		fclose(f);
	return n;
}

#endif /* IO_URING_SELFTEST_FUZZ_HISTORY_H */
