/*-------------------------------------------------------------------------
 *
 * amqp_resolve.c
 *		Host name to addresses, without holding up interrupts.
 *
 * NOTES
 *		getaddrinfo() waits for name servers for as long as resolv.conf says
 *		(10 s for each in the usual case), and no signal ends it.  glibc can do
 *		it in a helper thread of its own, which has every signal blocked and
 *		runs no code of the server; we look for its answer between waits on our
 *		latch.  Elsewhere the plain call has to do.
 *
 *		A request cannot be called back, so it stays on a list until its answer
 *		is there, even if nobody wants it any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netdb.h>
#include <sys/socket.h>

#include "amqp_internal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"

/* From 2.34 on it is in the C library itself. */
#if defined(__GLIBC__) && defined(EAI_INPROGRESS)
#if __GLIBC_PREREQ(2, 34)
#define USE_GETADDRINFO_A
#endif
#endif

#ifdef USE_GETADDRINFO_A

typedef struct Request
{
	struct Request *next;
	struct gaicb cb;
	struct addrinfo hints;
	char		host[256];
	char		port[16];
} Request;

static Request *requests = NULL;

/* Frees the requests that have been answered. */
static void
reap_requests(void)
{
	Request   **link = &requests;

	while (*link)
	{
		Request    *request = *link;

		if (gai_error(&request->cb) == EAI_INPROGRESS)
		{
			link = &request->next;
			continue;
		}
		*link = request->next;
		if (request->cb.ar_result)
			freeaddrinfo(request->cb.ar_result);
		free(request);
	}
}

static int
look_up(const char *host, const char *port, const struct addrinfo *hints,
		int64 deadline, struct addrinfo **addresses)
{
	Request    *request;
	struct gaicb *list[1];
	int			timeout = 1;
	int			rc;

	/* an answer still awaited from last time serves as well */
	reap_requests();
	for (request = requests; request != NULL; request = request->next)
	{
		if (strcmp(request->host, host) == 0 &&
			strcmp(request->port, port) == 0)
			break;
	}

	if (request == NULL)
	{
		/* malloc: the thread must not depend on our memory contexts */
		request = calloc(1, sizeof(Request));
		if (request == NULL)
			return EAI_MEMORY;
		strlcpy(request->host, host, sizeof(request->host));
		strlcpy(request->port, port, sizeof(request->port));
		request->hints = *hints;
		request->cb.ar_name = request->host;
		request->cb.ar_service = request->port;
		request->cb.ar_request = &request->hints;
		list[0] = &request->cb;
		rc = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
		if (rc != 0)
		{
			free(request);
			return rc;
		}
		request->next = requests;
		requests = request;
	}

	while ((rc = gai_error(&request->cb)) == EAI_INPROGRESS)
	{
		int64		left = deadline - pi_amqp_now();

		if (left <= 0)
			return EAI_INPROGRESS;
		if (WaitLatch(MyLatch,
					  WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  (long) Min(left, timeout), PG_WAIT_EXTENSION) & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		timeout = Min(timeout * 2, 50);
	}
	*addresses = request->cb.ar_result;
	request->cb.ar_result = NULL;
	reap_requests();
	return rc;
}

#else

static int
look_up(const char *host, const char *port, const struct addrinfo *hints,
		int64 deadline, struct addrinfo **addresses)
{
	return getaddrinfo(host, port, hints, addresses);
}

#endif

struct addrinfo *
pi_amqp_resolve(const char *host, int port, int64 deadline, const char **why)
{
	struct addrinfo hints;
	struct addrinfo *addresses = NULL;
	char		portstr[16];
	int			rc;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	snprintf(portstr, sizeof(portstr), "%d", port);

	/* an address needs no name server, hence no thread */
	rc = getaddrinfo(host, portstr, &hints, &addresses);
	if (rc != 0)
	{
		hints.ai_flags = AI_NUMERICSERV;
		rc = look_up(host, portstr, &hints, deadline, &addresses);
	}
	if (rc == 0 && addresses != NULL)
		return addresses;
#ifdef USE_GETADDRINFO_A
	if (rc == EAI_INPROGRESS)
		*why = "timeout";
	else
#endif
		*why = rc != 0 ? gai_strerror(rc) : "no address";
	return NULL;
}
