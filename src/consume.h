/*-------------------------------------------------------------------------
 *
 * consume.h
 *		What a worker does: one turn of the loop from the queue to the result.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_CONSUME_H
#define PI_CONSUME_H

#include "datatype/timestamp.h"

/* Once, when connected to the database. */
extern void pi_consume_init(void);

/*
 * One turn: everything that can be done now.  True if there is more to do at
 * once; else *wake_at is when the next turn is due without any event.
 */
extern bool pi_consume_turn(TimestampTz *wake_at);

/*
 * For the wait set: the sockets of the consumer and of the publisher, or
 * PGINVALID_SOCKET, and whether they have something to write.
 */
extern void pi_consume_sockets(pgsocket *sockets, bool *writable);

/* The settings were read anew. */
extern void pi_consume_reload(void);

/* Something threw: everything in memory is dropped, and begins anew. */
extern void pi_consume_recover(void);

/* At the end of the process, from a callback. */
extern void pi_consume_end(void);

#endif							/* PI_CONSUME_H */
