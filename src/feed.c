/*-------------------------------------------------------------------------
 *
 * feed.c
 *		The deliveries in hand: which of them are tried next, and when.
 *
 * NOTES
 *		What becomes of a failed attempt:
 *
 *		transient   the same again after a growing delay, three times, then
 *					in halves, down to single messages; for ever
 *		setup       (a missing grant, say) all that is in hand, with whatever
 *					arrives meanwhile; for ever.  The engine tells as soon as
 *					one message passes, and then the others are to blame
 *		timeout     at once and smaller: if one message took most of the time,
 *					up to that one, which is then tried alone
 *		memory      at once and smaller
 *		permanent   at once and smaller; alone it is answered 500
 *
 *		A message that alone runs into batch_timeout or out of memory three
 *		times is answered 500.  The count outlives giving back: it is kept by
 *		digest, so that a batch_timeout of many minutes ends as well.
 *
 *		After a worker died, redelivered messages are tried alone, each
 *		attempt recorded before it is made (table profimport.attempt): the
 *		message on which workers die is found by the record it leaves.
 *
 * IDENTIFICATION
 *		src/feed.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "crashpoint.h"
#include "engine.h"
#include "feed.h"
#include "settings.h"
#include "shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Attempts with the same piece before it is made smaller. */
#define TRIES 3

/* Attempts alone, or deaths, before a message is answered 500. */
#define MAX_FAILURES 3

/*
 * Waiting for another worker to learn whether its acknowledgement arrived:
 * mostly it takes milliseconds, a second if that worker has nothing to do.
 */
#define UNDECIDED_DELAY_MS 10
#define DECIDE_AFTER_MS 5000

/* Delay after a deadlock and the like, at most. */
#define CONFLICT_DELAY_MS 20

void
pi_feed_init(PiFeed *feed)
{
	memset(feed, 0, sizeof(PiFeed));
	feed->batch = pi_batch_create(TopMemoryContext);
}

void
pi_feed_be_careful(PiFeed *feed, int n)
{
	feed->careful = n;
}

bool
pi_feed_empty(const PiFeed *feed)
{
	return feed->batch->done >= feed->batch->nitems;
}

bool
pi_feed_wants_more(const PiFeed *feed)
{
	const PiBatch *batch = feed->batch;

	/*
	 * Failing for all, the first that passes shows that it is the others' own
	 * fault.  Undecided, answers about acknowledgements come behind the
	 * deliveries, and other workers may wait for what they say.
	 */
	if (feed->setup || feed->undecided_since != 0)
		return batch->nitems - batch->done < pi_effective_prefetch() &&
			batch->bytes < (size_t) pi_batch_bytes * 4096;
	if (feed->failing_since != 0)
		return false;
	return batch->nitems < pi_batch_size &&
		batch->bytes < (size_t) pi_batch_bytes * 1024;
}

/* Keeps careful and suspects: the same messages come back. */
void
pi_feed_drop(PiFeed *feed)
{
	pi_batch_reset(feed->batch);
	feed->not_before = 0;
	feed->failing_since = 0;
	feed->setup = false;
	feed->piece = 0;
	feed->tries = 0;
	feed->hopeless = 0;
	feed->undecided_since = 0;
	feed->horizon = 0;
	pi_backoff_reset(&feed->backoff);
}

/* ---- suspects ------------------------------------------------------- */

static PiSuspect *
find_suspect(PiFeed *feed, const uint8 *digest)
{
	for (int i = 0; i < feed->nsuspects; i++)
	{
		if (memcmp(feed->suspects[i].digest, digest, PI_DIGEST_LEN) == 0)
			return &feed->suspects[i];
	}
	return NULL;
}

static PiSuspect *
add_suspect(PiFeed *feed, const uint8 *digest)
{
	PiSuspect  *suspect = find_suspect(feed, digest);

	if (suspect != NULL)
		return suspect;
	if (feed->nsuspects == PI_MAX_SUSPECTS)
	{
		/* the oldest one */
		memmove(feed->suspects, feed->suspects + 1,
				sizeof(PiSuspect) * (PI_MAX_SUSPECTS - 1));
		feed->nsuspects--;
	}
	suspect = &feed->suspects[feed->nsuspects++];
	memset(suspect, 0, sizeof(PiSuspect));
	memcpy(suspect->digest, digest, PI_DIGEST_LEN);
	return suspect;
}

static void
clear_suspect(PiFeed *feed, const uint8 *digest)
{
	PiSuspect  *suspect = find_suspect(feed, digest);

	if (suspect != NULL)
		*suspect = feed->suspects[--feed->nsuspects];
}

/* ---- the next piece ------------------------------------------------- */

/* How many of the next n batch_bytes allows; the first one always. */
static int
fit_bytes(const PiArrival *items, int n)
{
	size_t		bytes = 0;

	for (int i = 0; i < n; i++)
	{
		bytes += items[i].delivery.len;
		if (i > 0 && bytes > (size_t) pi_batch_bytes * 1024)
			return i;
	}
	return n;
}

/* How many are tried together; *careful: with a record of the attempt. */
static int
choose_piece(PiFeed *feed, bool *careful)
{
	PiArrival  *items = feed->batch->items + feed->batch->done;
	int			n = feed->batch->nitems - feed->batch->done;

	*careful = false;
	if (feed->setup)
		return n;
	n = fit_bytes(items, Min(n, pi_batch_size));
	if (feed->piece > 0)
		n = Min(n, feed->piece);
	for (int i = 0; i < n; i++)
	{
		bool		watched = feed->careful > 0 &&
		items[i].delivery.redelivered;
		PiSuspect  *suspect = feed->nsuspects > 0 ?
		find_suspect(feed, items[i].digest) : NULL;

		if (!watched && suspect == NULL)
			continue;
		if (i > 0)
			return i;
		*careful = watched;
		if (suspect != NULL && suspect->failures >= MAX_FAILURES)
			feed->hopeless = suspect->sqlerrcode;
		return 1;
	}
	return n;
}

typedef struct Attempt
{
	const uint8 *digest;
	int			deaths;
} Attempt;

/*
 * Recorded once for all tries of this process: it is deaths that count.
 */
static void
record_attempt(void *arg)
{
	Attempt    *attempt = (Attempt *) arg;

	attempt->deaths = pi_journal_attempt(attempt->digest);
}

/* ---- failures ------------------------------------------------------- */

/* What an operator can do about it, within ereport(). */
static int
hint_about(int sqlerrcode)
{
	if (sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return errhint("SELECT profimport.grant_worker() for the role of the workers; SELECT * FROM profimport.check() shows what it lacks.  A trigger of yours may need grants of its own.");
	if (pi_sqlstate_is_setup(sqlerrcode))
		return errhint("SELECT * FROM profimport.check() shows what is missing.  Names in a trigger of yours must be qualified, since imports run with search_path = pg_catalog, pg_temp.");
	return 0;
}

static void
report_failure(PiFeed *feed, int n, const PiApplyResult *result, int elevel)
{
	pi_slot_set_error(result->message);
	if (strcmp(feed->reported, result->message) == 0)
		return;
	strlcpy(feed->reported, result->message, sizeof(feed->reported));
	ereport(elevel,
			(errcode(result->sqlerrcode),
			 errmsg_plural("could not import %d message yet: %s",
						   "could not import %d messages yet: %s", n,
						   n, result->message),
			 errdetail_plural("It is tried again.  This is logged once.",
							  "They are tried again.  This is logged once.", n),
			 hint_about(result->sqlerrcode),
			 errcontext("importing deliveries from " UINT64_FORMAT " on of queue \"%s\"",
						feed->batch->items[feed->batch->done].delivery.tag,
						pi_import_queue)));
}

static void
delay(PiFeed *feed, int ms)
{
	feed->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

static void
make_smaller(PiFeed *feed, int n)
{
	feed->piece = Max(n / 2, 1);
	feed->tries = 0;
}

static void
on_transient(PiFeed *feed, int n, const PiApplyResult *result)
{
	int			class = ERRCODE_TO_CATEGORY(result->sqlerrcode);

	report_failure(feed, n, result, LOG);
	if (class == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) &&
		feed->tries < TRIES)
		delay(feed, (int) (pi_random_double() * CONFLICT_DELAY_MS));
	else
		delay(feed, pi_backoff_next(&feed->backoff, pi_reconnect_delay_max));
	if (++feed->tries >= TRIES && n > 1)
		make_smaller(feed, n);
}

static void
on_timeout(PiFeed *feed, int n, const PiApplyResult *result)
{
	PiArrival  *items = feed->batch->items + feed->batch->done;

	report_failure(feed, n, result, LOG);
	if (n == 1)
	{
		PiSuspect  *suspect = add_suspect(feed, items[0].digest);

		suspect->failures++;
		suspect->sqlerrcode = result->sqlerrcode;
	}
	else if (result->at >= 0 && result->slow)
	{
		add_suspect(feed, items[result->at].digest);
		feed->piece = Max(result->at, 1);
	}
	else if (result->at > 0)
		feed->piece = Min(result->at, n / 2);
	else
		make_smaller(feed, n);
}

static void
on_memory(PiFeed *feed, int n, const PiApplyResult *result)
{
	report_failure(feed, n, result, LOG);
	if (n > 1)
		make_smaller(feed, n);
	else
	{
		PiSuspect  *suspect;

		suspect = add_suspect(feed, feed->batch->items[feed->batch->done].digest);
		suspect->failures++;
		suspect->sqlerrcode = result->sqlerrcode;
		delay(feed, pi_backoff_next(&feed->backoff, pi_reconnect_delay_max));
	}
}

static void
on_setup(PiFeed *feed, int n, const PiApplyResult *result)
{
	report_failure(feed, n, result, WARNING);
	feed->setup = true;
	feed->piece = 0;
	delay(feed, pi_backoff_next(&feed->backoff, pi_reconnect_delay_max));
}

static void
on_permanent(PiFeed *feed, int n, const PiApplyResult *result, bool gave_up)
{
	report_failure(feed, n, result, LOG);
	if (n > 1)
		make_smaller(feed, n);
	else if (!gave_up)
		feed->hopeless = result->sqlerrcode;
	else
	{
		/* not even the answer can be written: nothing but time can help */
		feed->hopeless = result->sqlerrcode;
		delay(feed, pi_backoff_next(&feed->backoff, pi_reconnect_delay_max));
	}
}

static void
on_failure(PiFeed *feed, PiApplyStatus status, int n,
		   const PiApplyResult *result, bool gave_up)
{
	if (feed->failing_since == 0)
		feed->failing_since = GetCurrentTimestamp();
	feed->not_before = 0;
	if (status != PI_APPLY_SETUP)
		feed->setup = false;
	switch (status)
	{
		case PI_APPLY_SETUP:
			on_setup(feed, n, result);
			break;
		case PI_APPLY_TIMEOUT:
			on_timeout(feed, n, result);
			break;
		case PI_APPLY_MEMORY:
			on_memory(feed, n, result);
			break;
		case PI_APPLY_PERMANENT:
			on_permanent(feed, n, result, gave_up);
			break;
		default:
			on_transient(feed, n, result);
			break;
	}
}

static void
on_success(PiFeed *feed, const PiApplyResult *result)
{
	PiBatch    *batch = feed->batch;
	PiArrival  *items = batch->items + batch->done;

	if (feed->nsuspects > 0)
	{
		for (int i = 0; i < result->n; i++)
			clear_suspect(feed, items[i].digest);
	}
	batch->done += result->n;
	feed->not_before = 0;
	feed->failing_since = 0;
	feed->setup = false;
	feed->tries = 0;
	feed->hopeless = 0;
	feed->undecided_since = 0;
	feed->horizon = 0;
	pi_backoff_reset(&feed->backoff);
	if (feed->piece > 0)
	{
		feed->piece *= 2;
		if (feed->piece >= pi_batch_size)
			feed->piece = 0;
	}
	if (!pi_feed_empty(feed))
		return;
	pi_batch_reset(batch);

	/* not after a piece of it: the rest may fail as before */
	if (feed->reported[0] != '\0')
		ereport(LOG,
				(errmsg("profimport worker %d imports again", pi_my_worker + 1),
				 errdetail("The messages that could not be imported have been imported or answered.")));
	feed->reported[0] = '\0';
}

/* ---- an attempt ----------------------------------------------------- */

static void
fill_request(PiFeed *feed, const PiFeedWorld *world, int n,
			 PiApplyRequest *request)
{
	memset(request, 0, sizeof(PiApplyRequest));
	request->items = feed->batch->items + feed->batch->done;
	request->n = n;
	request->all_kept = world->all_kept;
	request->source = world->source;
	request->decide = feed->undecided_since != 0 &&
		TimestampDifferenceExceeds(feed->undecided_since,
								   GetCurrentTimestamp(), DECIDE_AFTER_MS);
	request->horizon = &feed->horizon;
	request->tick = world->tick;
	request->queue = pi_import_queue;
}

/* The answer of a message that is not tried again. */
static void
give_up(PiApplyRequest *request, int sqlerrcode, const char *why,
		char *text, size_t size, char *sqlstate)
{
	strlcpy(sqlstate, pi_sqlstate_text(sqlerrcode), 6);
	snprintf(text, size, why, sqlstate);
	request->give_up_sqlstate = sqlstate;
	request->give_up_text = text;
}

static bool
tired(const PiFeed *feed)
{
	return feed->failing_since != 0 && feed->hopeless == 0 &&
		TimestampDifferenceExceeds(feed->failing_since, GetCurrentTimestamp(),
								   PI_PATIENCE_MS);
}

PiFeedStatus
pi_feed_step(PiFeed *feed, const PiFeedWorld *world, PiApplyResult *result,
			 uint64 *tag)
{
	PiApplyRequest request;
	PiApplyStatus status;
	char		sqlstate[6];
	char		text[128];
	bool		careful;
	int			n;

	if (pi_feed_empty(feed) ||
		(feed->not_before != 0 && feed->not_before > GetCurrentTimestamp()))
		return PI_FEED_NOTHING;

	n = choose_piece(feed, &careful);
	if (tired(feed))
		return PI_FEED_TIRED;
	fill_request(feed, world, n, &request);
	if (feed->hopeless != 0)
	{
		const char *why = "The import failed with SQLSTATE %s.";

		if (feed->hopeless == ERRCODE_QUERY_CANCELED)
			why = "The import took longer than profimport.batch_timeout three times (SQLSTATE %s).";
		else if (feed->hopeless == ERRCODE_OUT_OF_MEMORY)
			why = "The import ran out of memory three times (SQLSTATE %s).";
		request.n = n = 1;
		give_up(&request, feed->hopeless, why, text, sizeof(text), sqlstate);
	}
	else if (careful)
	{
		Attempt		attempt = {request.items[0].digest, 0};

		if (!feed->attempting ||
			memcmp(feed->attempted, attempt.digest, PI_DIGEST_LEN) != 0)
		{
			status = pi_apply_small(record_attempt, &attempt, false, result);
			if (status == PI_APPLY_ABSENT)
				return PI_FEED_ABSENT;
			if (status != PI_APPLY_DONE)
			{
				on_failure(feed, status, n, result, false);
				return PI_FEED_FAILED;
			}
			feed->attempting = true;
			memcpy(feed->attempted, attempt.digest, PI_DIGEST_LEN);
			feed->deaths = attempt.deaths;
		}
		request.attempted = true;
		if (feed->deaths >= MAX_FAILURES)
			give_up(&request, ERRCODE_CRASH_SHUTDOWN,
					"A worker died of the message three times (SQLSTATE %s).",
					text, sizeof(text), sqlstate);
	}

	*tag = request.items[n - 1].delivery.tag;
	status = pi_apply(&request, result);
	if (status == PI_APPLY_DONE)
	{
		*tag = request.items[result->n - 1].delivery.tag;
		if (careful)
		{
			feed->careful--;
			feed->attempting = false;
		}
		on_success(feed, result);
		return PI_FEED_DONE;
	}
	if (status == PI_APPLY_ABSENT)
		return PI_FEED_ABSENT;
	if (status == PI_APPLY_LOST)
		return PI_FEED_LOST;
	if (status == PI_APPLY_UNDECIDED)
	{
		/* these and no later ones: the horizon holds for them */
		if (feed->undecided_since == 0)
			feed->undecided_since = GetCurrentTimestamp();
		feed->piece = n;
		delay(feed, UNDECIDED_DELAY_MS);
		return PI_FEED_FAILED;
	}
	on_failure(feed, status, n, result, request.give_up_text != NULL);
	return PI_FEED_FAILED;
}

void
pi_feed_undo_attempt(PiFeed *feed)
{
	if (feed->attempting)
		pi_journal_attempt_undone(feed->attempted);
	feed->attempting = false;
}

PiFeedStatus
pi_feed_rehearse(PiFeed *feed, const PiFeedWorld *world)
{
	PiApplyRequest request;
	PiApplyResult result;
	PiApplyStatus status;
	int			n;

	n = Min(feed->batch->nitems - feed->batch->done, pi_batch_size);
	if (n == 0)
		return PI_FEED_DONE;
	fill_request(feed, world, n, &request);
	request.rehearse = true;
	status = pi_apply(&request, &result);
	switch (status)
	{
		case PI_APPLY_ABSENT:
			return PI_FEED_ABSENT;
		case PI_APPLY_TRANSIENT:
		case PI_APPLY_SETUP:
			on_failure(feed, status, n, &result, false);
			return PI_FEED_FAILED;
		default:

			/*
			 * It works, or single messages are the trouble, which only a real
			 * attempt finds out.
			 */
			return PI_FEED_DONE;
	}
}
