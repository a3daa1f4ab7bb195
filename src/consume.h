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

/* A socket to wait for. */
typedef struct PiSocket
{
	pgsocket	fd;				/* PGINVALID_SOCKET: no connection */
	TimestampTz opened_at;		/* tells connections apart: numbers come again */
	bool		writable;		/* there is something to write */
} PiSocket;

#define PI_NUM_SOCKETS 2

/* For the wait set: those of the consumer and of the publisher. */
extern void pi_consume_sockets(PiSocket *sockets);

/* The settings were read anew. */
extern void pi_consume_reload(void);

/* Something threw: everything in memory is dropped, and begins anew. */
extern void pi_consume_recover(void);

/* At the end of the process, from a callback. */
extern void pi_consume_end(void);

#endif							/* PI_CONSUME_H */
