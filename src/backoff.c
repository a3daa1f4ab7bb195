/*-------------------------------------------------------------------------
 *
 * backoff.c
 *		A jittered, growing delay.
 *
 * NOTES
 *		Doubling keeps a dead peer from being flooded; the jitter keeps
 *		workers that lost the same peer at the same moment from coming back
 *		in step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "backoff.h"
#include "compat.h"

#define FIRST_DELAY_MS	100

/* 100 ms doubled so often is beyond every maximum that can be set */
#define MAX_DOUBLINGS	20

int
pi_backoff_next(PiBackoff *b, int max_ms)
{
	int64		delay = (int64) FIRST_DELAY_MS << Min(b->attempts, MAX_DOUBLINGS);

	if (b->attempts < MAX_DOUBLINGS)
		b->attempts++;

	delay = Min(delay, max_ms);
	delay = (int64) (delay * (0.75 + 0.5 * pi_random_double()));
	return (int) Max(1, Min(delay, max_ms));
}

void
pi_backoff_reset(PiBackoff *b)
{
	b->attempts = 0;
}
