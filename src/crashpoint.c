/*-------------------------------------------------------------------------
 *
 * crashpoint.c
 *		Named points at which a test build can be killed or stopped.
 *
 * NOTES
 *		profimport.crash_point is "NAME ACTION", with the names
 *
 *			after-receive      a batch is collected
 *			before-commit      everything is written
 *			before-ack         committed
 *			before-publish     acknowledged
 *			before-confirm     results are on their way
 *			before-forget      results have arrived
 *			body=TEXT          a message that contains TEXT is about to be
 *							   imported
 *
 *		and the actions
 *
 *			kill    SIGKILL, after which the server restarts its backends
 *			abort   abort()
 *			exit    end without ado, as pg_terminate_backend() would
 *			wait    until the setting is another one or the worker is told to
 *					end
 *
 *		A point acts once for each time that the file profimport.crash in the
 *		data directory was created: it is removed first, so that the worker
 *		that comes next lives.  body=TEXT acts each time.
 *
 * IDENTIFICATION
 *		src/crashpoint.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "crashpoint.h"

#ifdef PROFIMPORT_CRASHPOINTS

#include <signal.h>
#include <unistd.h>

#include "compat.h"
#include "postmaster/interrupt.h"

#define ARMED_FILE "profimport.crash"

static char *crash_point = NULL;

void
pi_crashpoint_init(void)
{
	DefineCustomStringVariable("profimport.crash_point",
							   "Where a test build dies or waits.",
							   NULL,
							   &crash_point,
							   "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
}

static void
wait_for_another_setting(void)
{
	char	   *mine = pstrdup(crash_point);

	ereport(LOG, (errmsg("waiting at crash point \"%s\"", mine)));
	while (strcmp(mine, crash_point) == 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	pfree(mine);
}

static void
act(const char *action)
{
	ereport(LOG, (errmsg("crash point \"%s\"", crash_point)));
	if (strcmp(action, "kill") == 0)
		kill(MyProcPid, SIGKILL);
	else if (strcmp(action, "abort") == 0)
		abort();
	else if (strcmp(action, "exit") == 0)
		kill(MyProcPid, SIGTERM);
	else if (strcmp(action, "wait") == 0)
		wait_for_another_setting();
	CHECK_FOR_INTERRUPTS();
}

void
pi_crashpoint(const char *name)
{
	size_t		len = strlen(name);

	if (crash_point == NULL || strncmp(crash_point, name, len) != 0 ||
		crash_point[len] != ' ')
		return;
	if (unlink(ARMED_FILE) != 0)
		return;
	act(crash_point + len + 1);
}

void
pi_crashpoint_body(const char *body, size_t len)
{
	const char *text;
	const char *action;
	size_t		text_len;

	if (crash_point == NULL || strncmp(crash_point, "body=", 5) != 0)
		return;
	text = crash_point + 5;
	action = strrchr(text, ' ');
	if (action == NULL || action == text)
		return;
	text_len = action - text;
	for (size_t i = 0; i + text_len <= len; i++)
	{
		if (memcmp(body + i, text, text_len) == 0)
		{
			act(action + 1);
			return;
		}
	}
}

#endif							/* PROFIMPORT_CRASHPOINTS */
