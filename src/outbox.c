/*-------------------------------------------------------------------------
 *
 * outbox.c
 *		Results and events on their way to the broker: unsent, sent,
 *		confirmed.
 *
 * NOTES
 *		A record leaves when two things are known, in whatever order they
 *		become known: that the broker has its messages (confirms), and that
 *		it will not deliver the batch again (ack seen by the channel, or the
 *		connection died and it is too late to know).
 *
 *		Confirms carry sequence numbers, which count from 1 in each
 *		connection.  "flight" is a ring with one entry per number that is not
 *		confirmed yet; entry i stands for number flight_first + i.
 *
 *		A message that the broker returned is confirmed after that, so the
 *		return only marks the entry, and the confirm makes it unsent again.
 *
 * IDENTIFICATION
 *		src/outbox.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "outbox.h"
#include "settings.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * An acknowledged record loses its digests in the table with the next batch:
 * the fewer there are, the fewer messages without identity can be taken for
 * one of them.  With nothing else to do, a transaction of its own is made for
 * that only if its results do not arrive soon.
 */
#define THIN_AFTER_MS 1000

/*
 * The channel answers before a quorum queue has written the acknowledgement
 * to its log, so a broker that dies in between delivers the batch again.  By
 * then it is written.
 */
#define QUORUM_LOG_MS 1000

/* Messages sent in one call, so that others get their turn. */
#define PUBLISH_AT_ONCE 2000

typedef enum AckState
{
	ACK_SENT,					/* on the connection that is open */
	ACK_SEEN,					/* by the channel, or none is needed; see
								 * is_firm() */
	ACK_UNKNOWN					/* may come back */
} AckState;

typedef enum OutState
{
	OUT_UNSENT = 0,
	OUT_SENT,
	OUT_CONFIRMED
} OutState;

typedef struct Record
{
	dlist_node	node;
	MemoryContext context;		/* holds this struct as well */
	int64		batch_id;		/* 0: of no row, see pi_outbox_disown() */
	AckState	ack;
	uint64		ack_tag;		/* ACK_SENT */
	TimestampTz seen_at;		/* ACK_SEEN; 0: long ago */
	bool		digests_stored; /* in the table */
	bool		collected;		/* by pi_outbox_settled() */
	char	   *event_queue;
	int			nout;
	PiOut	   *out;
	uint8	   *states;			/* OutState */
	int			cursor;			/* none before it is unsent */
	int			unconfirmed;
} Record;

typedef struct Flight
{
	Record	   *record;
	int			index;
	bool		over;
	bool		returned;
} Flight;

static MemoryContext outbox_context;
static dlist_head records;
static bool from_quorum_queue;
static uint64 pending;
static uint64 unsent;

static Flight *flight;
static uint64 flight_size;		/* a power of two */
static uint64 flight_head;		/* where flight_first is in the ring */
static uint64 flight_first;
static uint64 flight_count;
static uint64 return_hint;		/* returns come in the order of publishing */

static Flight *
flight_at(uint64 seq)
{
	return &flight[(flight_head + (seq - flight_first)) & (flight_size - 1)];
}

static void
reset_flight(void)
{
	flight_head = 0;
	flight_first = 1;
	flight_count = 0;
	return_hint = 0;
}

void
pi_outbox_init(void)
{
	outbox_context = AllocSetContextCreate(TopMemoryContext,
										   "profimport outbox",
										   ALLOCSET_DEFAULT_SIZES);
	dlist_init(&records);
	flight_size = 1024;
	flight = (Flight *) MemoryContextAlloc(TopMemoryContext,
										   sizeof(Flight) * flight_size);
	reset_flight();
}

void
pi_outbox_clear(void)
{
	MemoryContextReset(outbox_context);
	dlist_init(&records);
	pending = 0;
	unsent = 0;
	reset_flight();
}

static int
compare_int64(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return (x > y) - (x < y);
}

MemoryContext
pi_outbox_context(void)
{
	return AllocSetContextCreate(outbox_context, "profimport outbox record",
								 ALLOCSET_SMALL_SIZES);
}

/* In front of its transaction a record does not exist, so add it after. */
static Record *
add_record(MemoryContext context, const PiBatchRecord *from)
{
	Record	   *record = (Record *) MemoryContextAllocZero(context,
														   sizeof(Record));

	record->context = context;
	record->batch_id = from->batch_id;
	record->digests_stored = from->has_digests;
	record->event_queue = from->event_queue;
	record->nout = from->nout;
	record->out = from->out;
	record->states = (uint8 *) MemoryContextAllocZero(context,
													  Max(from->nout, 1));
	record->unconfirmed = from->nout;
	dlist_push_tail(&records, &record->node);
	pending += from->nout;
	unsent += from->nout;
	return record;
}

void
pi_outbox_add(MemoryContext context, const PiBatchRecord *from, uint64 ack_tag)
{
	Record	   *record = add_record(context, from);

	record->ack = ACK_SENT;
	record->ack_tag = ack_tag;
}

void
pi_outbox_load(const PiBatchRecord *from)
{
	MemoryContext context = pi_outbox_context();
	MemoryContext old = MemoryContextSwitchTo(context);
	PiBatchRecord copy = *from;
	Record	   *record;

	copy.event_queue = pstrdup(from->event_queue);
	copy.out = (PiOut *) palloc(sizeof(PiOut) * Max(from->nout, 1));
	for (int i = 0; i < from->nout; i++)
	{
		PiOut	   *out = &copy.out[i];

		*out = from->out[i];
		out->message_id = pstrdup(out->message_id);
		if (out->correlation_id != NULL)
			out->correlation_id = pstrdup(out->correlation_id);
		out->label = pstrdup(out->label);
		out->body = pnstrdup(out->body, out->len);
	}
	MemoryContextSwitchTo(old);

	record = add_record(context, &copy);
	record->ack = from->has_digests ? ACK_UNKNOWN : ACK_SEEN;
	record->seen_at = GetCurrentTimestamp();
}

void
pi_outbox_disown(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &records)
		dlist_container(Record, node, iter.cur)->batch_id = 0;
}

/* ---- the consumer connection ---------------------------------------- */

void
pi_outbox_acknowledged(uint64 tag)
{
	dlist_iter	iter;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (record->ack == ACK_SENT && record->ack_tag <= tag)
		{
			record->ack = ACK_SEEN;
			record->seen_at = now;
		}
	}
}

void
pi_outbox_consumer_opened(bool quorum_queue)
{
	from_quorum_queue = quorum_queue;
}

/* Can nothing of it come back, even if the broker dies now? */
static bool
is_firm(const Record *record, TimestampTz now)
{
	if (record->ack != ACK_SEEN)
		return false;
	return !record->digests_stored || !from_quorum_queue ||
		now >= TimestampTzPlusMilliseconds(record->seen_at, QUORUM_LOG_MS);
}

void
pi_outbox_consumer_lost(void)
{
	dlist_iter	iter;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (!is_firm(record, now))
			record->ack = ACK_UNKNOWN;
	}
}

void
pi_outbox_broker_lives(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (record->ack == ACK_SEEN)
			record->seen_at = 0;
	}
}

void
pi_outbox_settle(int64 *batch_ids, int n)
{
	dlist_iter	iter;

	qsort(batch_ids, n, sizeof(int64), compare_int64);
	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (record->ack != ACK_UNKNOWN ||
			bsearch(&record->batch_id, batch_ids, n, sizeof(int64),
					compare_int64) == NULL)
			continue;
		record->ack = ACK_SEEN;
		record->seen_at = 0;
	}
}

/* ---- the publisher connection --------------------------------------- */

static void
push_flight(uint64 seq, Record *record, int index)
{
	Flight	   *entry;

	if (flight_count == flight_size)
	{
		uint64		size = flight_size * 2;
		Flight	   *bigger = (Flight *)
		MemoryContextAllocHuge(TopMemoryContext, sizeof(Flight) * size);

		for (uint64 i = 0; i < flight_count; i++)
			bigger[i] = *flight_at(flight_first + i);
		pfree(flight);
		flight = bigger;
		flight_size = size;
		flight_head = 0;
	}
	if (flight_count == 0)
		flight_first = seq;
	Assert(seq == flight_first + flight_count);
	flight_count++;
	entry = flight_at(seq);
	entry->record = record;
	entry->index = index;
	entry->over = false;
	entry->returned = false;
}

static const char *
queue_of(const Record *record, const PiOut *out)
{
	if (out->kind == PI_OUT_RESULT)
		return pi_result_queue;
	if (pi_trigger_queue[0] != '\0')
		return pi_trigger_queue;
	return record->event_queue;
}

PiPublishStatus
pi_outbox_publish(PiAmqp *conn)
{
	dlist_iter	iter;
	int			sent = 0;

	if (unsent == 0)
		return PI_PUBLISH_SENT;

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		for (; record->cursor < record->nout; record->cursor++)
		{
			const PiOut *out = &record->out[record->cursor];
			PiPublish	p;
			uint64		seq;
			PiPublishStatus status;

			if (record->states[record->cursor] != OUT_UNSENT)
				continue;
			if (sent >= PUBLISH_AT_ONCE)
				return PI_PUBLISH_SENT;

			memset(&p, 0, sizeof(p));
			p.queue = queue_of(record, out);
			p.message_id = out->message_id;
			p.correlation_id = out->correlation_id;
			p.body = out->body;
			p.len = out->len;
			if (out->kind == PI_OUT_RESULT)
			{
				p.outcome = out->label;
				p.expiration_ms = (int64) pi_result_ttl * 1000;
			}
			else
				p.type = out->label;

			status = pi_amqp_publish(conn, &p, &seq);
			if (status != PI_PUBLISH_SENT)
				return status;
			record->states[record->cursor] = OUT_SENT;
			unsent--;
			sent++;
			push_flight(seq, record, record->cursor);
		}
	}
	return PI_PUBLISH_SENT;
}

static void
make_unsent(Record *record, int index)
{
	record->states[index] = OUT_UNSENT;
	record->cursor = Min(record->cursor, index);
	unsent++;
}

/* The end of one flight; true if the message has arrived. */
static bool
land(Flight *entry, bool nack)
{
	Record	   *record = entry->record;

	if (entry->over)
		return false;
	entry->over = true;
	if (nack || entry->returned)
	{
		make_unsent(record, entry->index);
		return false;
	}
	record->states[entry->index] = OUT_CONFIRMED;
	record->unconfirmed--;
	pending--;
	return true;
}

int
pi_outbox_confirmed(uint64 seq, bool multiple, bool nack)
{
	int			arrived = 0;

	if (flight_count == 0 || seq < flight_first)
		return 0;
	if (seq >= flight_first + flight_count)
		seq = flight_first + flight_count - 1;
	for (uint64 s = multiple ? flight_first : seq; s <= seq; s++)
	{
		if (land(flight_at(s), nack))
			arrived++;
	}
	while (flight_count > 0 && flight_at(flight_first)->over)
	{
		flight_head = (flight_head + 1) & (flight_size - 1);
		flight_first++;
		flight_count--;
	}
	return arrived;
}

/*
 * The result of a repeat has the message_id of the first one, and may be on
 * its way at the same time: then the correlation_id tells which it is.  That
 * is not always what was sent (amqp.c cuts and cleans), so it decides only if
 * it can.
 */
void
pi_outbox_returned(const char *message_id, const char *correlation_id)
{
	uint64		start = Max(return_hint, flight_first) - flight_first;
	uint64		found = 0;

	for (uint64 i = 0; i < flight_count; i++)
	{
		uint64		seq = flight_first + (start + i) % flight_count;
		Flight	   *entry = flight_at(seq);
		const PiOut *out;

		if (entry->over || entry->returned)
			continue;
		out = &entry->record->out[entry->index];
		if (strcmp(out->message_id, message_id) != 0)
			continue;
		if (found == 0)
			found = seq;
		if (strcmp(out->correlation_id ? out->correlation_id : "",
				   correlation_id) == 0)
		{
			found = seq;
			break;
		}
	}
	if (found != 0)
	{
		flight_at(found)->returned = true;
		return_hint = found + 1;
	}
}

void
pi_outbox_publisher_lost(void)
{
	for (uint64 i = 0; i < flight_count; i++)
	{
		Flight	   *entry = flight_at(flight_first + i);

		if (!entry->over)
			make_unsent(entry->record, entry->index);
	}
	reset_flight();
}

uint64
pi_outbox_pending(void)
{
	return pending;
}

uint64
pi_outbox_unsent(void)
{
	return unsent;
}

const char *
pi_outbox_former_queue(void)
{
	dlist_iter	iter;

	if (pi_trigger_queue[0] != '\0')
		return NULL;
	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (record->unconfirmed == 0)
			continue;

		/* events are behind the results */
		for (int i = record->nout - 1;
			 i >= 0 && record->out[i].kind == PI_OUT_EVENT; i--)
		{
			if (record->states[i] != OUT_CONFIRMED)
				return record->event_queue;
		}
	}
	return NULL;
}

/* ---- what the table may forget -------------------------------------- */

static inline TimestampTz
thin_at(const Record *record)
{
	return TimestampTzPlusMilliseconds(record->seen_at, THIN_AFTER_MS);
}

/* Is there something of it that the table may forget? */
static bool
has_settled(const Record *record, TimestampTz now)
{
	if (record->unconfirmed == 0)
		return record->ack == ACK_UNKNOWN || is_firm(record, now);
	return record->digests_stored && is_firm(record, now);
}

TimestampTz
pi_outbox_settled_at(void)
{
	dlist_iter	iter;
	TimestampTz at = 0;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (record->unconfirmed == 0 && has_settled(record, now))
			return now;
		if (record->ack == ACK_SEEN && record->digests_stored &&
			(at == 0 || thin_at(record) < at))
			at = thin_at(record);
	}
	return at;
}

int
pi_outbox_settled_messages(void)
{
	dlist_iter	iter;
	int			n = 0;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (has_settled(record, now))
			n += Max(record->nout, 1);
	}
	return n;
}

void
pi_outbox_settled(PiSettled *settled)
{
	dlist_iter	iter;
	int			n = 0;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &records)
		n++;
	memset(settled, 0, sizeof(PiSettled));
	if (n == 0)
		return;
	settled->done = (int64 *) palloc(sizeof(int64) * n);
	settled->arrived = (int64 *) palloc(sizeof(int64) * n);
	settled->acknowledged = (int64 *) palloc(sizeof(int64) * n);

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		record->collected = has_settled(record, now);
		if (!record->collected)
			continue;
		if (record->unconfirmed > 0)
			settled->acknowledged[settled->nacknowledged++] = record->batch_id;
		else if (record->ack == ACK_UNKNOWN)
			settled->arrived[settled->narrived++] = record->batch_id;
		else
			settled->done[settled->ndone++] = record->batch_id;
	}
}

void
pi_outbox_forget(bool committed)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (!record->collected)
			continue;
		record->collected = false;
		if (!committed)
			continue;
		if (record->unconfirmed == 0)
		{
			dlist_delete(&record->node);
			MemoryContextDelete(record->context);
		}
		else
			record->digests_stored = false;
	}
}

List	   *
pi_outbox_partial(void)
{
	dlist_iter	iter;
	List	   *list = NIL;

	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);
		PiBatchRecord *rest;

		if (record->unconfirmed == 0 || record->unconfirmed == record->nout)
			continue;
		rest = (PiBatchRecord *) palloc0(sizeof(PiBatchRecord));
		rest->batch_id = record->batch_id;
		rest->event_queue = record->event_queue;
		rest->out = (PiOut *) palloc(sizeof(PiOut) * record->unconfirmed);
		for (int i = 0; i < record->nout; i++)
		{
			if (record->states[i] != OUT_CONFIRMED)
				rest->out[rest->nout++] = record->out[i];
		}
		list = lappend(list, rest);
	}
	return list;
}

int64	   *
pi_outbox_ids(bool live_only, int *n)
{
	dlist_iter	iter;
	int64	   *ids;
	int			count = 0;

	dlist_foreach(iter, &records)
		count++;
	ids = (int64 *) palloc(sizeof(int64) * Max(count, 1));
	*n = 0;
	dlist_foreach(iter, &records)
	{
		Record	   *record = dlist_container(Record, node, iter.cur);

		if (!live_only || record->ack != ACK_UNKNOWN)
			ids[(*n)++] = record->batch_id;
	}
	qsort(ids, *n, sizeof(int64), compare_int64);
	return ids;
}
