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
 *			import      a batch, or what feed.c chooses of it; send its results;
 *						acknowledge it
 *			publish     take confirms; send what is not sent yet
 *			upkeep      forget settled records when there is time; maintain
 *						between batches
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
 * IDENTIFICATION
 *		src/consume.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "consume.h"
#include "crashpoint.h"
#include "outbox.h"
#include "receive.h"
#include "settings.h"
#include "upkeep.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A pause longer than this gives deliveries back. */
#define PAUSE_MS PI_PATIENCE_MS

/* How long a consumer that gave back stays away; doubles each time. */
#define MIN_AWAY_MS PI_PATIENCE_MS
#define MAX_AWAY_MS (4 * 3600 * 1000)

/*
 * The results of so few messages are sent before the acknowledgement: somebody
 * may wait for them, and an acknowledgement gives the broker work in front of
 * them.  With more, there is a backlog, and the broker should deliver.
 */
#define RESULTS_FIRST 50

/* After something threw that should not. */
#define RECOVER_MS 5000

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
	PiFeedWorld world = {pi_all_kept(), pi_worker.source, tick};

	return world;
}

void
pi_consume_detach(void)
{
	pi_worker.away = false;
	pi_receive_drop();
	pi_link_close(publisher);
	pi_outbox_clear();
	pi_apply_detach();
	pi_worker.attached = false;
	pi_worker.attach_at = 0;
	pi_worker.paused_since = 0;
}

/* ---- send ----------------------------------------------------------- */

static void
publisher_failed(void)
{
	pi_link_fail(publisher);
	pi_outbox_publisher_lost();
}

/* Sends what the connection takes now.  True if it would take more. */
static bool
send_outgoing(void)
{
	PiPublishStatus status = PI_PUBLISH_SENT;
	uint64		unsent = pi_outbox_unsent();
	bool		rest;

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
	pi_receive_close();
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
	bool		results_first;
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
			results_first = result.n <= RESULTS_FIRST &&
				publisher->conn != NULL && publisher->ready;
			pi_outbox_add(result.context, &result.record, tag);
			if (results_first)
			{
				PI_CRASHPOINT("before-publish");
				(void) send_outgoing();
			}
			PI_CRASHPOINT("before-ack");
			pi_receive_acknowledge(tag, result.n);
			if (!results_first)
				PI_CRASHPOINT("before-publish");
			pi_worker.times_away = 0;
			pi_worker.last_batch_at = GetCurrentTimestamp();
			pi_worker.maintain_at = Min(pi_worker.maintain_at,
										pi_in_ms(60000));
			return true;
		case PI_FEED_TIRED:
			go_away();
			return false;
		case PI_FEED_LOST:
			pi_receive_dying();
			return false;
		case PI_FEED_ABSENT:
			pi_consume_detach();
			return false;
		default:
			return false;
	}
}

/* ---- publish -------------------------------------------------------- */

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
				pi_outbox_returned(event.return_message_id,
								   event.return_correlation_id);
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
	if (publisher->conn == NULL)
	{
		if (!pi_is_time(publisher->retry_at))
			return false;
		pi_tell_connecting();
		publisher->former_queue = pi_outbox_former_queue();
		if (!pi_link_open(publisher))
			return false;
	}
	if (!take_confirms())
		return false;
	if (!publisher->ready)
	{
		if (!pi_is_time(publisher->retry_at))
			return false;
		publisher->former_queue = pi_outbox_former_queue();
		if (!pi_link_see_to_queues(publisher))
		{
			if (publisher->conn == NULL)
				pi_outbox_publisher_lost();
			return false;
		}
	}

	return send_outgoing();
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
		pi_receive_close();
	}
}

static PiWorkerState
present_state(void)
{
	bool		waiting = pi_outbox_pending() > 0;

	if (feed->setup || consumer->missing || publisher->missing)
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
		{
			pi_slot_set_connected(consumer->broker);
			ereport(LOG,
					(pi_worker.was_connected ?
					 errmsg("profimport worker %d is connected again to %s",
							pi_my_worker + 1, consumer->broker) :
					 errmsg("profimport worker %d is connected to %s",
							pi_my_worker + 1, consumer->broker)));
			pi_worker.was_connected = true;
		}
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
		else if (feed->failing_since != 0 || feed->undecided_since != 0)
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
			again |= pi_receive();
		if (pi_worker.attached)
		{
			pi_receive_ask_depth();
			again |= import();
			pi_receive_probe();
		}
		if (pi_worker.attached)
			again |= publish();
		if (pi_worker.attached)
		{
			pause_or_resume();
			pi_upkeep_settle();
		}
		if (pi_worker.attached && !again)
			pi_upkeep_forget();
		/* a queue that is never empty must not keep old rows alive */
		if (pi_worker.attached)
			pi_upkeep_maintain();
		if ((pi_worker.cancelled || pi_worker.reopen) && pi_feed_empty(feed))
			pi_receive_close();
		if (pi_worker.attached && !again)
			tell();
	}
	note_wakes();
	*wake_at = pi_worker.next_turn;
	return again;
}

void
pi_consume_sockets(PiSocket *sockets)
{
	PiLink	   *links[PI_NUM_SOCKETS] = {consumer, publisher};

	for (int i = 0; i < PI_NUM_SOCKETS; i++)
	{
		PiAmqp	   *conn = links[i]->conn;

		sockets[i].fd = PGINVALID_SOCKET;
		sockets[i].opened_at = 0;
		sockets[i].writable = false;
		if (conn == NULL)
			continue;
		sockets[i].fd = pi_amqp_socket(conn);
		sockets[i].opened_at = links[i]->opened_at;
		(void) pi_amqp_flush(conn, &sockets[i].writable);
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
			pi_receive_close();
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
	pi_receive_last_answers();
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
