/*-------------------------------------------------------------------------
 *
 * receive.c
 *		The consumer's connection: deliveries, acknowledgements, the depth of
 *		the queue.
 *
 * NOTES
 *		Acknowledgements are not confirmed by the broker.  After them a
 *		basic.qos is sent on the same channel; its answer shows that the
 *		channel has seen the acknowledgements.  The answers come in order, so
 *		"probes" is a queue.  (A quorum queue writes it a little later, see
 *		outbox.c.)  A large batch has its own; of small ones several share
 *		one, for it is work for the broker and for us, and nobody waits for
 *		the answer.
 *
 *		After a connection died it is not known which acknowledgements
 *		arrived.  Its deliveries come back, are recognised and taken out of
 *		the records; or the acknowledgement had arrived, and the records would
 *		wait for ever.  So, with nothing to do, the depth of the queue is
 *		asked for: if it is empty and we are the only consumer, no delivery is
 *		left that could come back to this queue.
 *
 * IDENTIFICATION
 *		src/receive.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <poll.h>

#include "apply.h"
#include "compat.h"
#include "crashpoint.h"
#include "outbox.h"
#include "receive.h"
#include "settings.h"
#include "upkeep.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The depth of the queue is looked at so often while messages flow. */
#define DEPTH_MS 5000

/* ... and while it may tell that no delivery can come back any more. */
#define SETTLE_MIN_MS 1000
#define SETTLE_MAX_MS 60000

/* How long to listen for answers before a connection is closed. */
#define HEAR_MS 300
#define HEAR_STEP_MS 20

/* So many messages acknowledged, or so long, and a probe follows. */
#define PROBE_MESSAGES 64
#define PROBE_MS 20

static PiFeed *const feed = &pi_worker.feed;
static PiLink *const consumer = &pi_worker.consumer;

/* ---- its end --------------------------------------------------------- */

/* Its connection is closed; what it held comes back. */
static void
lost(void)
{
	pi_outbox_consumer_lost();
	pi_slot_set_open_batches(0);
	pi_worker.nprobes = 0;
	pi_worker.unprobed = 0;
	pi_worker.cancelled = false;
	pi_worker.reopen = false;
	pi_worker.unsettled = true;
	pi_worker.settling = PI_SETTLING_NOT;
	pi_worker.settle_at = 0;
	pi_worker.settle_ms = 0;
	if (!pi_worker.away)
		pi_feed_drop(feed);
}

void
pi_receive_failed(void)
{
	pi_link_fail(consumer);
	lost();
}

/* It is dead, but why lies behind deliveries that will come back. */
void
pi_receive_dying(void)
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
	pi_receive_failed();
}

void
pi_receive_drop(void)
{
	pi_link_close(consumer);
	lost();
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

/* For all acknowledgements that have none yet. */
static bool
probe_acknowledged(void)
{
	pi_worker.unprobed = 0;
	return probe(pi_worker.unprobed_tag, false);
}

void
pi_receive_acknowledge(uint64 tag, int n)
{
	int			enough = Min(pi_batch_size, pi_effective_prefetch());
	bool		rest;
	bool		sent;

	if (pi_worker.unprobed == 0)
		pi_worker.probe_at = pi_in_ms(PROBE_MS);
	pi_worker.unprobed += n;
	pi_worker.unprobed_tag = tag;
	sent = pi_amqp_ack(consumer->conn, tag, true);
	if (sent && pi_worker.unprobed >= Min(PROBE_MESSAGES, enough))
		sent = probe_acknowledged();
	else if (sent)
		sent = pi_amqp_flush(consumer->conn, &rest);
	if (!sent)
		pi_receive_failed();
}

void
pi_receive_probe(void)
{
	if (pi_worker.unprobed > 0 && pi_is_time(pi_worker.probe_at) &&
		!probe_acknowledged())
		pi_receive_failed();
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
void
pi_receive_last_answers(void)
{
	TimestampTz until = pi_in_ms(HEAR_MS);

	if (consumer->conn != NULL && pi_worker.unprobed > 0 &&
		!probe_acknowledged())
		return;
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
	if (consumer->conn != NULL)
		pi_outbox_broker_lives();
}

/* In order: others shall not find our deliveries in records of ours. */
void
pi_receive_close(void)
{
	if (consumer->conn != NULL && pi_worker.attached)
	{
		PiApplyResult result;

		pi_receive_last_answers();
		(void) pi_apply_forget(&result);
	}
	pi_receive_drop();
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
void
pi_tell_connecting(void)
{
	if (pi_worker.connected)
	{
		pi_worker.connected = false;
		pi_worker.blocked = false;
		pi_slot_set_disconnected();
	}
	if (pi_worker.state != PI_STATE_BACKOFF &&
		pi_worker.state != PI_STATE_ERROR)
		pi_set_state(PI_STATE_CONNECTING);
}

static bool
open_connection(void)
{
	if (consumer->conn != NULL)
		return true;
	if (pi_worker.away || pi_worker.paused_since != 0 ||
		!pi_is_time(consumer->retry_at))
		return false;
	pi_tell_connecting();
	if (!pi_link_open(consumer))
		return false;
	pi_worker.source = pi_batch_source(consumer->vhost, pi_import_queue,
									   pi_amqp_cluster_name(consumer->conn));
	pi_outbox_consumer_opened(consumer->quorum);
	pi_slot_count_connect();
	pi_link_prosper(consumer);
	pi_upkeep_note_prefetch();
	return pi_worker.attached;
}

/*
 * Takes deliveries and whatever else the connection has, up to a batch.  True
 * if there is more to be had at once.
 */
bool
pi_receive(void)
{
	size_t		max_body = pi_max_message_bytes();
	int			before = feed->batch->nitems;

	if (!open_connection())
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
				pi_receive_failed();
				return false;
			default:
				break;
		}
		CHECK_FOR_INTERRUPTS();
	}

	/* what is not read now stays with the connection */
	if (!pi_amqp_keepalive(consumer->conn))
	{
		pi_receive_failed();
		return false;
	}
	if (feed->batch->nitems > before)
		PI_CRASHPOINT("after-receive");
	return pi_worker.paused_since == 0 && feed->failing_since == 0 &&
		feed->undecided_since == 0;
}

/* Asks for the depth of the queue, if somebody wants to know. */
void
pi_receive_ask_depth(void)
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
		pi_worker.settle_ms = Max(pi_worker.settle_ms * 2, SETTLE_MIN_MS);
		pi_worker.settle_ms = Min(pi_worker.settle_ms, SETTLE_MAX_MS);
		pi_worker.settle_at = pi_in_ms(pi_worker.settle_ms);
		wanted = true;
	}
	if (!wanted)
		return;
	pi_worker.depth_at = pi_in_ms(DEPTH_MS);
	(void) pi_amqp_queue_poll(consumer->conn, pi_import_queue);
}
