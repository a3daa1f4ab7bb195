/*-------------------------------------------------------------------------
 *
 * receive.h
 *		The consumer's connection: deliveries, acknowledgements, the depth of
 *		the queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_RECEIVE_H
#define PI_RECEIVE_H

/*
 * Opens the connection if that is due, and takes deliveries and whatever else
 * it has, up to a batch.  True if there is more to be had at once.
 */
extern bool pi_receive(void);

/* The import of n messages more, up to this delivery, is committed. */
extern void pi_receive_acknowledge(uint64 tag, int n);

/* Asks whether acknowledgements have arrived, if it is time. */
extern void pi_receive_probe(void);

/* Asks for the depth of the queue, if somebody wants to know. */
extern void pi_receive_ask_depth(void);

/* ---- its end -------------------------------------------------------- */

/* It is dead; pi_amqp_error() says why, or will when all of it is read. */
extern void pi_receive_failed(void);
extern void pi_receive_dying(void);

/* Closes it in order, or at once; what it held comes back. */
extern void pi_receive_close(void);
extern void pi_receive_drop(void);

/* Waits a moment for answers that are on their way. */
extern void pi_receive_last_answers(void);

/*
 * Opening a connection may take a while, and the end of the turn, which tells
 * the rest, comes after that.
 */
extern void pi_tell_connecting(void);

#endif							/* PI_RECEIVE_H */
