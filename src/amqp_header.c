/*-------------------------------------------------------------------------
 *
 * amqp_header.c
 *		The content header of a message: bytes to properties.
 *
 * NOTES
 *		The senders of messages are less trusted than the broker, and brokers
 *		pass properties on unread.  Therefore rabbitmq-c's decoder is not used
 *		here: it follows nested tables by recursion without a limit, and one
 *		value of a kind it does not know makes it give up the connection, which
 *		would bring the same message back again and again.  Here what cannot
 *		be read is null, and reading goes on behind the table it is in.
 *
 *		Everything that leaves this file is valid UTF-8 without NUL, since it
 *		goes into text and jsonb.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "amqp_internal.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

/* Deeper tables and arrays become null. */
#define MAX_DEPTH 32

/* U+FFFD, in place of what is not UTF-8 */
#define REPLACEMENT "\xEF\xBF\xBD"

typedef struct Reader
{
	const uint8 *p;
	const uint8 *end;
	bool		bad;			/* not readable from here on */
} Reader;

static void write_table(Reader *r, StringInfo out, int depth);
static void write_array(Reader *r, StringInfo out, int depth);

/* ---- reading -------------------------------------------------------- */

/* The next n bytes, NULL if there are not so many. */
static const uint8 *
take(Reader *r, size_t n)
{
	const uint8 *p = r->p;

	if (r->bad || (size_t) (r->end - p) < n)
	{
		r->bad = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static uint64
take_uint(Reader *r, int bytes)
{
	const uint8 *p = take(r, bytes);
	uint64		v = 0;

	if (p == NULL)
		return 0;
	while (bytes-- > 0)
		v = v << 8 | *p++;
	return v;
}

/* A reader of the next n bytes alone, or of fewer if there are not so many. */
static Reader
take_part(Reader *r, size_t n)
{
	Reader		part = *r;

	if (!r->bad && (size_t) (r->end - r->p) >= n)
	{
		part.end = r->p + n;
		r->p += n;
	}
	else
		r->bad = true;
	return part;
}

/* Length of the legal character at p; 0 if there is none, or if it is NUL. */
static int
legal_char(const uint8 *p, const uint8 *end)
{
	int			len = pg_utf_mblen(p);

	if (*p == '\0' || len > end - p || !pg_utf8_islegal(p, len))
		return 0;
	return len;
}

static void
append_clean(StringInfo out, const uint8 *p, size_t n)
{
	const uint8 *end = p + n;

	while (p < end)
	{
		int			len = legal_char(p, end);

		if (len > 0)
			appendBinaryStringInfo(out, (const char *) p, len);
		else
			appendStringInfoString(out, REPLACEMENT);
		p += Max(len, 1);
	}
}

static char *
take_shortstr(Reader *r)
{
	size_t		n = take_uint(r, 1);
	const uint8 *p = take(r, n);
	StringInfoData buf;

	if (p == NULL)
		return NULL;
	initStringInfo(&buf);
	append_clean(&buf, p, n);
	return buf.data;
}

/* ---- JSON ----------------------------------------------------------- */

static void
write_string(StringInfo out, const uint8 *p, size_t n)
{
	const uint8 *end = p + n;

	appendStringInfoChar(out, '"');
	while (p < end)
	{
		int			len = legal_char(p, end);

		if (len == 0)
			appendStringInfoString(out, REPLACEMENT);
		else if (*p == '"' || *p == '\\')
		{
			appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, *p);
		}
		else if (*p < 0x20)
			appendStringInfo(out, "\\u%04x", *p);
		else
			appendBinaryStringInfo(out, (const char *) p, len);
		p += Max(len, 1);
	}
	appendStringInfoChar(out, '"');
}

/* As PostgreSQL shows a bytea. */
static void
write_bytes(StringInfo out, const uint8 *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	appendStringInfoString(out, "\"\\\\x");
	while (n-- > 0)
	{
		appendStringInfoChar(out, digits[*p >> 4]);
		appendStringInfoChar(out, digits[*p++ & 15]);
	}
	appendStringInfoChar(out, '"');
}

/* JSON has no infinity and no NaN: those become strings. */
static void
write_double(StringInfo out, double v, bool is_float)
{
	char		buf[DOUBLE_SHORTEST_DECIMAL_LEN];

	if (isnan(v))
		appendStringInfoString(out, "\"NaN\"");
	else if (isinf(v))
		appendStringInfoString(out, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
	else
	{
		if (is_float)
			float_to_shortest_decimal_buf((float) v, buf);
		else
			double_to_shortest_decimal_buf(v, buf);
		appendStringInfoString(out, buf);
	}
}

static void
write_float(Reader *r, StringInfo out)
{
	uint32		bits = (uint32) take_uint(r, 4);
	float		v;

	memcpy(&v, &bits, sizeof(v));
	write_double(out, v, true);
}

static void
write_float8(Reader *r, StringInfo out)
{
	uint64		bits = take_uint(r, 8);
	double		v;

	memcpy(&v, &bits, sizeof(v));
	write_double(out, v, false);
}

/* A whole number and how many of its digits are behind the point. */
static void
write_decimal(Reader *r, StringInfo out)
{
	int			scale = (int) take_uint(r, 1);
	uint32		value = (uint32) take_uint(r, 4);
	char		digits[300];
	int			len;

	len = snprintf(digits, sizeof(digits), "%0*u", scale + 1, value);
	appendBinaryStringInfo(out, digits, len - scale);
	if (scale > 0)
	{
		appendStringInfoChar(out, '.');
		appendStringInfoString(out, digits + len - scale);
	}
}

static void
write_long_string(Reader *r, StringInfo out, bool bytes)
{
	size_t		n = take_uint(r, 4);
	const uint8 *p = take(r, n);

	if (p == NULL)
		appendStringInfoString(out, "null");
	else if (bytes)
		write_bytes(out, p, n);
	else
		write_string(out, p, n);
}

static void
write_value(Reader *r, StringInfo out, int depth)
{
	uint8		kind = (uint8) take_uint(r, 1);

	if (r->bad)
	{
		appendStringInfoString(out, "null");
		return;
	}
	switch (kind)
	{
		case AMQP_FIELD_KIND_BOOLEAN:
			appendStringInfoString(out, take_uint(r, 1) ? "true" : "false");
			break;
		case AMQP_FIELD_KIND_I8:
			appendStringInfo(out, "%d", (int8) take_uint(r, 1));
			break;
		case AMQP_FIELD_KIND_U8:
			appendStringInfo(out, "%u", (uint8) take_uint(r, 1));
			break;
		case AMQP_FIELD_KIND_I16:
			appendStringInfo(out, "%d", (int16) take_uint(r, 2));
			break;
		case AMQP_FIELD_KIND_U16:
			appendStringInfo(out, "%u", (uint16) take_uint(r, 2));
			break;
		case AMQP_FIELD_KIND_I32:
			appendStringInfo(out, "%d", (int32) take_uint(r, 4));
			break;
		case AMQP_FIELD_KIND_U32:
			appendStringInfo(out, "%u", (uint32) take_uint(r, 4));
			break;
		case AMQP_FIELD_KIND_I64:
			appendStringInfo(out, INT64_FORMAT, (int64) take_uint(r, 8));
			break;
		case AMQP_FIELD_KIND_U64:
		case AMQP_FIELD_KIND_TIMESTAMP:
			appendStringInfo(out, UINT64_FORMAT, take_uint(r, 8));
			break;
		case AMQP_FIELD_KIND_F32:
			write_float(r, out);
			break;
		case AMQP_FIELD_KIND_F64:
			write_float8(r, out);
			break;
		case AMQP_FIELD_KIND_DECIMAL:
			write_decimal(r, out);
			break;
		case AMQP_FIELD_KIND_UTF8:
			write_long_string(r, out, false);
			break;
		case AMQP_FIELD_KIND_BYTES:
			write_long_string(r, out, true);
			break;
		case AMQP_FIELD_KIND_VOID:
			appendStringInfoString(out, "null");
			break;
		case AMQP_FIELD_KIND_ARRAY:
			write_array(r, out, depth + 1);
			break;
		case AMQP_FIELD_KIND_TABLE:
			write_table(r, out, depth + 1);
			break;
		default:
			/* its length is unknown, so nothing behind it can be read */
			r->bad = true;
			appendStringInfoString(out, "null");
			break;
	}
}

static void
write_array(Reader *r, StringInfo out, int depth)
{
	Reader		part = take_part(r, take_uint(r, 4));
	bool		first = true;

	if (depth > MAX_DEPTH)
	{
		appendStringInfoString(out, "null");
		return;
	}
	appendStringInfoChar(out, '[');
	while (!part.bad && part.p < part.end)
	{
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		write_value(&part, out, depth);
	}
	appendStringInfoChar(out, ']');
}

/*
 * Headers in which brokers keep count.  They differ between two deliveries
 * of one message.
 */
static bool
is_brokers(const uint8 *key, size_t len)
{
	static const char *const names[] = {
		"x-delivery-count", "x-acquired-count", "x-death",
		"x-first-death-exchange", "x-first-death-queue",
		"x-first-death-reason", "x-last-death-exchange",
		"x-last-death-queue", "x-last-death-reason"
	};

	if (len < 2 || key[0] != 'x' || key[1] != '-')
		return false;
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strlen(names[i]) == len && memcmp(names[i], key, len) == 0)
			return true;
	}
	return false;
}

static void
write_table(Reader *r, StringInfo out, int depth)
{
	Reader		part = take_part(r, take_uint(r, 4));
	bool		first = true;

	if (depth > MAX_DEPTH)
	{
		appendStringInfoString(out, "null");
		return;
	}
	appendStringInfoChar(out, '{');
	while (!part.bad && part.p < part.end)
	{
		size_t		n = take_uint(&part, 1);
		const uint8 *key = take(&part, n);
		int			rewind = out->len;

		if (key == NULL)
			break;
		if (!first)
			appendStringInfoChar(out, ',');
		write_string(out, key, n);
		appendStringInfoChar(out, ':');
		write_value(&part, out, depth);
		if (depth == 1 && is_brokers(key, n))
		{
			out->len = rewind;
			out->data[out->len] = '\0';
		}
		else
			first = false;
	}
	appendStringInfoChar(out, '}');
}

/*
 * A table of nothing but the broker's headers is as none: a quorum queue adds
 * one to a message without headers when it delivers it again.
 */
static char *
take_headers(Reader *r)
{
	StringInfoData out;

	initStringInfo(&out);
	write_table(r, &out, 1);
	if (strcmp(out.data, "{}") == 0)
		resetStringInfo(&out);
	return out.data;
}

/* ---- properties ----------------------------------------------------- */

/*
 * data is the payload of a header frame behind the size of the body: flags,
 * then the properties they name.  Memory is palloc'd.
 */
void
pi_amqp_parse_header(const uint8 *data, size_t len, PiAmqpProperties *props)
{
	Reader		reader;
	Reader	   *r = &reader;
	uint32		flags;
	uint32		more;

	memset(props, 0, sizeof(*props));
	reader.p = data;
	reader.end = data + len;
	reader.bad = false;

	/* the lowest bit says that another word of flags follows */
	flags = more = (uint32) take_uint(r, 2);
	while (more & 1)
		more = (uint32) take_uint(r, 2);

	if (flags & AMQP_BASIC_CONTENT_TYPE_FLAG)
		props->content_type = take_shortstr(r);
	if (flags & AMQP_BASIC_CONTENT_ENCODING_FLAG)
		props->content_encoding = take_shortstr(r);
	if (flags & AMQP_BASIC_HEADERS_FLAG)
		props->headers_json = take_headers(r);
	else
		props->headers_json = pstrdup("");
	if (flags & AMQP_BASIC_DELIVERY_MODE_FLAG)
	{
		props->delivery_mode = (uint8) take_uint(r, 1);
		props->has_delivery_mode = !r->bad;
	}
	if (flags & AMQP_BASIC_PRIORITY_FLAG)
	{
		props->priority = (uint8) take_uint(r, 1);
		props->has_priority = !r->bad;
	}
	if (flags & AMQP_BASIC_CORRELATION_ID_FLAG)
		props->correlation_id = take_shortstr(r);
	if (flags & AMQP_BASIC_REPLY_TO_FLAG)
		props->reply_to = take_shortstr(r);
	if (flags & AMQP_BASIC_EXPIRATION_FLAG)
		props->expiration = take_shortstr(r);
	if (flags & AMQP_BASIC_MESSAGE_ID_FLAG)
		props->message_id = take_shortstr(r);
	if (flags & AMQP_BASIC_TIMESTAMP_FLAG)
	{
		props->timestamp = take_uint(r, 8);
		props->has_timestamp = !r->bad;
	}
	if (flags & AMQP_BASIC_TYPE_FLAG)
		props->type = take_shortstr(r);
	if (flags & AMQP_BASIC_USER_ID_FLAG)
		props->user_id = take_shortstr(r);
	if (flags & AMQP_BASIC_APP_ID_FLAG)
		props->app_id = take_shortstr(r);
}
