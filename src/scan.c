/*-------------------------------------------------------------------------
 *
 * scan.c
 *		The tokens of a JSON text: strings, numbers and words.
 *
 * NOTES
 *	  Exactly the tokens of common/jsonapi.c as jsonb_in() takes them in a
 *	  UTF8 database, but nothing here throws.  The text is valid UTF-8 without
 *	  a zero byte; whoever calls has seen to that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "scan.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "value.h"

/*
 * The limits of the numeric type: places before the point (weights of base
 * 10000 digits are int16), places after it (14 bits), and what numeric_in()
 * takes as an exponent.
 */
#define MAX_NUMBER_PLACES	131072
#define MAX_NUMBER_SCALE	16383
#define MAX_NUMBER_EXPONENT (INT_MAX / 2 - 1)

/* Bytes that end the plain part of a string: quote, backslash, controls. */
#define IS_PLAIN(c) ((unsigned char) (c) >= 0x20 && (c) != '"' && (c) != '\\')

#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')


/* The value of four hex digits, or -1. */
static int
read_hex4(const char *p, const char *end)
{
	int			value = 0;
	int			i;

	if (end - p < 4)
		return -1;
	for (i = 0; i < 4; i++)
	{
		char		c = p[i];

		if (IS_DIGIT(c))
			value = value * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			value = value * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return value;
}

/*
 * Where the plain part of a string that goes on at p ends, eight bytes at a
 * time: a byte of the word is marked if it is below 0x20 or equals one of the
 * two, which the usual "is there a zero byte" test tells.  A mark may be wrong
 * only above a right one, and the bytes are looked at once more.
 */
static inline const char *
plain_end(const char *p, const char *end)
{
	const uint64 ones = UINT64CONST(0x0101010101010101);
	const uint64 highs = UINT64CONST(0x8080808080808080);

	while (end - p >= 8)
	{
		uint64		word;
		uint64		quote;
		uint64		backslash;
		uint64		marks;

		memcpy(&word, p, 8);
		quote = word ^ (ones * '"');
		backslash = word ^ (ones * '\\');
		marks = ((word - ones * 0x20) & ~word) |
			((quote - ones) & ~quote) |
			((backslash - ones) & ~backslash);
		if (marks & highs)
			break;
		p += 8;
	}
	while (p < end && IS_PLAIN(*p))
		p++;
	return p;
}

/* What follows is not the second half of a surrogate pair. */
static inline void
close_pair(int *high, PiToken *token)
{
	if (*high >= 0)
		*token = PI_TOKEN_UNPAIRED;
	*high = -1;
}

PiToken
pi_scan_string(PiScanner *scanner, JsonbValue *out)
{
	const char *begin = scanner->at + 1;
	const char *p = plain_end(begin, scanner->end);
	const char *end = scanner->end;
	PiToken		token = PI_TOKEN_GOOD;
	char	   *text = NULL;
	char	   *to = NULL;
	int			high = -1;		/* first half of a surrogate pair */

	scanner->at = p;
	if (p < end && *p == '"')
	{
		scanner->at = p + 1;
		if (out)
			pi_set_string(out, begin, p - begin);
		return PI_TOKEN_GOOD;
	}

	if (out)
	{
		if (scanner->unescaped == NULL)
			scanner->unescaped = palloc(end - begin);
		text = scanner->unescaped;
		memcpy(text, begin, p - begin);
		to = text + (p - begin);
	}

	for (;;)
	{
		const char *plain = p;

		p = plain_end(p, end);
		scanner->at = p;
		if (p > plain)
		{
			close_pair(&high, &token);
			if (out)
			{
				memcpy(to, plain, p - plain);
				to += p - plain;
			}
		}
		if (p >= end)
			return PI_TOKEN_MALFORMED;
		if (*p == '"')
			break;
		if (*p != '\\' || end - p < 2)
			return PI_TOKEN_MALFORMED;

		if (p[1] == 'u')
		{
			int			code = read_hex4(p + 2, end);

			if (code < 0)
				return PI_TOKEN_MALFORMED;
			p += 6;
			if (code >= 0xD800 && code <= 0xDBFF)
			{
				close_pair(&high, &token);
				high = code;
				continue;
			}
			if (code >= 0xDC00 && code <= 0xDFFF)
			{
				if (high < 0)
				{
					token = PI_TOKEN_UNPAIRED;
					continue;
				}
				code = 0x10000 + ((high & 0x3FF) << 10) + (code & 0x3FF);
				high = -1;
			}
			close_pair(&high, &token);
			if (code == 0)
			{
				token = PI_TOKEN_UNFIT;
				continue;
			}
			if (out)
			{
				unicode_to_utf8(code, (unsigned char *) to);
				to += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
			}
		}
		else
		{
			char		c;

			switch (p[1])
			{
				case '"':
				case '\\':
				case '/':
					c = p[1];
					break;
				case 'b':
					c = '\b';
					break;
				case 'f':
					c = '\f';
					break;
				case 'n':
					c = '\n';
					break;
				case 'r':
					c = '\r';
					break;
				case 't':
					c = '\t';
					break;
				default:
					return PI_TOKEN_MALFORMED;
			}
			close_pair(&high, &token);
			p += 2;
			if (out)
				*to++ = c;
		}
	}

	close_pair(&high, &token);
	scanner->at = p + 1;
	if (token == PI_TOKEN_GOOD && out)
	{
		pi_set_string(out, text, to - text);
		scanner->unescaped = to;
	}
	return token;
}

PiToken
pi_scan_number(PiScanner *scanner, JsonbValue *out)
{
	const char *begin = scanner->at;
	const char *p = begin;
	const char *end = scanner->end;
	const char *digits;
	const char *fraction = NULL;
	int64		whole_len;
	int64		fraction_len = 0;
	int64		exponent = 0;
	int64		first;			/* power of ten of the first digit not zero */
	bool		is_zero = false;
	bool		has_exponent = false;
	char		local[128];
	char	   *text;
	Size		len;

	if (*p == '-')
		p++;
	digits = p;
	if (p < end && *p == '0')
		p++;
	else
	{
		while (p < end && IS_DIGIT(*p))
			p++;
	}
	whole_len = p - digits;
	scanner->at = p;
	if (whole_len == 0)
		return PI_TOKEN_MALFORMED;

	if (p < end && *p == '.')
	{
		fraction = ++p;
		while (p < end && IS_DIGIT(*p))
			p++;
		fraction_len = p - fraction;
		scanner->at = p;
		if (fraction_len == 0)
			return PI_TOKEN_MALFORMED;
	}

	if (p < end && (*p == 'e' || *p == 'E'))
	{
		const char *exponent_digits;
		bool		negative = false;

		has_exponent = true;
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			negative = (*p++ == '-');
		exponent_digits = p;
		for (; p < end && IS_DIGIT(*p); p++)
		{
			if (exponent <= MAX_NUMBER_EXPONENT)
				exponent = exponent * 10 + (*p - '0');
		}
		scanner->at = p;
		if (p == exponent_digits)
			return PI_TOKEN_MALFORMED;
		if (negative)
			exponent = -exponent;
	}

	/* "12x" fails at the x: only space, comma or bracket may follow */
	scanner->at = p;
	if (out == NULL)
		return PI_TOKEN_GOOD;

	if (fraction == NULL && !has_exponent && whole_len <= 18)
	{
		int64		value = 0;

		for (p = digits; p < scanner->at; p++)
			value = value * 10 + (*p - '0');
		out->type = jbvNumeric;
		out->val.numeric = pi_int_numeric(*begin == '-' ? -value : value);
		return PI_TOKEN_GOOD;
	}

	if (*digits != '0')
		first = whole_len - 1;
	else
	{
		int64		zeros = 0;

		while (zeros < fraction_len && fraction[zeros] == '0')
			zeros++;
		is_zero = (zeros == fraction_len);
		first = -1 - zeros;
	}
	if (exponent > MAX_NUMBER_EXPONENT || exponent < -MAX_NUMBER_EXPONENT ||
		(!is_zero && first + exponent >= MAX_NUMBER_PLACES) ||
		fraction_len - exponent > MAX_NUMBER_SCALE)
	{
		return PI_TOKEN_UNFIT;
	}

	len = scanner->at - begin;
	scanner->swelling += Max(Max(is_zero ? 0 : first + exponent, 0) +
							 Max(fraction_len - exponent, 0) - (int64) len, 0);
	text = (len < sizeof(local)) ? local : palloc(len + 1);
	memcpy(text, begin, len);
	text[len] = '\0';
	out->type = jbvNumeric;
	out->val.numeric =
		DatumGetNumeric(DirectFunctionCall3(numeric_in,
											CStringGetDatum(text),
											ObjectIdGetDatum(InvalidOid),
											Int32GetDatum(-1)));
	if (text != local)
		pfree(text);
	return PI_TOKEN_GOOD;
}

bool
pi_scan_word(PiScanner *scanner, JsonbValue *out)
{
	Size		left = scanner->end - scanner->at;

	if (left >= 4 && memcmp(scanner->at, "true", 4) == 0)
	{
		out->type = jbvBool;
		out->val.boolean = true;
		scanner->at += 4;
	}
	else if (left >= 5 && memcmp(scanner->at, "false", 5) == 0)
	{
		out->type = jbvBool;
		out->val.boolean = false;
		scanner->at += 5;
	}
	else if (left >= 4 && memcmp(scanner->at, "null", 4) == 0)
	{
		out->type = jbvNull;
		scanner->at += 4;
	}
	else
		return false;
	return true;
}
