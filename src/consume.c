/*-------------------------------------------------------------------------
 *
 * consume.c
 *		What a worker does: one turn of the loop from the queue to the result.
 *
 * NOTES
 *		A turn never waits, except for connecting and looking at queues.  It
 *		is made of steps, each of which does what it can:
 *
 *			attach      to the tables of the extension, once they are there
 *			receive     deliveries, up to a batch
 *			import      a batch, or what feed.c chooses of it; acknowledge
 *			publish     results and events; take confirms
 *			upkeep      forget settled records, maintain, when there is time
 *
 *		Receiving stops, and with it everything that follows,
 *
 *		- while too many results wait to be confirmed ("paused")
 *		- while a batch fails and is tried again
 *
 *		and when either goes on for more than a minute, the consumer's
 *		connection is closed, so that the broker can give the deliveries to
 *		others, and does not count them as held for too long.  Of a batch that
 *		fails copies are kept: it is tried with them, and rolled back, until
 *		it works; then the consumer comes back.  How long it stays away doubles
 *		each time, so that a broker that counts deliveries does not run out of
 *		patience.
 *
 *		Acknowledgements are not confirmed by the broker.  After each one a
 *		basic.qos is sent on the same channel; its answer shows that the
 *		channel has seen the acknowledgement.  The answers come in order, so
 *		"probes" is a queue.
 *
 *		After a connection died it is not known which acknowledgements
 *		arrived.  Its deliveries come back, are recognised and taken out of
 *		the records; or the acknowledgement had arrived, and the records would
 *		wait for ever.  So, with nothing to do, the depth of the queue is
 *		asked for: if it is empty and we are the only consumer, no delivery is
 *		left that could come back.
 *
 * IDENTIFICATION
 *		src/consume.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <poll.h>

#include "compat.h"
#include "consume.h"
#include "crashpoint.h"
#include "outbox.h"
#include "settings.h"
#include "upkeep.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A pause longer than this gives deliveries back. */
#define PAUSE_MS PI_PATIENCE_MS

/* The depth of the queue is looked at so often while messages flow. */
#define DEPTH_MS 5000

/* ... and while it may tell that no delivery can come back any more. */
#define SETTLE_MIN_MS 1000
#define SETTLE_MAX_MS 60000

/* How long a consumer that gave back stays away; doubles each time. */
#define MIN_AWAY_MS PI_PATIENCE_MS
#define MAX_AWAY_MS (4 * 3600 * 1000)

/* After something threw that should not. */
#define RECOVER_MS 5000

/* How long to listen for answers before a connection is closed. */
#define HEAR_MS 300
#define HEAR_STEP_MS 20

PiWorker	pi_worker;

static PiFeed *const feed = &pi_worker.feed;
static PiLink *const consumer = &pi_worker.consumer;
static PiLink *const publisher = &pi_worker.publisher;

/* ---- helpers -------------------------------------------------------- */

void
pi_wake_no_later_than(TimestampTz at)
{
	if (at == 0)
		at = GetCurrentTimestamp();
	if (pi_worker.next_turn == 0 || at < pi_worker.next_turn)
		pi_worker.next_turn = at;
}

bool
pi_is_time(TimestampTz at)
{
	if (at == 0 || at <= GetCurrentTimestamp())
		return true;
	pi_wake_no_later_than(at);
	return false;
}

TimestampTz
pi_in_ms(int64 ms)
{
	return GetCurrentTimestamp() + ms * 1000;
}

void
pi_set_state(PiWorkerState state)
{
	if (state == pi_worker.state)
		return;
	pi_worker.state = state;
	pi_slot_set_state(state);
}

uint64
pi_pending_limit(void)
{
	return (uint64) PI_PENDING_BATCHES * pi_batch_size;
}

/*
 * What dedup and applied hold was not too old when the present connection was
 * opened: a broker that was away for longer than dedup_window may return it.
 */
bool
pi_all_kept(void)
{
	return consumer->opened_at == 0 ||
		GetCurrentTimestamp() - consumer->opened_at <
		(int64) pi_dedup_window * USECS_PER_SEC;
}

/*
 * Services heartbeats between the messages of a batch.  The deliveries of
 * the batch stand and fall with the consumer's connection; in a rehearsal
 * there is none.
 */
static bool
tick(bool thorough)
{
	if (publisher->conn != NULL)
		(void) pi_amqp_keepalive(publisher->conn);
	if (consumer->conn == NULL)
		return pi_worker.away;
	if (thorough && !pi_amqp_alive(consumer->conn))
		return false;
	return pi_amqp_keepalive(consumer->conn);
}

static PiFeedWorld
feed_world(void)
{
	PiFeedWorld world = {pi_all_kept(), tick};

	return world;
}

/* ---- the consumer --------------------------------------------------- */

/* Its connection is closed; what it held comes back. */
static void
consumer_lost(void)
{
	pi_outbox_consumer_lost();
	pi_worker.nprobes = 0;
	pi_worker.cancelled = false;
	pi_worker.reopen = false;
	pi_worker.unsettled = true;
	pi_worker.settling = PI_SETTLING_NOT;
	pi_worker.settle_at = 0;
	pi_worker.settle_ms = SETTLE_MIN_MS;
	if (!pi_worker.away)
		pi_feed_drop(feed);
}

static void
consumer_failed(void)
{
	pi_link_fail(consumer);
	consumer_lost();
}

/* It is dead, but why lies behind deliveries that will come back. */
static void
consumer_dying(void)
{
	PiAmqpEventType type;

	do
	{
		PiAmqpEvent event;
		MemoryContext old;

		pi_feed_drop(feed);
		old = MemoryContextSwitchTo(feed->batch->context);
		type = pi_amqp_next(consumer->conn, 0, &event);
		MemoryContextSwitchTo(old);
	} while (type != PI_EVENT_FAILED && type != PI_EVENT_NONE);
	consumer_failed();
}

static void
drop_consumer(void)
{
	pi_link_close(consumer);
	consumer_lost();
}

void
pi_consume_detach(void)
{
	pi_worker.away = false;
	drop_consumer();
	pi_link_close(publisher);
	pi_outbox_clear();
	pi_apply_detach();
	pi_worker.attached = false;
	pi_worker.attach_at = 0;
	pi_worker.paused_since = 0;
}

static bool
probe(uint64 tag, bool settling)
{
	PiProbe    *p;

	if (pi_worker.nprobes == pi_worker.probe_room)
	{
		int			room = Max(pi_worker.probe_room * 2, 64);
		Size		size = sizeof(PiProbe) * room;

		pi_worker.probes = pi_worker.probes == NULL ?
			MemoryContextAlloc(TopMemoryContext, size) :
			repalloc(pi_worker.probes, size);
		pi_worker.probe_room = room;
	}
	p = &pi_worker.probes[pi_worker.nprobes++];
	p->tag = tag;
	p->settling = settling;
	return pi_amqp_probe(consumer->conn, pi_effective_prefetch());
}

static void
probe_answered(void)
{
	PiProbe		first;

	if (pi_worker.nprobes == 0)
		return;
	first = pi_worker.probes[0];
	pi_worker.nprobes--;
	memmove(pi_worker.probes, pi_worker.probes + 1,
			sizeof(PiProbe) * pi_worker.nprobes);
	if (first.tag > 0)
		pi_outbox_acknowledged(first.tag);
	if (first.settling && pi_worker.settling == PI_SETTLING_PROBED)
		pi_worker.settling = PI_SETTLING_SURE;
}

/*
 * A moment for the answers that say which acknowledgements have arrived,
 * before a connection is closed in order.  What was delivered and not
 * imported comes back flagged redelivered: messages without identity that
 * equal imported ones would be taken for these, as long as the records do
 * not know better.  Deliveries that still come are let go.
 */
static void
hear_probes(void)
{
	TimestampTz until = pi_in_ms(HEAR_MS);

	while (consumer->conn != NULL && pi_worker.nprobes > 0 &&
		   !pi_is_time(until))
	{
		PiAmqpEvent event;
		PiAmqpEventType type;
		MemoryContext old;
		bool		unsent = false;
		struct pollfd pfd;

		if (!pi_amqp_flush(consumer->conn, &unsent))
			return;
		old = MemoryContextSwitchTo(feed->batch->context);
		type = pi_amqp_next(consumer->conn, 0, &event);
		MemoryContextSwitchTo(old);
		if (type == PI_EVENT_FAILED)
			return;
		if (type == PI_EVENT_QOS_OK)
			probe_answered();
		if (type != PI_EVENT_NONE)
			continue;

		/* poll(): interrupts and the latch are no business of a close */
		pfd.fd = pi_amqp_socket(consumer->conn);
		pfd.events = POLLIN | (unsent ? POLLOUT : 0);
		pfd.revents = 0;
		(void) poll(&pfd, 1, HEAR_STEP_MS);
	}
}

/* In order: others shall not find our deliveries in records of ours. */
static void
close_consumer(void)
{
	if (consumer->conn != NULL && pi_worker.attached)
	{
		PiApplyResult result;

		hear_probes();
		(void) pi_apply_forget(&result);
	}
	drop_consumer();
}

static void
depth_told(const PiQueueInfo *info)
{
	pi_slot_set_queue(info->messages, info->consumers);
	if (pi_worker.settling != PI_SETTLING_ASKED)
		return;

	/*
	 * Nothing waits in the queue, and nobody else can hold a delivery.  What
	 * was on its way to us arrives before the answer to the probe.
	 */
	pi_worker.settling = PI_SETTLING_NOT;
	if (info->messages == 0 && info->consumers == 1)
	{
		pi_worker.settling = PI_SETTLING_PROBED;
		(void) probe(0, true);
	}
}

/*
 * Opening a connection may take a while, and the end of the turn, which tells
 * the rest, comes after that.
 */
static void
tell_connecting(void)
{
	if (pi_worker.connected)
	{
		pi_worker.connected = false;
		pi_worker.blocked = false;
		pi_slot_set_disconnected();
	}
	if (pi_worker.state != PI_STATE_BACKOFF)
		pi_set_state(PI_STATE_CONNECTING);
}

static bool
open_consumer(void)
{
	if (consumer->conn != NULL)
		return true;
	if (pi_worker.away || pi_worker.paused_since != 0 ||
		!pi_is_time(consumer->retry_at))
		return false;
	tell_connecting();
	if (!pi_link_open(consumer))
		return false;
	pi_slot_count_connect();
	pi_link_prosper(consumer);
	pi_upkeep_note_prefetch();
	return pi_worker.attached;
}

/*
 * Takes deliveries and whatever else the connection has, up to a batch.  True
 * if there is more to be had at once.
 */
static bool
receive(void)
{
	size_t		max_body = pi_max_message_bytes();
	int			before = feed->batch->nitems;

	if (!open_consumer())
		return false;

	while (pi_worker.paused_since == 0 && pi_feed_wants_more(feed))
	{
		PiAmqpEvent event;
		MemoryContext old = MemoryContextSwitchTo(feed->batch->context);
		PiAmqpEventType type = pi_amqp_next(consumer->conn, max_body, &event);

		MemoryContextSwitchTo(old);
		switch (type)
		{
			case PI_EVENT_NONE:
				if (feed->batch->nitems > before)
					PI_CRASHPOINT("after-receive");
				return false;
			case PI_EVENT_DELIVERY:
				pi_batch_add(feed->batch, &event.delivery, max_body);
				if (event.delivery.redelivered)
					pi_worker.settling = PI_SETTLING_NOT;
				break;
			case PI_EVENT_QOS_OK:
				probe_answered();
				break;
			case PI_EVENT_QUEUE_INFO:
				depth_told(&event.queue);
				break;
			case PI_EVENT_CANCELLED:
				pi_worker.cancelled = true;
				break;
			case PI_EVENT_FAILED:
				consumer_failed();
				return false;
			default:
				break;
		}
		CHECK_FOR_INTERRUPTS();
	}

	/* what is not read now stays with the connection */
	if (!pi_amqp_keepalive(consumer->conn))
	{
		consumer_failed();
		return false;
	}
	if (feed->batch->nitems > before)
		PI_CRASHPOINT("after-receive");
	return pi_worker.paused_since == 0 && feed->failing_since == 0;
}

/* Asks for the depth of the queue, if somebody wants to know. */
static void
ask_depth(void)
{
	bool		wanted;

	if (consumer->conn == NULL)
		return;
	wanted = pi_slot_queue_wanted();
	if (!pi_feed_empty(feed) && pi_is_time(pi_worker.depth_at))
		wanted = true;
	if (pi_worker.unsettled && pi_worker.settling == PI_SETTLING_NOT &&
		pi_feed_empty(feed) && pi_is_time(pi_worker.settle_at))
	{
		pi_worker.settling = PI_SETTLING_ASKED;
		pi_worker.settle_at = pi_in_ms(pi_worker.settle_ms);
		pi_worker.settle_ms = Min(pi_worker.settle_ms * 2, SETTLE_MAX_MS);
		wanted = true;
	}
	if (!wanted)
		return;
	pi_worker.depth_at = pi_in_ms(DEPTH_MS);
	(void) pi_amqp_queue_poll(consumer->conn, pi_import_queue);
}

/* ---- import --------------------------------------------------------- */

/* Gives the deliveries back, and keeps copies to try with. */
static void
go_away(void)
{
	int64		ms = (int64) MIN_AWAY_MS << Min(pi_worker.times_away, 16);

	pi_worker.times_away++;
	pi_worker.come_back_at = pi_in_ms(Min(ms, MAX_AWAY_MS));
	pi_worker.away = true;
	ereport(LOG,
			(errmsg("profimport worker %d gives its deliveries back, because importing them fails",
					pi_my_worker + 1),
			 errdetail("They are imported when it works again.")));
	close_consumer();
	feed->failing_since = 0;
}

static void
come_back(void)
{
	pi_worker.away = false;
	pi_feed_drop(feed);
}

static void
while_away(void)
{
	PiFeedWorld world = feed_world();

	/* messages that arrived since may show who is to blame */
	if (feed->setup && pi_is_time(pi_worker.come_back_at))
	{
		come_back();
		return;
	}
	if (!pi_is_time(feed->not_before))
		return;
	switch (pi_feed_rehearse(feed, &world))
	{
		case PI_FEED_DONE:

			/* what works now, but did not in earnest before, may wait */
			if (pi_worker.times_away <= 1 ||
				pi_is_time(pi_worker.come_back_at))
				come_back();
			else
				feed->not_before = pi_worker.come_back_at;
			break;
		case PI_FEED_ABSENT:
			pi_consume_detach();
			break;
		default:
			break;
	}
	feed->failing_since = 0;
}

static bool
batch_is_due(void)
{
	PiBatch    *batch = feed->batch;

	if (pi_batch_delay == 0 || batch->done > 0 ||
		!pi_feed_wants_more(feed) || pi_worker.cancelled)
		return true;
	return pi_is_time(batch->opened_at + (int64) pi_batch_delay * 1000);
}

/* One attempt.  True if there is more to do at once. */
static bool
import(void)
{
	PiFeedWorld world = feed_world();
	PiApplyResult result;
	PiFeedStatus status;
	uint64		tag = 0;

	if (pi_worker.away)
	{
		while_away();
		return false;
	}
	if (pi_worker.paused_since != 0 || pi_feed_empty(feed) ||
		!batch_is_due() || !pi_is_time(feed->not_before))
		return false;

	if (feed->failing_since == 0)
		pi_set_state(PI_STATE_IMPORTING);
	pi_worker.importing = true;
	status = pi_feed_step(feed, &world, &result, &tag);
	pi_worker.importing = false;
	switch (status)
	{
		case PI_FEED_DONE:
			PI_CRASHPOINT("before-ack");
			pi_outbox_add(result.context, &result.record, tag);
			pi_worker.times_away = 0;
			pi_worker.last_batch_at = GetCurrentTimestamp();
			pi_worker.maintain_at = Min(pi_worker.maintain_at,
										pi_in_ms(60000));
			if (!pi_amqp_ack(consumer->conn, tag, true) || !probe(tag, false))
				consumer_failed();
			PI_CRASHPOINT("before-publish");
			return true;
		case PI_FEED_TIRED:
			go_away();
			return false;
		case PI_FEED_LOST:
			consumer_dying();
			return false;
		case PI_FEED_ABSENT:
			pi_consume_detach();
			return false;
		default:
			return false;
	}
}

/* ---- publish -------------------------------------------------------- */

static void
publisher_failed(void)
{
	pi_link_fail(publisher);
	pi_outbox_publisher_lost();
}

/* Takes confirms and the like.  False: the connection is gone. */
static bool
take_confirms(void)
{
	int			arrived = 0;
	bool		good = true;
	bool		refused = false;
	PiAmqpEventType type;
	PiAmqpEvent event;

	do
	{
		type = pi_amqp_next(publisher->conn, 0, &event);
		switch (type)
		{
			case PI_EVENT_CONFIRM:
				if (event.confirm_nack)
				{
					refused = true;
					pi_link_distrust(publisher, "the broker refused a message");
				}
				arrived += pi_outbox_confirmed(event.confirm_seq,
											   event.confirm_multiple,
											   event.confirm_nack);
				break;
			case PI_EVENT_RETURN:
				refused = true;
				pi_link_distrust(publisher,
								 "the broker returned a message because its queue is gone");
				pi_outbox_returned(event.return_message_id);
				break;
			case PI_EVENT_FAILED:
				good = false;
				break;
			default:
				break;
		}
		CHECK_FOR_INTERRUPTS();
	} while (good && type != PI_EVENT_NONE);

	if (arrived > 0)
	{
		pi_slot_count_published(arrived);
		if (pi_outbox_pending() == 0)
			PI_CRASHPOINT("before-forget");
	}
	if (!good)
		publisher_failed();
	else if (arrived > 0 && !refused)
		pi_link_prosper(publisher);
	return good;
}

/* True if there is more to send, and the connection takes it. */
static bool
publish(void)
{
	PiPublishStatus status = PI_PUBLISH_SENT;
	uint64		unsent;
	bool		rest;

	if (publisher->conn == NULL)
	{
		if (!pi_is_time(publisher->retry_at))
			return false;
		tell_connecting();
		if (!pi_link_open(publisher))
			return false;
	}
	if (!take_confirms())
		return false;
	if (!publisher->ready)
	{
		if (!pi_is_time(publisher->retry_at))
			return false;
		if (!pi_link_see_to_queues(publisher))
		{
			if (publisher->conn == NULL)
				pi_outbox_publisher_lost();
			return false;
		}
	}

	unsent = pi_outbox_unsent();
	if (unsent > 0)
		status = pi_outbox_publish(publisher->conn);
	if (status == PI_PUBLISH_DEAD ||
		!pi_amqp_flush(publisher->conn, &rest))
	{
		publisher_failed();
		return false;
	}
	if (pi_outbox_unsent() < unsent)
		PI_CRASHPOINT("before-confirm");
	return status == PI_PUBLISH_SENT && pi_outbox_unsent() > 0;
}

/* ---- what others see ------------------------------------------------ */

/* Stops receiving while too much waits; gives back if that takes long. */
static void
pause_or_resume(void)
{
	uint64		pending = pi_outbox_pending();

	if (pi_worker.paused_since == 0)
	{
		if (pending >= pi_pending_limit())
			pi_worker.paused_since = GetCurrentTimestamp();
	}
	else if (pending <= pi_pending_limit() / 2)
	{
		pi_worker.paused_since = 0;
		pi_wake_no_later_than(0);
	}
	else if (consumer->conn != NULL &&
			 pi_is_time(pi_worker.paused_since + PAUSE_MS * INT64CONST(1000)))
	{
		ereport(LOG,
				(errmsg("profimport worker %d gives its deliveries back, because " UINT64_FORMAT " results wait to be confirmed",
						pi_my_worker + 1, pending)));
		close_consumer();
	}
}

static PiWorkerState
present_state(void)
{
	bool		waiting = pi_outbox_pending() > 0;

	if (feed->setup)
		return PI_STATE_ERROR;
	if (pi_worker.paused_since != 0)
		return PI_STATE_PAUSED;
	if (pi_worker.away || feed->failing_since != 0)
		return PI_STATE_BACKOFF;
	if (consumer->conn == NULL)
		return consumer->retry_at == 0 ? PI_STATE_CONNECTING : PI_STATE_BACKOFF;
	if (publisher->conn == NULL || !publisher->ready)
		return PI_STATE_BACKOFF;
	if (pi_worker.blocked && waiting)
		return PI_STATE_BLOCKED;
	return PI_STATE_IDLE;
}

static void
tell(void)
{
	bool		connected = consumer->conn != NULL && publisher->conn != NULL;
	bool		blocked = publisher->conn != NULL &&
	pi_amqp_blocked(publisher->conn);
	uint64		pending = pi_outbox_pending();

	if (connected != pi_worker.connected)
	{
		pi_worker.connected = connected;
		pi_worker.blocked = false;
		if (connected)
			pi_slot_set_connected(consumer->broker);
		else
			pi_slot_set_disconnected();
	}
	if (blocked != pi_worker.blocked)
	{
		pi_worker.blocked = blocked;
		pi_slot_set_blocked(blocked);
	}
	if (pending != pi_worker.pending)
	{
		pi_worker.pending = pending;
		pi_slot_set_pending(pending);
	}
	pi_set_state(present_state());
}

/* Whatever waits for a time is noted here, wherever the turn has ended. */
static void
note_wakes(void)
{
	TimestampTz at;

	if (!pi_worker.attached)
	{
		pi_wake_no_later_than(pi_worker.attach_at);
		return;
	}
	if (pi_worker.away)
	{
		pi_wake_no_later_than(feed->not_before);
		if (feed->setup)
			pi_wake_no_later_than(pi_worker.come_back_at);
	}
	else if (pi_worker.paused_since == 0)
	{
		if (consumer->conn == NULL)
			pi_wake_no_later_than(consumer->retry_at);
		else if (feed->failing_since != 0)
			pi_wake_no_later_than(feed->not_before);
	}
	if (publisher->conn == NULL || !publisher->ready)
		pi_wake_no_later_than(publisher->retry_at);
	if (consumer->conn != NULL &&
		(at = pi_amqp_keepalive_at(consumer->conn)) != 0)
		pi_wake_no_later_than(at);
	if (publisher->conn != NULL &&
		(at = pi_amqp_keepalive_at(publisher->conn)) != 0)
		pi_wake_no_later_than(at);
}

/* ---- the turn ------------------------------------------------------- */

bool
pi_consume_turn(TimestampTz *wake_at)
{
	bool		again = false;

	pi_worker.next_turn = 0;
	if (pi_upkeep_attach())
	{
		pi_upkeep_claim();
		if (pi_worker.attached)
			again |= receive();
		if (pi_worker.attached)
		{
			ask_depth();
			again |= import();
		}
		if (pi_worker.attached)
			again |= publish();
		if (pi_worker.attached)
		{
			pause_or_resume();
			pi_upkeep_settle();
		}
		if (pi_worker.attached && !again)
		{
			pi_upkeep_forget();
			pi_upkeep_maintain();
		}
		if ((pi_worker.cancelled || pi_worker.reopen) && pi_feed_empty(feed))
			close_consumer();
		if (pi_worker.attached && !again)
			tell();
	}
	note_wakes();
	*wake_at = pi_worker.next_turn;
	return again;
}

void
pi_consume_sockets(pgsocket *sockets, bool *writable)
{
	PiAmqp	   *conns[2] = {consumer->conn, publisher->conn};

	for (int i = 0; i < 2; i++)
	{
		sockets[i] = PGINVALID_SOCKET;
		writable[i] = false;
		if (conns[i] == NULL)
			continue;
		sockets[i] = pi_amqp_socket(conns[i]);
		(void) pi_amqp_flush(conns[i], &writable[i]);
	}
}

/* ---- settings ------------------------------------------------------- */

/* What a connection was made with; it is made anew if that changes. */
static char *
settings_of(PiLinkKind kind)
{
	char	   *common = psprintf("%s\n%s\n%s\n%s\n%s\n%d\n%d", pi_amqp_url,
								  pi_amqp_password_file, pi_tls_ca_file,
								  pi_tls_cert_file, pi_tls_key_file,
								  pi_tls_verify, pi_heartbeat);
	char	   *all;

	if (kind == PI_LINK_CONSUME)
		all = psprintf("%s\n%s\n%d", common, pi_import_queue,
					   pi_effective_prefetch());
	else
		all = psprintf("%s\n%s\n%s\n%d", common, pi_result_queue,
					   pi_trigger_queue, pi_result_ttl);
	explicit_bzero(common, strlen(common));
	pfree(common);
	return all;
}

static bool
settings_changed(PiLinkKind kind)
{
	static char *known[2];
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	char	   *now = settings_of(kind);
	bool		changed = known[kind] != NULL && strcmp(known[kind], now) != 0;

	MemoryContextSwitchTo(old);
	if (known[kind] != NULL)
	{
		explicit_bzero(known[kind], strlen(known[kind]));
		pfree(known[kind]);
	}
	known[kind] = now;
	return changed;
}

void
pi_consume_reload(void)
{
	if (settings_changed(PI_LINK_CONSUME) && consumer->conn != NULL)
	{
		/* between batches, unless this one does not come to its end */
		if (feed->failing_since != 0)
			close_consumer();
		else
			pi_worker.reopen = true;
	}
	if (settings_changed(PI_LINK_PUBLISH) && publisher->conn != NULL)
	{
		pi_link_close(publisher);
		pi_outbox_publisher_lost();
	}

	/* whoever corrected something wants to see the effect */
	pi_backoff_reset(&consumer->backoff);
	pi_backoff_reset(&publisher->backoff);
	consumer->retry_at = 0;
	publisher->retry_at = 0;
	feed->not_before = 0;
	pi_worker.attach_at = 0;
	pi_worker.maintain_at = 0;
}

/* ---- beginning and end ---------------------------------------------- */

void
pi_consume_init(void)
{
	memset(&pi_worker, 0, sizeof(pi_worker));
	pi_worker.state = PI_STATE_CONNECTING;
	pi_worker.settle_ms = SETTLE_MIN_MS;
	pi_feed_init(feed);
	pi_link_init(consumer, PI_LINK_CONSUME);
	pi_link_init(publisher, PI_LINK_PUBLISH);
	pi_outbox_init();
	(void) settings_changed(PI_LINK_CONSUME);
	(void) settings_changed(PI_LINK_PUBLISH);
}

void
pi_consume_recover(void)
{
	pi_worker.importing = false;
	pi_consume_detach();
	pi_worker.attach_at = pi_in_ms(RECOVER_MS);
}

void
pi_consume_end(void)
{
	PiAmqp	   *conns[2];

	/* what is already known to have arrived need not be sent again */
	if (publisher->conn != NULL)
		(void) take_confirms();
	hear_probes();
	conns[0] = consumer->conn;
	conns[1] = publisher->conn;
	consumer->conn = NULL;
	publisher->conn = NULL;

	/* before others get our deliveries */
	if (pi_worker.attached)
		pi_upkeep_note_end(!pi_worker.importing);
	for (int i = 0; i < 2; i++)
		pi_amqp_close(conns[i]);
}
