/*-------------------------------------------------------------------------
 *
 * maintain.h
 *		What has been kept long enough.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_MAINTAIN_H
#define PI_MAINTAIN_H

typedef struct PiMaintenance
{
	bool		forget_repeats; /* in: dedup and applied may lose old rows */
	int			next_ms;		/* out: until it is due again */
} PiMaintenance;

/*
 * Removes a bounded number of rows; needs a transaction.  Takes a
 * PiMaintenance, as pi_apply_small() wants it.
 */
extern void pi_maintain(void *arg);

#endif							/* PI_MAINTAIN_H */
