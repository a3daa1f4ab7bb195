/*-------------------------------------------------------------------------
 *
 * session.h
 *		The two connections of a worker: opened, queues seen to, reopened.
 *
 * Knows no SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_SESSION_H
#define PI_SESSION_H

#include "amqp.h"
#include "backoff.h"

typedef enum PiLinkKind
{
	PI_LINK_CONSUME,
	PI_LINK_PUBLISH
} PiLinkKind;

typedef struct PiLink
{
	PiLinkKind	kind;
	PiAmqp	   *conn;			/* NULL: not connected */
	TimestampTz opened_at;
	TimestampTz retry_at;		/* when to connect again; 0: at once */
	PiBackoff	backoff;
	bool		ready;			/* the queues are there */
	int			distrusted;		/* times in a row, nothing having worked since */
	bool		missing;		/* one is not, and must not be declared */
	bool		quorum;			/* consumer: it is a quorum queue */
	const char *former_queue;	/* where some messages still go, although no
								 * setting names it any more; NULL: nowhere */
	char		broker[768];	/* described, without password */
	char		vhost[256];		/* on it */
	char		reported[1024]; /* last failure logged */
} PiLink;

extern void pi_link_init(PiLink *link, PiLinkKind kind);

/*
 * Waits.  Connects to the first of the configured brokers that takes us,
 * sees to the queues, and begins to consume or to count confirms.  After a
 * failure retry_at says when to call again, and the reason was reported.
 */
extern bool pi_link_open(PiLink *link);

/*
 * Waits.  Looks the queues of the publisher up again, declares those that are
 * missing.  False: not ready (see retry_at), or the connection is gone; it is
 * given up when that was done before and did not help.
 */
extern bool pi_link_see_to_queues(PiLink *link);

/* Takes note of an error of the open connection, and closes it. */
extern void pi_link_fail(PiLink *link);

/* Closes it; to be opened again at once. */
extern void pi_link_close(PiLink *link);

/*
 * The connection is good, but a queue may not be: after a delay the queues
 * are to be seen to again.
 */
extern void pi_link_distrust(PiLink *link, const char *why);

/* It worked: the next failure is told again, after a short delay. */
extern void pi_link_prosper(PiLink *link);

#endif							/* PI_SESSION_H */
