/*-------------------------------------------------------------------------
 *
 * broker.h
 *		The broker as the settings name it: URLs, password file, TLS.
 *
 * Shared by the worker, which tries the URLs in turn, and by check().
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_BROKER_H
#define PI_BROKER_H

#include "amqp.h"

/* How many URLs profimport.amqp_url lists (at least 1). */
extern int	pi_broker_count(void);

/*
 * Target number i (taken modulo the count) with the password of
 * profimport.amqp_password_file, which is read anew.  false with *error
 * filled (kind PI_AMQP_BAD_URL) if the URL or the file cannot be used.
 */
extern bool pi_broker_target(int i, PiAmqpTarget *target, PiAmqpError *error);

/* Timeouts, heartbeat and TLS files of the settings, as they are now. */
extern void pi_broker_options(PiAmqpOptions *options,
							  const char *connection_name);

/*
 * A combination of settings that must not be used though each of them alone
 * is fine (results sent to the import queue would be imported for ever), as
 * a sentence; NULL if there is none.
 */
extern const char *pi_broker_conflict(void);

#endif							/* PI_BROKER_H */
