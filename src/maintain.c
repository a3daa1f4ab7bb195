/*-------------------------------------------------------------------------
 *
 * maintain.c
 *		What has been kept long enough.
 *
 * NOTES
 *		Done by the first worker, in small transactions between batches.  How
 *		soon it has to be done again depends on what is left, so that an idle
 *		system is not woken every minute for nothing.
 *
 * IDENTIFICATION
 *		src/maintain.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "journal.h"
#include "maintain.h"
#include "repeats.h"
#include "settings.h"
#include "sql.h"

/* Rows of each kind in one transaction: a message that comes waits for it. */
#define PURGE_ROWS 2000

/* Until the next time: there was more, something remains, nothing. */
#define NEXT_MORE_MS 50
#define NEXT_SOON_MS (60 * 1000)
#define NEXT_LATE_MS (3600 * 1000)

/*
 * Deliveries of a connection that died come back within moments, or when the
 * broker notices, or when another server that holds them gives them up.
 */
#define EXPIRE_DIGESTS_S (24 * 3600)

static PiSql errors_sql = {
	.text = "DELETE FROM profimport.import_error WHERE error_id IN"
	" (SELECT error_id FROM profimport.import_error"
	" WHERE occurred_at <= now() - make_interval(secs => $1)"
	" ORDER BY occurred_at LIMIT $2)",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

/*
 * By number, which is the order of time: an index on occurred_at would be one
 * more that each import has to write.
 */
static PiSql events_sql = {
	.text = "DELETE FROM profimport.trigger_event WHERE event_id IN"
	" (SELECT event_id FROM profimport.trigger_event"
	" ORDER BY event_id LIMIT $2)"
	" AND occurred_at <= now() - make_interval(secs => $1)",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

static bool
purge(PiSql *statement, int seconds)
{
	Datum		values[2];

	if (seconds == 0)
		return false;
	values[0] = Int32GetDatum(seconds);
	values[1] = Int64GetDatum(PURGE_ROWS);
	return pi_sql(statement, values, NULL) >= PURGE_ROWS;
}

void
pi_maintain(void *arg)
{
	PiMaintenance *m = (PiMaintenance *) arg;
	bool		more = false;

	more |= purge(&errors_sql, pi_error_retention);
	more |= purge(&events_sql, pi_trigger_retention);
	if (m->forget_repeats)
		more |= pi_repeats_purge(pi_dedup_window);
	pi_journal_expire(EXPIRE_DIGESTS_S);

	if (more)
		m->next_ms = NEXT_MORE_MS;
	else
		m->next_ms = pi_repeats_any() ? NEXT_SOON_MS : NEXT_LATE_MS;
}
