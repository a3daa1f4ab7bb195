/*-------------------------------------------------------------------------
 *
 * engine.c
 *		A batch of messages: each becomes a result, one bad message never
 *		affects another.
 *
 * NOTES
 *		What is expected to go wrong with a message is a value and costs
 *		nothing.  Only what the database throws (a trigger of the user, a
 *		constraint of theirs) needs a subtransaction: the whole batch runs in
 *		one; if something throws, the batch is rolled back to its start and
 *		redone in halves until the culprit stands alone.
 *
 *		Before anything is looked up, the values that messages look at are
 *		locked, in one order for everybody: of two batches that look for the
 *		same new value, one waits until the other has committed, then finds
 *		what it made.  The order keeps two batches from deadlocking.  Writers
 *		by ordinary SQL do not take these locks; against them unique indexes
 *		decide, and whoever loses is done again (see lost_race).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "body.h"
#include "compat.h"
#include "engine.h"
#include "events.h"
#include "import_one.h"
#include "settings.h"
#include "store.h"

/* Trees of larger messages are not kept between locking and importing. */
#define KEEP_TREE_BYTES 65536

/* Fewer messages than that are not worth a statement to look ahead. */
#define MIN_AHEAD 8

/* How often a message that loses a race is done again. */
#define MAX_RACES 10

/*
 * Locks on values: beyond so many in one transaction, one lock on everything
 * is taken instead, so that the lock table is not used up by a large batch or
 * by many calls of import() in one transaction.
 */
#define MAX_VALUE_LOCKS 2000
#define VALUE_LOCK_CLASS 7		/* 1 and 2 are pg_advisory_lock()'s */

typedef struct PiEngine
{
	const PiInput *inputs;
	int			n;
	PiItem	   *items;
	PiResult   *results;
	PiEventList events;
	int			setup_failures; /* messages that met class 42 or 3F */
	ErrorData  *setup_error;	/* the first of them */
	MemoryContext result_context;
	MemoryContext batch_context;
	MemoryContext message_context;	/* reset after each message */
	PiTick		tick;
	void	   *tick_arg;
} PiEngine;

/* ---- locks on values ------------------------------------------------------- */

static int
compare_uint64(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

static void
lock_value(uint64 value, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (value >> 32), (uint32) value,
						 VALUE_LOCK_CLASS);
	(void) LockAcquire(&tag, mode, false, false);
}

/* Locks of this transaction; see MAX_VALUE_LOCKS. */
static int	value_locks = 0;
static bool all_values_locked = false;

static void
forget_locks(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
	{
		value_locks = 0;
		all_values_locked = false;
	}
}

/* A subtransaction gives back what it locked: to count too many is harmless. */
static void
forget_locks_of_subxact(SubXactEvent event, SubTransactionId mySubid,
						SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		all_values_locked = false;
}

static void
lock_values(uint64 *values, int n)
{
	static bool registered = false;
	int			distinct = 0;

	if (!registered)
	{
		RegisterXactCallback(forget_locks, NULL);
		RegisterSubXactCallback(forget_locks_of_subxact, NULL);
		registered = true;
	}
	if (n == 0 || all_values_locked)
		return;
	qsort(values, n, sizeof(uint64), compare_uint64);
	for (int i = 0; i < n; i++)
		if (i == 0 || values[i] != values[distinct - 1])
			values[distinct++] = values[i];

	/* value 0 stands for all values */
	value_locks += distinct;
	if (value_locks > MAX_VALUE_LOCKS)
	{
		lock_value(0, ExclusiveLock);
		all_values_locked = true;
		return;
	}
	lock_value(0, ShareLock);
	for (int i = 0; i < distinct; i++)
		if (values[i] != 0)
			lock_value(values[i], ExclusiveLock);
}

/*
 * Reads every message as far as it can be read without its profile, and
 * locks what they look at.
 */
static void
prepare(PiEngine *e)
{
	uint64	   *values = NULL;
	int			nvalues = 0;
	int			room = 0;

	for (int i = 0; i < e->n; i++)
	{
		PiItem	   *item = &e->items[i];
		bool		keep = e->inputs[i].len <= KEEP_TREE_BYTES;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(keep ? e->batch_context : e->message_context);
		pi_item_read(item, &e->inputs[i]);
		if (nvalues + item->nlocks > room)
		{
			MemoryContextSwitchTo(e->batch_context);
			room = Max(2 * room, nvalues + item->nlocks + e->n);
			values = values ? repalloc_huge(values, sizeof(uint64) * room) :
				MemoryContextAllocHuge(e->batch_context, sizeof(uint64) * room);
		}
		if (item->nlocks > 0)
			memcpy(values + nvalues, item->locks, sizeof(uint64) * item->nlocks);
		nvalues += item->nlocks;
		if (!keep)
		{
			item->read = false;
			MemoryContextReset(e->message_context);
		}
	}
	MemoryContextSwitchTo(e->batch_context);
	lock_values(values, nvalues);
}

/* ---- one message ------------------------------------------------------------- */

static char *
keep(PiEngine *e, const char *s)
{
	return MemoryContextStrdup(e->result_context, s);
}

/* A result in the memory of the results. */
static void
keep_result(PiEngine *e, PiResult *r)
{
	r->error_text = keep(e, r->error_text);
	r->feedback_id = keep(e, r->feedback_id);
	r->matching_field = keep(e, r->matching_field);
	r->profile_id = keep(e, r->profile_id);
	r->matching = r->matching_field;
}

static void
import_message(PiEngine *e, int i)
{
	PiItem	   *item = &e->items[i];
	PiResult   *r = &e->results[i];

	MemoryContextSwitchTo(e->message_context);
	if (!item->read)
		pi_item_read(item, &e->inputs[i]);
	memset(r, 0, sizeof(*r));
	pi_import_one(item, r, &e->events);
	keep_result(e, r);
	if (e->inputs[i].len > KEEP_TREE_BYTES)
		item->read = false;
	MemoryContextSwitchTo(e->batch_context);
	MemoryContextReset(e->message_context);
}

bool
pi_raised_by_user(const ErrorData *edata)
{
	static const char *const languages[] = {
		"pl_exec.c", "plperl.c", "plpy_", "pltcl.c"
	};

	for (int i = 0; i < lengthof(languages); i++)
		if (edata->filename != NULL && strstr(edata->filename, languages[i]))
			return true;
	return false;
}

/*
 * The name in a line of the context that tells a function, or NULL.  The text
 * of a command stands in the context too, and may hold data: what is not
 * exactly such a line is passed over.  (In English: see pi_store_begin().)
 */
static char *
function_in_context(const char *line)
{
	static const char *const heads[] = {
		"PL/pgSQL function ", "SQL function ", "PL/Perl function ",
		"PL/Python function ", "in PL/Tcl function "
	};
	const char *name = NULL;
	const char *p;
	bool		quoted = false;

	for (int i = 0; i < lengthof(heads); i++)
		if (strncmp(line, heads[i], strlen(heads[i])) == 0)
			name = line + strlen(heads[i]);
	if (name == NULL)
		return NULL;
	for (p = name; *p != '\0' && *p != '\n' && (quoted || (*p != '(' && *p != ' ')); p++)
		if (*p == '"')
			quoted = !quoted;
	if (p == name || quoted)
		return NULL;
	return pnstrdup(name, p - name);
}

/* Where the context of an import ends, and that of who called it begins. */
#define OUR_CONTEXT "importing messages with profimport"

static void
add_our_context(void *arg)
{
	errcontext(OUR_CONTEXT);
}

/*
 * The function or constraint that an error came from, as far as it tells
 * without data: the first function of the context is the innermost.
 */
static char *
error_place(const ErrorData *edata)
{
	const char *line = edata->context;

	/* RAISE ... USING CONSTRAINT may say anything */
	if (edata->constraint_name && !pi_raised_by_user(edata))
		return psprintf(", constraint \"%s\"", edata->constraint_name);
	while (line != NULL && *line != '\0')
	{
		char	   *name = function_in_context(line);

		if (strncmp(line, OUR_CONTEXT, strlen(OUR_CONTEXT)) == 0)
			break;
		if (name != NULL && strchr(name, '"') != NULL)
			return psprintf(", function %s", name);
		if (name != NULL)
			return psprintf(", function \"%s\"", name);
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return pstrdup("");
}

static void
fail_with_error(PiEngine *e, int i, const ErrorData *edata, bool conflict)
{
	PiItem	   *item = &e->items[i];
	PiResult   *r = &e->results[i];

	MemoryContextSwitchTo(e->message_context);
	if (!item->read)
		pi_item_read(item, &e->inputs[i]);
	memset(r, 0, sizeof(*r));
	pi_item_echo(item, r);
	if (conflict)
		pi_fail(r, 409, "The write would break the uniqueness of a field.");
	else
	{
		strlcpy(r->sqlstate, unpack_sql_state(edata->sqlerrcode), sizeof(r->sqlstate));
		pi_fail(r, 500, psprintf("The import failed with SQLSTATE %s%s.",
								 r->sqlstate, error_place(edata)));
	}
	keep_result(e, r);
	if (e->inputs[i].len > KEEP_TREE_BYTES)
		item->read = false;
	MemoryContextSwitchTo(e->batch_context);
	MemoryContextReset(e->message_context);
}

/* ---- slices of a batch --------------------------------------------------------- */

/*
 * Did the error come of somebody else's write between our look-up and our
 * write?  Then the same message, done again, sees that write.
 */
static bool
lost_race(const ErrorData *edata)
{
	static const char *const constraints[] = {
		"profile_email_key", "profile_key_unique", "profile_key_pkey", "profile_pkey",
		"subscription_contact_key", "subscription_profile_fkey"
	};

	if (pi_version_gone)
		return true;
	if (edata->sqlerrcode != ERRCODE_UNIQUE_VIOLATION &&
		edata->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
		return false;
	if (edata->schema_name == NULL || strcmp(edata->schema_name, "profimport") != 0 ||
		edata->constraint_name == NULL)
		return false;
	for (int i = 0; i < lengthof(constraints); i++)
		if (strcmp(edata->constraint_name, constraints[i]) == 0)
			return true;
	return false;
}

/*
 * Reads what the batch looks for by email, if nothing but the engine writes
 * profiles while it runs.
 */
static void
look_ahead(PiEngine *e)
{
	PiSought   *sought = palloc(sizeof(PiSought) * e->n);
	int			n = 0;

	for (int i = 0; i < e->n; i++)
	{
		const PiItem *item = &e->items[i];

		if (!item->read || item->early_error != 0 || item->value_error != NULL ||
			!pi_modes[item->msg.mode].profile_half || item->msg.email == NULL)
			continue;
		sought[n].db = pi_config_database(item->msg.account_id, item->msg.db_id);
		sought[n++].email = item->msg.email;
	}
	if (n >= MIN_AHEAD)
		pi_find_ahead(sought, n);
}

/* True if every one of [lo, hi) was imported; else the slice is undone. */
static bool
try_slice(PiEngine *e, int lo, int hi, bool ahead, ErrorData **edata)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	PiAhead    *before = pi_find_ahead_begin();
	ErrorContextCallback callback;
	volatile bool good = false;

	callback.callback = add_our_context;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	*edata = NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		if (ahead)
			look_ahead(e);
		for (int i = lo; i < hi; i++)
		{
			CHECK_FOR_INTERRUPTS();
			import_message(e, i);
			if (e->tick)
				e->tick(e->tick_arg);
		}
		pi_run_deferred_triggers();
		ReleaseCurrentSubTransaction();
		good = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		*edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextReset(e->message_context);
	}
	PG_END_TRY();
	pi_find_ahead_end(before);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	return good;
}

static void
run_slice(PiEngine *e, int lo, int hi)
{
	int			nevents = e->events.n;

	for (int races = 0;; races++)
	{
		ErrorData  *edata;
		bool		race;
		bool		ahead;

		pi_version_gone = false;
		ahead = races == 0 && hi - lo == e->n && e->n >= MIN_AHEAD && pi_engine_is_alone();
		if (try_slice(e, lo, hi, ahead, &edata))
			return;

		e->events.n = nevents;
		for (int i = lo; i < hi; i++)
			if (e->inputs[i].len > KEEP_TREE_BYTES)
				e->items[i].read = false;

		race = lost_race(edata);
		if (!race && pi_sqlstate_is_transient(edata->sqlerrcode))
			ReThrowError(edata);
		if (race && races < MAX_RACES)
		{
			FreeErrorData(edata);
			continue;
		}
		if (hi - lo == 1)
		{
			if (pi_sqlstate_is_setup(edata->sqlerrcode))
			{
				e->setup_failures++;
				if (e->setup_error == NULL)
					e->setup_error = edata;
			}
			if (race && pi_version_gone)
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not import a message due to concurrent update")));
			fail_with_error(e, lo, edata, race);
			return;
		}
		FreeErrorData(edata);
		break;
	}
	run_slice(e, lo, lo + (hi - lo) / 2);
	run_slice(e, lo + (hi - lo) / 2, hi);
}

/* ---- the batch ------------------------------------------------------------------- */

static void
write_errors(PiEngine *e)
{
	for (int i = 0; i < e->n; i++)
	{
		PiResult   *r = &e->results[i];
		const PiInput *in = &e->inputs[i];

		if (r->error != 0)
			pi_insert_error(r->error, r->error_text,
							in->too_large ? "54000" : r->sqlstate, r->feedback_id,
							r->account_id, r->db_id, in->body, in->len, in->properties);
		MemoryContextReset(e->message_context);
	}
}

/*
 * Events go to the table, or as JSON to the caller, who sends them to
 * trigger_queue.
 */
static void
hand_out_events(PiEngine *e, PiBatchResult *out)
{
	PiEventList *list = &e->events;

	out->trigger_events = list->n;
	if (list->n == 0)
		return;
	pi_number_events(list->rows, list->n);
	if (pi_trigger_queue[0] == '\0')
	{
		pi_insert_events(list->rows, list->n);
		Async_Notify("profimport_trigger", NULL);
		return;
	}
	MemoryContextSwitchTo(e->result_context);
	out->events = palloc(sizeof(PiEvent) * list->n);
	out->nevents = list->n;
	for (int i = 0; i < list->n; i++)
	{
		out->events[i].ordinal = list->ordinals[i];
		out->events[i].kind = list->rows[i].kind;
		out->events[i].json = pi_event_json(&list->rows[i]);
	}
	MemoryContextSwitchTo(e->batch_context);
}

static void
set_up(PiEngine *e, const PiInput *inputs, int n, PiBatchResult *out)
{
	memset(e, 0, sizeof(*e));
	memset(out, 0, sizeof(*out));
	e->inputs = inputs;
	e->n = n;
	e->result_context = CurrentMemoryContext;
	out->results = e->results = MemoryContextAllocHuge(e->result_context,
													   sizeof(PiResult) * Max(n, 1));
	e->batch_context = AllocSetContextCreate(CurrentMemoryContext, "profimport batch",
											 ALLOCSET_DEFAULT_SIZES);
	e->message_context = AllocSetContextCreate(e->batch_context, "profimport message",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(e->batch_context);
	e->items = MemoryContextAllocHuge(e->batch_context, sizeof(PiItem) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		memset(&e->items[i], 0, sizeof(PiItem));
		e->items[i].ordinal = i;
	}
	e->events.context = e->batch_context;
}

void
pi_engine_batch(const PiInput *inputs, int n, int flags, PiTick tick, void *tick_arg,
				PiBatchResult *out)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	PiEngine	engine;
	PiEngine   *e = &engine;
	bool		dry_run = (flags & PI_ENGINE_DRY_RUN) != 0;
	int			nestlevel;
	int			succeeded = 0;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("profimport imports only in READ COMMITTED transactions"),
				 errhint("SET TRANSACTION ISOLATION LEVEL READ COMMITTED.")));
	set_up(e, inputs, n, out);
	e->tick = tick;
	e->tick_arg = tick_arg;
	if (n == 0)
	{
		MemoryContextSwitchTo(oldcontext);
		return;
	}

	SPI_connect();
	MemoryContextSwitchTo(e->batch_context);
	nestlevel = pi_store_begin();
	prepare(e);
	run_slice(e, 0, n);

	for (int i = 0; i < n; i++)
	{
		succeeded += e->results[i].error == 0;
		out->failed += e->results[i].error != 0;
	}
	/* A missing grant and the like hits everybody: it is not the messages. */
	if (e->setup_failures > 0 && succeeded == 0)
		ReThrowError(e->setup_error);

	if (!dry_run)
	{
		hand_out_events(e, out);
		if (out->failed > 0 && (flags & PI_ENGINE_NO_ERROR_ROW) == 0)
			write_errors(e);
	}
	pi_store_end(nestlevel);
	SPI_finish();
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(e->batch_context);
}

void
pi_engine_give_up(const PiInput *input, const char *sqlstate, const char *error_text,
				  PiResult *out)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	PiBatchResult batch;
	PiEngine	engine;
	PiEngine   *e = &engine;

	set_up(e, input, 1, &batch);
	SPI_connect();
	MemoryContextSwitchTo(e->batch_context);
	pi_item_read_echo(&e->items[0], input);
	memset(&e->results[0], 0, sizeof(PiResult));
	pi_item_echo(&e->items[0], &e->results[0]);
	strlcpy(e->results[0].sqlstate, sqlstate, sizeof(e->results[0].sqlstate));
	pi_fail(&e->results[0], 500, error_text);
	keep_result(e, &e->results[0]);
	write_errors(e);
	SPI_finish();
	MemoryContextSwitchTo(oldcontext);
	*out = e->results[0];
	MemoryContextDelete(e->batch_context);
}
