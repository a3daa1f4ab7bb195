/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Deliveries collected for one transaction.
 *
 * NOTES
 *		Pure memory: no SQL, no connection.  What makes two deliveries "the
 *		same message" is decided here, by three digests (SHA-256, cut to 16
 *		bytes); that of the body comes with the delivery.  Lengths and tags are
 *		hashed along, so that no two different lists of properties give the
 *		same bytes.
 *
 * IDENTIFICATION
 *		src/batch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "batch.h"
#include "digest.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PiBatch    *
pi_batch_create(MemoryContext parent)
{
	PiBatch    *batch = (PiBatch *) MemoryContextAllocZero(parent,
														   sizeof(PiBatch));

	batch->context = AllocSetContextCreate(parent, "profimport batch",
										   ALLOCSET_DEFAULT_SIZES);
	return batch;
}

void
pi_batch_reset(PiBatch *batch)
{
	MemoryContextReset(batch->context);
	batch->items = NULL;
	batch->nitems = 0;
	batch->allocated = 0;
	batch->done = 0;
	batch->bytes = 0;
	batch->opened_at = 0;
}

static void
add_number(PiSha256 *ctx, uint8 tag, uint64 value)
{
	uint8		buf[9];

	buf[0] = tag;
	for (int i = 0; i < 8; i++)
		buf[1 + i] = (uint8) (value >> (8 * i));
	pi_sha256_add(ctx, buf, sizeof(buf));
}

static void
add_string(PiSha256 *ctx, uint8 tag, const char *value)
{
	size_t		len;

	if (value == NULL)
		return;
	len = strlen(value);
	add_number(ctx, tag, len);
	pi_sha256_add(ctx, value, len);
}

static void
compute_digests(PiArrival *item)
{
	const PiDelivery *d = &item->delivery;
	const PiAmqpProperties *p = &d->props;
	uint8		full[PI_SHA256_LEN];
	PiSha256   *ctx;

	memcpy(item->body_digest, d->digest, PI_DIGEST_LEN);

	ctx = pi_sha256_begin();
	pi_sha256_add(ctx, d->digest, sizeof(d->digest));
	add_string(ctx, 1, p->content_type);
	add_string(ctx, 2, p->content_encoding);
	add_string(ctx, 3, p->correlation_id);
	add_string(ctx, 4, p->reply_to);
	add_string(ctx, 5, p->expiration);
	add_string(ctx, 6, p->message_id);
	add_string(ctx, 7, p->type);
	add_string(ctx, 8, p->user_id);
	add_string(ctx, 9, p->app_id);
	if (p->has_delivery_mode)
		add_number(ctx, 10, p->delivery_mode);
	if (p->has_priority)
		add_number(ctx, 11, p->priority);
	if (p->has_timestamp)
		add_number(ctx, 12, p->timestamp);
	add_string(ctx, 13, p->headers_json);
	pi_sha256_end(ctx, full);
	memcpy(item->digest, full, PI_DIGEST_LEN);

	item->has_message_id = (p->message_id != NULL && p->message_id[0] != '\0');
	if (item->has_message_id)
	{
		ctx = pi_sha256_begin();
		pi_sha256_add(ctx, d->digest, sizeof(d->digest));
		add_string(ctx, 'i', p->message_id);
		pi_sha256_end(ctx, full);
		memcpy(item->id_digest, full, PI_DIGEST_LEN);
	}
}

void
pi_batch_add(PiBatch *batch, const PiDelivery *delivery, size_t max_body)
{
	PiArrival  *item;

	if (batch->nitems >= batch->allocated)
	{
		int			allocated = Max(batch->allocated * 2, 64);

		if (batch->items == NULL)
			batch->items = (PiArrival *)
				MemoryContextAlloc(batch->context, sizeof(PiArrival) * allocated);
		else
			batch->items = (PiArrival *)
				repalloc(batch->items, sizeof(PiArrival) * allocated);
		batch->allocated = allocated;
	}
	if (batch->nitems == 0)
		batch->opened_at = GetCurrentTimestamp();

	item = &batch->items[batch->nitems];
	memset(item, 0, sizeof(PiArrival));
	item->delivery = *delivery;
	item->too_large = delivery->size > max_body ||
		delivery->len < delivery->size;
	compute_digests(item);
	batch->bytes += delivery->len;
	batch->nitems++;
}

/*
 * It outlives this process, and goes along with a dump to another machine:
 * hence a hash that is the same everywhere.
 */
static uint32
source_hash(const char *first, const char *second)
{
	uint8		full[PI_SHA256_LEN];
	PiSha256   *ctx = pi_sha256_begin();

	add_string(ctx, 1, first);
	add_string(ctx, 2, second);
	pi_sha256_end(ctx, full);
	return (uint32) full[0] << 24 | (uint32) full[1] << 16 |
		(uint32) full[2] << 8 | full[3];
}

PiSource
pi_batch_source(const char *vhost, const char *queue, const char *broker)
{
	return (PiSource) source_hash(vhost, queue) << 32 |
		source_hash(broker, NULL);
}

bool
pi_batch_same_queue(PiSource a, PiSource b)
{
	return a == 0 || b == 0 || (a >> 32) == (b >> 32);
}

char *
pi_batch_correlation(const PiArrival *item, const char *feedback_id)
{
	const PiAmqpProperties *p = &item->delivery.props;

	if (p->correlation_id != NULL && p->correlation_id[0] != '\0')
		return pstrdup(p->correlation_id);
	if (item->has_message_id)
		return pstrdup(p->message_id);
	if (feedback_id != NULL && feedback_id[0] != '\0' &&
		strlen(feedback_id) <= PI_SHORT_STRING_LEN)
		return pstrdup(feedback_id);
	return NULL;
}
