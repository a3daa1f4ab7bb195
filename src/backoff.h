/*-------------------------------------------------------------------------
 *
 * backoff.h
 *		A jittered, growing delay.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_BACKOFF_H
#define PI_BACKOFF_H

typedef struct PiBackoff
{
	int			attempts;		/* failures in a row */
} PiBackoff;

/* The next delay in ms, at most max_ms; counts the failure. */
extern int	pi_backoff_next(PiBackoff *b, int max_ms);

/* Something worked: the next failure starts small again. */
extern void pi_backoff_reset(PiBackoff *b);

#endif							/* PI_BACKOFF_H */
