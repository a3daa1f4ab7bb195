/*-------------------------------------------------------------------------
 *
 * apply.c
 *		One transaction for a batch, or a piece of one.
 *
 * NOTES
 *		What happens in the transaction, in this order and for these reasons:
 *
 *		1  take part in the order of batches, then look whether the
 *		   connection that delivered this one still lives (repeats.c says why)
 *		2  forget records that are settled, if they are enough to be worth
 *		   it: costs no commit of its own
 *		3  recognise what was applied before
 *		4  import the rest
 *		5  write the record of this batch: digests and results
 *		6  remember what a producer may send again
 *
 *		Whatever throws, the transaction is aborted and the error becomes a
 *		status: nothing was written then, and the caller decides what to try
 *		next.  Only FATAL passes through.
 *
 *		batch_timeout limits every transaction of the worker, which might
 *		otherwise wait for somebody's lock on a table for ever; it begins
 *		anew with step 4, because a message is only to blame for what happens
 *		from there on.  It does not run during the commit: a cancelled wait
 *		for a standby would look like a success.
 *
 * IDENTIFICATION
 *		src/apply.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "apply.h"
#include "body.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "compat.h"
#include "crashpoint.h"
#include "engine.h"
#include "errlog.h"
#include "executor/spi.h"
#include "outbox.h"
#include "repeats.h"
#include "settings.h"
#include "shmem.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/*
 * Settled records are forgotten by a batch when they have so many messages,
 * or when it is so long ago that any were: while messages come one by one,
 * somebody may wait for each result, and one statement does for many.
 */
#define FORGET_MESSAGES 64
#define FORGET_MS 200

typedef struct Apply
{
	const PiApplyRequest *request;
	PiApplyResult *result;
	MemoryContext work;			/* survives the commit */
	int			n;
	PiRepeats	repeats;
	PiBatchResult batch;		/* of what was imported */
	int			nfresh;
	int			redelivered;
	/* how far the engine has come */
	bool		importing;
	bool		lost;
	bool		undecided;
	int			ticks;
	TimestampTz last_tick;
} Apply;

/* A transaction of the worker: what it does, and how it is to commit. */
typedef struct Transaction
{
	void		(*work) (void *arg);
	void	   *arg;
	bool		relaxed;
	bool		roll_back;
	bool		absent;			/* out: there was no usable extension */
} Transaction;

/* The table the outbox was read from; invalid: none. */
static Oid	attached_table = InvalidOid;

/* The sequence of its numbers, and the file of that one; invalid: none. */
static Oid	attached_sequence = InvalidOid;
static Oid	sequence_file = InvalidOid;

/* When records were forgotten last. */
static TimestampTz forgot_at = 0;

/* profimport.role was empty when we began; if it changes we are ended. */
static bool runs_as_owner = false;

/* The extension is that of another owner than we run as. */
static bool stranger = false;

static Oid
batch_table(void)
{
	Oid			schema = get_namespace_oid("profimport", true);

	return OidIsValid(schema) ? get_relname_relid("batch", schema) : InvalidOid;
}

/* A sequence gets another file when it is restarted. */
static Oid
file_of(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			file;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return file;
}

void
pi_apply_attach(void)
{
	attached_table = batch_table();
	attached_sequence = get_relname_relid("batch_batch_id_seq",
										  get_namespace_oid("profimport", false));
	sequence_file = file_of(attached_sequence);
}

/*
 * TRUNCATE profimport.batch RESTART IDENTITY: the numbers of the records in
 * memory are given out again, to others.
 */
static void
notice_restart(void)
{
	Oid			file = file_of(attached_sequence);

	if (file == sequence_file)
		return;
	sequence_file = file;
	pi_outbox_disown();
	pi_slot_set_open_batches(0);
}

void
pi_apply_detach(void)
{
	attached_table = InvalidOid;
}

bool
pi_apply_is_stranger(void)
{
	return stranger;
}

static bool
attached_objects_are_there(Oid *owner)
{
	const char *reason;

	if (!pi_extension_usable(&reason, owner))
	{
		pi_slot_set_error(reason);
		return false;
	}
	if (!OidIsValid(attached_table))
		return true;
	if (attached_table != batch_table())
		return false;
	notice_restart();
	return true;
}

bool
pi_apply_at_home(void)
{
	Oid			owner;

	stranger = false;
	if (!attached_objects_are_there(&owner))
		return false;
	stranger = runs_as_owner && owner != GetUserId();
	return !stranger;
}

bool
pi_apply_may_note_end(void)
{
	Oid			owner;

	/* the role may be one that is not wanted any more; that is why we end */
	return attached_objects_are_there(&owner) &&
		pg_class_aclcheck(batch_table(), GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

const char *
pi_sqlstate_text(int sqlerrcode)
{
	return unpack_sql_state(sqlerrcode);
}

/*
 * Settings that a role or a database may carry and that would change what
 * the worker does.  The timeouts are those of somebody who waits for answers.
 */
void
pi_apply_init(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"session_replication_role", "origin"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"application_name", "profimport"},
		{"check_function_bodies", "on"},	/* see pi_restoring() */
		{"jit", "off"},			/* statements are short, and plans are kept */
		{"lc_messages", "C"},	/* see describe_error() */
	};

	runs_as_owner = pi_role[0] == '\0';
	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
	}
}

/* ---- a transaction -------------------------------------------------- */

/*
 * Whoever confirms an import must not lose it: synchronous_commit is at
 * least "on" when it matters, which is while the commit record is written.
 * Set last, because a function of the user might set it for the transaction.
 */
static void
set_durability(bool relaxed)
{
	if (relaxed || synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		(void) set_config_option("synchronous_commit", relaxed ? "off" : "on",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);
}

static void
run_transaction(Transaction *xact)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pi_batch_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, pi_batch_timeout);
	if (!pi_apply_at_home())
	{
		xact->absent = true;
		disable_timeout(STATEMENT_TIMEOUT, false);
		AbortCurrentTransaction();
		return;
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
	xact->work(xact->arg);
	disable_timeout(STATEMENT_TIMEOUT, false);
	/* if it has just fired, here and not in a wait for a standby */
	CHECK_FOR_INTERRUPTS();
	PopActiveSnapshot();
	SPI_finish();
	if (xact->roll_back)
		AbortCurrentTransaction();
	else
	{
		set_durability(xact->relaxed);
		CommitTransactionCommand();

		/*
		 * Who is told to stop while it waits for a synchronous standby does
		 * not wait any longer, and the commit succeeds here alone.  Nothing
		 * may be acknowledged then.  Only an order to stop: a cancellation
		 * would look like a failure, and the batch be imported again.  (The
		 * death of the postmaster ends the wait the same way, but sets only
		 * ProcDiePending, of which nobody would take notice.)
		 */
		if (ProcDiePending)
		{
			InterruptPending = true;
			CHECK_FOR_INTERRUPTS();
		}
	}
}

/*
 * A message that may be shown: nothing that quotes data.  Errors of the
 * kinds that are retried come from the server and name objects; only a
 * function of the user can put anything else into one.
 */
static void
describe_error(const ErrorData *edata, char *buf, size_t size)
{
	bool		hide = edata->message == NULL || pi_raised_by_user(edata);

	/*
	 * A command that such a function puts together from data fails in the
	 * server itself, and the message quotes it.  The context is in English:
	 * pi_apply_init() sets lc_messages.
	 */
	if (edata->context != NULL &&
		(strstr(edata->context, "PL/") != NULL ||
		 strstr(edata->context, "SQL function") != NULL))
		hide = true;
	if (!pi_sqlstate_is_transient(edata->sqlerrcode) &&
		!pi_sqlstate_is_setup(edata->sqlerrcode))
		hide = true;
	if (hide)
		snprintf(buf, size, "SQLSTATE %s",
				 unpack_sql_state(edata->sqlerrcode));
	else
		snprintf(buf, size, "%s (SQLSTATE %s)", edata->message,
				 unpack_sql_state(edata->sqlerrcode));
}

/* The transaction with its errors caught. */
static PiApplyStatus
try_transaction(Transaction *xact, PiApplyResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	volatile PiApplyStatus status = PI_APPLY_DONE;

	PG_TRY();
	{
		run_transaction(xact);
		if (xact->absent)
			status = PI_APPLY_ABSENT;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		HOLD_INTERRUPTS();
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		result->sqlerrcode = edata->sqlerrcode;
		describe_error(edata, result->message, sizeof(result->message));
		if (edata->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
			status = PI_APPLY_MEMORY;
		else if (pi_sqlstate_is_transient(edata->sqlerrcode))
			status = PI_APPLY_TRANSIENT;
		else if (pi_sqlstate_is_setup(edata->sqlerrcode))
			status = PI_APPLY_SETUP;
		else
			status = PI_APPLY_PERMANENT;
		FreeErrorData(edata);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return status;
}

PiApplyStatus
pi_apply_small(void (*work) (void *arg), void *arg, bool relaxed,
			   PiApplyResult *result)
{
	Transaction xact = {work, arg, relaxed, false, false};
	PiApplyStatus status;

	memset(result, 0, sizeof(PiApplyResult));
	result->at = -1;
	status = try_transaction(&xact, result);
	pgstat_report_stat(false);
	return status;
}

/* ---- properties for import_error.headers ---------------------------- */

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = (char *) key;
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
}

static void
push_string(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue	v;

	if (value == NULL)
		return;
	push_key(state, key);
	v.type = jbvString;
	v.val.string.val = (char *) value;
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

static void
push_number(JsonbParseState **state, const char *key, uint64 value)
{
	JsonbValue	v;

	push_key(state, key);
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric((int64) Min(value, PG_INT64_MAX));
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* The header table: amqp.c gives JSON, and body.c reads it without throwing. */
static void
push_headers(JsonbParseState **state, const char *headers_json)
{
	PiBody		body;

	if (headers_json == NULL || headers_json[0] == '\0')
		return;
	pi_body_parse(headers_json, strlen(headers_json), &body);
	if (body.root == NULL)
		return;
	push_key(state, "headers");
	pushJsonbValue(state, WJB_VALUE, body.root);
}

static Jsonb *
properties_jsonb(const PiAmqpProperties *p)
{
	JsonbParseState *state = NULL;
	JsonbValue *root;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, "app_id", p->app_id);
	push_string(&state, "content_encoding", p->content_encoding);
	push_string(&state, "content_type", p->content_type);
	push_string(&state, "correlation_id", p->correlation_id);
	if (p->has_delivery_mode)
		push_number(&state, "delivery_mode", p->delivery_mode);
	push_string(&state, "expiration", p->expiration);
	push_headers(&state, p->headers_json);
	push_string(&state, "message_id", p->message_id);
	if (p->has_priority)
		push_number(&state, "priority", p->priority);
	push_string(&state, "reply_to", p->reply_to);
	if (p->has_timestamp)
		push_number(&state, "timestamp", p->timestamp);
	push_string(&state, "type", p->type);
	push_string(&state, "user_id", p->user_id);
	root = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(root);
}

/* ---- the batch ------------------------------------------------------ */

static void
lose_connection(Apply *a)
{
	a->lost = true;
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the connection to the broker was lost")));
}

static void
on_tick(void *arg)
{
	Apply	   *a = (Apply *) arg;

	a->ticks++;
	a->last_tick = GetCurrentTimestamp();
	if (!a->request->tick(false))
		lose_connection(a);
}

/*
 * Until then a message without identity may be taken for one of them when the
 * worker dies: no more than README allows for, which is prefetch.
 */
static bool
forgetting_is_due(void)
{
	int			n = pi_outbox_settled_messages();
	int			enough = Min(pi_batch_size, pi_effective_prefetch());

	return n >= Min(FORGET_MESSAGES, enough) ||
		(n > 0 && TimestampDifferenceExceeds(forgot_at, GetCurrentTimestamp(),
											 FORGET_MS));
}

static void
forget_settled(void)
{
	PiSettled	settled;

	forgot_at = GetCurrentTimestamp();
	pi_outbox_settled(&settled);
	pi_journal_delete(settled.done, settled.ndone);
	pi_journal_arrived(settled.arrived, settled.narrived);
	pi_journal_acknowledged(settled.acknowledged, settled.nacknowledged);
}

static void
forget_work(void *arg)
{
	forget_settled();
}

PiApplyStatus
pi_apply_forget(PiApplyResult *result)
{
	PiApplyStatus status = pi_apply_small(forget_work, NULL, true, result);

	pi_outbox_forget(status == PI_APPLY_DONE);
	return status;
}

/* Imports what is fresh; a->batch has a result for each of these. */
static void
import_fresh(Apply *a)
{
	const PiApplyRequest *request = a->request;
	PiInput    *inputs;
	MemoryContext old;

	old = MemoryContextSwitchTo(a->work);
	inputs = (PiInput *) palloc0(sizeof(PiInput) * Max(a->n, 1));
	for (int i = 0; i < a->n; i++)
	{
		const PiArrival *item = &request->items[i];
		PiInput    *input;

		if (a->repeats.verdicts[i] != PI_FRESH)
			continue;
		input = &inputs[a->nfresh++];
		input->body = item->delivery.body;
		input->len = item->delivery.len;
		input->too_large = item->too_large;
		input->properties = properties_jsonb(&item->delivery.props);
		if (request->give_up_text == NULL)
			PI_CRASHPOINT_BODY(input->body, input->len);
	}

	if (pi_batch_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, pi_batch_timeout);
	a->importing = true;
	a->last_tick = GetCurrentTimestamp();
	if (a->nfresh > 0 && request->give_up_text != NULL)
	{
		a->batch.results = (PiResult *) palloc0(sizeof(PiResult));
		pi_engine_give_up(&inputs[0], request->give_up_sqlstate,
						  request->give_up_text, &a->batch.results[0]);
		a->batch.failed = 1;
	}
	else if (a->nfresh > 0)
		pi_engine_batch(inputs, a->nfresh, 0, on_tick, a, &a->batch);
	MemoryContextSwitchTo(old);
}

/* The messages to publish, in the order of the deliveries; events last. */
static void
build_outgoing(Apply *a, const char *prefix, const PiResult **results,
			   const PiOut **outs)
{
	PiBatchRecord *record = &a->result->record;
	MemoryContext old;
	int			fresh = 0;

	a->result->context = pi_outbox_context();
	old = MemoryContextSwitchTo(a->result->context);
	record->event_queue = pstrdup(pi_trigger_queue);
	record->out = (PiOut *) palloc0(sizeof(PiOut) *
									Max(a->n + a->batch.nevents, 1));
	for (int i = 0; i < a->n; i++)
	{
		PiOut	   *out = &record->out[record->nout];

		results[i] = NULL;
		outs[i] = NULL;
		if (a->repeats.verdicts[i] == PI_SETTLED)
			continue;
		if (a->repeats.verdicts[i] == PI_REPEATED)
		{
			const PiOut *answer = &a->repeats.answers[i];

			*out = *answer;
			out->message_id = pstrdup(answer->message_id);
			if (answer->correlation_id != NULL)
				out->correlation_id = pstrdup(answer->correlation_id);
			out->label = pstrdup(answer->label);
			out->body = pnstrdup(answer->body, answer->len);
		}
		else
		{
			const PiResult *result = &a->batch.results[fresh++];

			out->kind = PI_OUT_RESULT;
			out->message_id = psprintf("%s-%d", prefix, i + 1);
			out->correlation_id = pi_batch_correlation(&a->request->items[i],
													   result->feedback_id);
			out->label = pstrdup(pi_outcome_name(result->outcome));
			out->body = pi_result_json(result);
			out->len = strlen(out->body);
			results[i] = result;
			outs[i] = out;
		}
		record->nout++;
	}
	for (int i = 0; i < a->batch.nevents; i++)
	{
		PiOut	   *out = &record->out[record->nout++];

		out->kind = PI_OUT_EVENT;
		out->message_id = psprintf("%s-t%d", prefix, i + 1);
		out->label = pstrdup(a->batch.events[i].kind);
		out->body = pstrdup(a->batch.events[i].json);
		out->len = strlen(out->body);
	}
	MemoryContextSwitchTo(old);
}

static void
apply_work(void *arg)
{
	Apply	   *a = (Apply *) arg;
	const PiApplyRequest *request = a->request;
	PiBatchRecord *record = &a->result->record;
	PiRepeatScope scope;
	char		prefix[33];
	uint8	   *digests;
	const PiResult **results;
	const PiOut **outs;

	for (int i = 0; i < a->n; i++)
		a->redelivered += request->items[i].delivery.redelivered;

	pi_repeats_enter(a->redelivered > 0);
	if (!request->tick(true))
		lose_connection(a);
	if (!request->rehearse && forgetting_is_due())
		forget_settled();

	memset(&scope, 0, sizeof(scope));
	scope.live = pi_outbox_ids(true, &scope.nlive);
	scope.source = request->source;
	scope.all_kept = request->all_kept;
	scope.decide = request->decide || request->rehearse;
	scope.horizon = *request->horizon;
	pi_repeats_find(request->items, &a->n, &scope, &a->repeats);
	*request->horizon = scope.horizon;
	if (scope.undecided)
	{
		a->undecided = true;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another worker knows whether a message was imported")));
	}
	import_fresh(a);

	pi_journal_new_uuid(prefix);
	results = (const PiResult **) palloc(sizeof(PiResult *) * a->n);
	outs = (const PiOut **) palloc(sizeof(PiOut *) * a->n);
	build_outgoing(a, prefix, results, outs);

	digests = (uint8 *) palloc((Size) a->n * PI_DIGEST_LEN);
	for (int i = 0; i < a->n; i++)
		memcpy(digests + (Size) i * PI_DIGEST_LEN, request->items[i].digest,
			   PI_DIGEST_LEN);
	record->batch_id = pi_journal_insert(pi_my_worker + 1, request->source,
										 digests, a->n,
										 record->out, record->nout);
	record->has_digests = true;
	if (pi_open_batches(pi_my_worker) == 0)
		pi_slot_set_open_batches(record->batch_id);
	pi_repeats_remember(record->batch_id, prefix, request->items, a->n,
						results, outs);
	if (request->attempted)
		pi_journal_attempt_over(request->items[0].digest);
	PI_CRASHPOINT("before-commit");
}

static void
apply_error_context(void *arg)
{
	const PiApplyRequest *request = (const PiApplyRequest *) arg;

	if (request->n == 1)
		errcontext("importing delivery " UINT64_FORMAT " of queue \"%s\"",
				   request->items[0].delivery.tag, request->queue);
	else
		errcontext("importing deliveries " UINT64_FORMAT " to " UINT64_FORMAT
				   " of queue \"%s\"", request->items[0].delivery.tag,
				   request->items[request->n - 1].delivery.tag,
				   request->queue);
}

/* Where a failure in the middle of the import stood. */
static PiApplyStatus
locate_failure(const Apply *a, PiApplyStatus status, TimestampTz started)
{
	PiApplyResult *result = a->result;
	TimestampTz now = GetCurrentTimestamp();

	if (a->lost)
		return PI_APPLY_LOST;
	if (a->undecided)
		return PI_APPLY_UNDECIDED;
	if (!a->importing)
		return status;

	/*
	 * Ticks count imports; a batch that was redone in halves has more than
	 * messages.  With repeats in the batch the count says nothing about where
	 * they are.
	 */
	if (a->ticks < a->n && a->nfresh == a->n)
	{
		result->at = a->ticks;
		result->slow = now - a->last_tick > (now - started) / 2;
	}
	if (result->sqlerrcode == ERRCODE_QUERY_CANCELED && pi_batch_timeout > 0 &&
		now - started >= (int64) pi_batch_timeout * 1000)
		return PI_APPLY_TIMEOUT;
	return status;
}

PiApplyStatus
pi_apply(const PiApplyRequest *request, PiApplyResult *result)
{
	Apply		a;
	Transaction xact = {apply_work, &a, false, request->rehearse, false};
	ErrorContextCallback callback;
	TimestampTz started = GetCurrentTimestamp();
	PiApplyStatus status;
	char		activity[128];

	memset(&a, 0, sizeof(a));
	memset(result, 0, sizeof(PiApplyResult));
	result->at = -1;
	a.request = request;
	a.result = result;
	a.n = request->n;
	a.work = AllocSetContextCreate(TopMemoryContext, "profimport apply",
								   ALLOCSET_DEFAULT_SIZES);

	snprintf(activity, sizeof(activity), "profimport: importing %d messages",
			 request->n);
	pgstat_report_activity(STATE_RUNNING, activity);
	callback.callback = apply_error_context;
	callback.arg = (void *) request;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	status = try_transaction(&xact, result);

	error_context_stack = callback.previous;
	if (status == PI_APPLY_DONE && !request->rehearse)
	{
		TimestampTz now = GetCurrentTimestamp();

		result->n = a.n;
		result->record.committed_at = now;
		pi_outbox_forget(true);
		pi_errlog_write(a.batch.results, a.nfresh);
		pi_errlog_tell(a.batch.results, a.nfresh);
		pi_slot_count_batch(&a.batch, a.nfresh, a.redelivered,
							a.repeats.nsettled + a.repeats.nrepeated,
							(now - started) / 1000.0);
	}
	else
	{
		pi_outbox_forget(false);
		if (result->context != NULL)
			MemoryContextDelete(result->context);
		result->context = NULL;
		if (status != PI_APPLY_DONE && status != PI_APPLY_ABSENT)
		{
			status = locate_failure(&a, status, started);
			pi_slot_count_retry();
		}
	}
	MemoryContextDelete(a.work);
	pgstat_report_stat(false);
	return status;
}
