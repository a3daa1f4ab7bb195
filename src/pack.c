/*-------------------------------------------------------------------------
 *
 * pack.c
 *		The stored form of messages that wait to be published.
 *
 * NOTES
 *		Every result is written into the batch record and flushed with it,
 *		mostly to be deleted a moment later.  Nearly all of it is the same in
 *		each result, so a few rules that know these make it a fifth of its
 *		size, at less cost than the bytes saved would have in WAL.  A packed
 *		string is NONE if there is none, else a row of these up to END:
 *
 *			PREVIOUS n	the first n bytes of the same string of the message before
 *			HEX n		n bytes that stand for 2n digits 0-9, a-f
 *			PLAIN b		the byte b
 *			phrase		a piece of text from the table below
 *			any other	byte stands for itself
 *
 *		JSON has no bytes below 0x20, so PLAIN is hardly ever needed.  The
 *		table is part of the format: entries may be added, not changed.
 *
 *		Messages of kind 'r' and 't' in front of the strings were written
 *		without these rules, by library versions before 1.1; 'R' and 'T' with
 *		them.
 *
 * IDENTIFICATION
 *		src/pack.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "libpq/pqformat.h"
#include "pack.h"

#define NO_STRING 0xFFFF

#define PACKED_RESULT 'R'
#define PACKED_EVENT 'T'

#define END 0
#define NONE 1
#define PLAIN 2
#define PREVIOUS 3
#define HEX 4
#define FIRST_PHRASE 5
#define FIRST_TEXT 0x20			/* what is below is one of the above */

/* Fewer digits or bytes are not worth it. */
#define MIN_HEX 8
#define MIN_PREVIOUS 3
#define MAX_COUNT 255

typedef struct Phrase
{
	const char *text;
	int			len;
} Phrase;

#define PHRASE(s) {s, sizeof(s) - 1}

/* Of two with the same beginning, the longer one comes first. */
static const Phrase phrases[] = {
	PHRASE("{\"error\":0,\"error_text\":\"\",\"feedback_id\":\""),
	PHRASE("\",\"matching_field\":\"email\",\"profile_id\":\""),
	PHRASE("\"}"),
	PHRASE("\",\"feedback_id\":\""),
	PHRASE("\",\"matching_field\":\""),
	PHRASE("\",\"profile_id\":\""),
	PHRASE(",\"error_text\":\""),
	PHRASE("{\"error\":"),
	PHRASE("created"),
	PHRASE("updated"),
	PHRASE("unchanged"),
	PHRASE("failed"),
	PHRASE("profile_created"),
	PHRASE("profile_updated"),
	PHRASE("subscription_created"),
	PHRASE("subscription_updated")
};

StaticAssertDecl(FIRST_PHRASE + lengthof(phrases) <= FIRST_TEXT,
				 "phrases must not be taken for text");

/* ---- strings as they are --------------------------------------------- */

void
pi_pack_string(StringInfo buf, const char *s)
{
	size_t		len;

	if (s == NULL)
	{
		pq_sendint16(buf, NO_STRING);
		return;
	}
	len = strlen(s);
	if (len >= NO_STRING)
		elog(ERROR, "string of %zu bytes does not fit the record", len);
	pq_sendint16(buf, (uint16) len);
	appendBinaryStringInfo(buf, s, (int) len);
}

char	   *
pi_unpack_string(StringInfo buf)
{
	int			len = pq_getmsgint(buf, 2);

	if (len == NO_STRING)
		return NULL;
	return pnstrdup(pq_getmsgbytes(buf, len), len);
}

/* ---- packed strings -------------------------------------------------- */

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* The number of the phrase that p begins with, or -1. */
static int
find_phrase(const char *p, const char *end, bool first)
{
	/* these begin all that stand inside of a string */
	if (!first && *p != '"' && *p != ',')
		return -1;
	for (int i = 0; i < lengthof(phrases); i++)
	{
		if (*p == phrases[i].text[0] && end - p >= phrases[i].len &&
			memcmp(p, phrases[i].text, phrases[i].len) == 0)
			return i;
	}
	return -1;
}

/* Packs digits; returns how many, which is 0 if they are too few. */
static int
put_hex(StringInfo buf, const char *p, const char *end)
{
	int			n = 0;

	while (p + n < end && n < 2 * MAX_COUNT && hex_value(p[n]) >= 0)
		n++;
	n &= ~1;
	if (n < MIN_HEX)
		return 0;
	pq_sendint8(buf, HEX);
	pq_sendint8(buf, (uint8) (n / 2));
	for (int i = 0; i < n; i += 2)
		pq_sendint8(buf, (uint8) (hex_value(p[i]) << 4 | hex_value(p[i + 1])));
	return n;
}

static int
common_length(const char *a, int a_len, const char *b, int b_len)
{
	int			max = Min(Min(a_len, b_len), MAX_COUNT);
	int			n = 0;

	while (n < max && a[n] == b[n])
		n++;
	return n;
}

static void
pack(StringInfo buf, const char *s, int len, const char *before)
{
	const char *p = s;
	const char *end = s + len;

	if (before != NULL)
	{
		int			n = common_length(s, len, before, (int) strlen(before));

		if (n >= MIN_PREVIOUS)
		{
			pq_sendint8(buf, PREVIOUS);
			pq_sendint8(buf, (uint8) n);
			p += n;
		}
	}
	while (p < end)
	{
		int			n = find_phrase(p, end, p == s);

		if (n >= 0)
		{
			pq_sendint8(buf, (uint8) (FIRST_PHRASE + n));
			p += phrases[n].len;
			continue;
		}
		n = put_hex(buf, p, end);
		if (n > 0)
		{
			p += n;
			continue;
		}

		/* what is no digit, or digits that are too few */
		do
		{
			if ((unsigned char) *p < FIRST_TEXT)
				pq_sendint8(buf, PLAIN);
			appendStringInfoCharMacro(buf, *p);
			p++;
		} while (p < end && hex_value(p[-1]) >= 0 && hex_value(*p) >= 0);
	}
	pq_sendint8(buf, END);
}

static void
pack_text(StringInfo buf, const char *s, const char *before)
{
	if (s != NULL)
		pack(buf, s, (int) strlen(s), before);
	else
		pq_sendint8(buf, NONE);
}

PI_NORETURN static void
malformed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("malformed record of a result")));
}

static void
unpack_hex(StringInfo buf, StringInfo s)
{
	static const char digits[] = "0123456789abcdef";
	int			n = pq_getmsgbyte(buf);

	for (int i = 0; i < n; i++)
	{
		int			byte = pq_getmsgbyte(buf);

		appendStringInfoChar(s, digits[byte >> 4]);
		appendStringInfoChar(s, digits[byte & 15]);
	}
}

/* NULL if there is none; *len may be NULL. */
static char *
unpack(StringInfo buf, const char *before, int *len)
{
	StringInfoData s;

	initStringInfo(&s);
	for (;;)
	{
		int			code = pq_getmsgbyte(buf);
		int			n;

		if (code >= FIRST_TEXT)
			appendStringInfoCharMacro(&s, (char) code);
		else if (code >= FIRST_PHRASE)
		{
			n = code - FIRST_PHRASE;
			if (n >= lengthof(phrases))
				malformed();
			appendBinaryStringInfo(&s, phrases[n].text, phrases[n].len);
		}
		else if (code == HEX)
			unpack_hex(buf, &s);
		else if (code == PREVIOUS)
		{
			n = pq_getmsgbyte(buf);
			if (before == NULL || n > strlen(before))
				malformed();
			appendBinaryStringInfo(&s, before, n);
		}
		else if (code == PLAIN)
			appendStringInfoChar(&s, (char) pq_getmsgbyte(buf));
		else if (code == END)
			break;
		else
			return NULL;
	}
	if (len != NULL)
		*len = s.len;
	return s.data;
}

/* ---- messages -------------------------------------------------------- */

void
pi_pack_out(StringInfo buf, const PiOut *out, const PiOut *before)
{
	pq_sendint8(buf, out->kind == PI_OUT_RESULT ? PACKED_RESULT : PACKED_EVENT);
	pack_text(buf, out->message_id, before ? before->message_id : NULL);
	pack_text(buf, out->correlation_id, before ? before->correlation_id : NULL);
	pack_text(buf, out->label, NULL);
	pack(buf, out->body, out->len, NULL);
}

void
pi_unpack_out(StringInfo buf, PiOut *out, const PiOut *before)
{
	int			kind = pq_getmsgbyte(buf);

	switch (kind)
	{
		case PACKED_RESULT:
		case PACKED_EVENT:
			out->kind = kind == PACKED_RESULT ? PI_OUT_RESULT : PI_OUT_EVENT;
			out->message_id = unpack(buf, before ? before->message_id : NULL,
									 NULL);
			out->correlation_id = unpack(buf, before ? before->correlation_id : NULL,
										 NULL);
			out->label = unpack(buf, NULL, NULL);
			out->body = unpack(buf, NULL, &out->len);
			break;
		case PI_OUT_RESULT:
		case PI_OUT_EVENT:
			out->kind = (PiOutKind) kind;
			out->message_id = pi_unpack_string(buf);
			out->correlation_id = pi_unpack_string(buf);
			out->label = pi_unpack_string(buf);
			out->len = (int) pq_getmsgint(buf, 4);
			out->body = pnstrdup(pq_getmsgbytes(buf, out->len), out->len);
			break;
		default:
			malformed();
	}
	if (out->message_id == NULL || out->label == NULL || out->body == NULL)
		malformed();
}
