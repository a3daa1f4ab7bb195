/*-------------------------------------------------------------------------
 *
 * body.c
 *		From the bytes of a message to a tree of JsonbValue.
 *
 * NOTES
 *	  jsonb_in() would do the same work, but it throws, and an error per bad
 *	  message costs a subtransaction.  So the grammar of common/jsonapi.c is
 *	  read here once more, as a state machine without recursion: bodies come
 *	  from strangers, and neither their depth nor their width may hurt.
 *
 *	  Values are collected on one stack.  When a container ends, its members
 *	  are moved from the top of the stack to an array of exactly their number,
 *	  so a usual message costs one allocation per container and one per number
 *	  that is not a small integer.  Strings without escapes point into the body.
 *
 *	  What is too deep, too big for a jsonb or below a root that is no object
 *	  is only checked for its syntax ("skipped"): one bit per open bracket.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "body.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "value.h"

/* Longer bodies would overflow the int lengths of jsonb and mbutils. */
#define MAX_BODY_BYTES		MaxAllocSize

/*
 * The limits of the numeric type: places before the point (weights of base
 * 10000 digits are int16), places after it (14 bits), and what numeric_in()
 * takes as an exponent.
 */
#define MAX_NUMBER_PLACES	131072
#define MAX_NUMBER_SCALE	16383
#define MAX_NUMBER_EXPONENT (INT_MAX / 2 - 1)

#define LOCAL_VALUES		128 /* stack entries that need no allocation */
#define LOCAL_KEYS			24	/* keys of one object, likewise */

/* A container that is being built. */
typedef struct OpenContainer
{
	int64		first;			/* its first member on the stack */
	bool		is_object;
} OpenContainer;

typedef struct BodyReader
{
	const char *start;
	const char *at;
	const char *end;
	const char *defect;
	bool		not_object;		/* the root is something else */

	/* values of containers not yet closed; keys and values alternate */
	JsonbValue *values;
	int64		nvalues;
	int64		maxvalues;
	OpenContainer open[PI_MAX_DEPTH];
	int			depth;			/* entries of "open" in use */
	uint64		size;			/* bytes of the tree as jsonb, at most */
	bool		too_big;
	bool		dropped_keys;	/* some object has keys to leave out */

	/* brackets open below a value that is only skipped: 1 for an object */
	uint8	   *skipped;
	int64		nskipped;
	int64		maxskipped;

	/* unescaped strings; never longer than what is left of the body */
	char	   *unescaped;

	JsonbValue	local_values[LOCAL_VALUES];
	uint8		local_skipped[64];
} BodyReader;

/* What read_string() found. */
typedef enum StringKind
{
	STRING_GOOD,
	STRING_HAS_ZERO,			/* holds \u0000, which jsonb cannot store */
	STRING_MALFORMED
} StringKind;

/* Bytes that end the plain part of a string: quote, backslash, controls. */
#define IS_PLAIN(c) ((unsigned char) (c) >= 0x20 && (c) != '"' && (c) != '\\')

#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')

static inline void
skip_space(BodyReader *r)
{
	const char *p = r->at;

	while (p < r->end &&
		   (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	r->at = p;
}

static inline void
note_defect(BodyReader *r, const char *defect)
{
	if (r->defect == NULL)
		r->defect = defect;
}

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

/*
 * Reads the string whose opening quote is at r->at.  "out" is set to it
 * unless it is NULL (skipped) or the string is not good.
 */
static StringKind
read_string(BodyReader *r, JsonbValue *out)
{
	const char *begin = r->at + 1;
	const char *p = plain_end(begin, r->end);
	const char *end = r->end;
	StringKind	kind = STRING_GOOD;
	char	   *text = NULL;
	char	   *to = NULL;
	int			high = -1;		/* first half of a surrogate pair */

	r->at = p;
	if (p < end && *p == '"')
	{
		r->at = p + 1;
		if (out)
			pi_set_string(out, begin, p - begin);
		return STRING_GOOD;
	}

	if (out)
	{
		if (r->unescaped == NULL)
			r->unescaped = palloc(end - begin);
		text = r->unescaped;
		memcpy(text, begin, p - begin);
		to = text + (p - begin);
	}

	for (;;)
	{
		const char *plain = p;

		p = plain_end(p, end);
		r->at = p;
		if (p > plain)
		{
			if (high >= 0)
				return STRING_MALFORMED;
			if (out)
			{
				memcpy(to, plain, p - plain);
				to += p - plain;
			}
		}
		if (p >= end)
			return STRING_MALFORMED;
		if (*p == '"')
			break;
		if (*p != '\\' || end - p < 2)
			return STRING_MALFORMED;

		if (p[1] == 'u')
		{
			int			code = read_hex4(p + 2, end);

			if (code < 0)
				return STRING_MALFORMED;
			p += 6;
			if (code >= 0xD800 && code <= 0xDBFF)
			{
				if (high >= 0)
					return STRING_MALFORMED;
				high = code;
				continue;
			}
			if (code >= 0xDC00 && code <= 0xDFFF)
			{
				if (high < 0)
					return STRING_MALFORMED;
				code = 0x10000 + ((high & 0x3FF) << 10) + (code & 0x3FF);
				high = -1;
			}
			if (high >= 0)
				return STRING_MALFORMED;
			if (code == 0)
			{
				kind = STRING_HAS_ZERO;
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
					return STRING_MALFORMED;
			}
			if (high >= 0)
				return STRING_MALFORMED;
			p += 2;
			if (out)
				*to++ = c;
		}
	}

	if (high >= 0)
		return STRING_MALFORMED;
	r->at = p + 1;
	if (kind == STRING_GOOD && out)
	{
		pi_set_string(out, text, to - text);
		r->unescaped = to;
	}
	return kind;
}

/*
 * Reads the number at r->at.  False: malformed.  "out" (NULL: skipped) is set
 * to it, or to false with a defect if numeric cannot hold it.
 */
static bool
read_number(BodyReader *r, JsonbValue *out)
{
	const char *begin = r->at;
	const char *p = begin;
	const char *end = r->end;
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
	r->at = p;
	if (whole_len == 0)
		return false;

	if (p < end && *p == '.')
	{
		fraction = ++p;
		while (p < end && IS_DIGIT(*p))
			p++;
		fraction_len = p - fraction;
		r->at = p;
		if (fraction_len == 0)
			return false;
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
		r->at = p;
		if (p == exponent_digits)
			return false;
		if (negative)
			exponent = -exponent;
	}

	/* "12x" fails at the x: only space, comma or bracket may follow */
	r->at = p;
	if (out == NULL)
		return true;

	out->type = jbvNumeric;
	if (fraction == NULL && !has_exponent && whole_len <= 18)
	{
		int64		value = 0;

		for (p = digits; p < r->at; p++)
			value = value * 10 + (*p - '0');
		out->val.numeric = pi_int_numeric(*begin == '-' ? -value : value);
		return true;
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
		note_defect(r, "The message contains a number out of range.");
		out->type = jbvBool;
		out->val.boolean = false;
		return true;
	}

	text = (r->at - begin < sizeof(local)) ? local : palloc(r->at - begin + 1);
	memcpy(text, begin, r->at - begin);
	text[r->at - begin] = '\0';
	out->val.numeric =
		DatumGetNumeric(DirectFunctionCall3(numeric_in,
											CStringGetDatum(text),
											ObjectIdGetDatum(InvalidOid),
											Int32GetDatum(-1)));
	if (text != local)
		pfree(text);
	return true;
}

/* Reads true, false or null.  False: malformed. */
static bool
read_word(BodyReader *r, JsonbValue *out)
{
	Size		left = r->end - r->at;

	if (left >= 4 && memcmp(r->at, "true", 4) == 0)
	{
		out->type = jbvBool;
		out->val.boolean = true;
		r->at += 4;
	}
	else if (left >= 5 && memcmp(r->at, "false", 5) == 0)
	{
		out->type = jbvBool;
		out->val.boolean = false;
		r->at += 5;
	}
	else if (left >= 4 && memcmp(r->at, "null", 4) == 0)
	{
		out->type = jbvNull;
		r->at += 4;
	}
	else
		return false;
	return true;
}

/* A place on top of the stack. */
static inline JsonbValue *
push_value(BodyReader *r)
{
	if (unlikely(r->nvalues == r->maxvalues))
	{
		Size		size = r->maxvalues * sizeof(JsonbValue);

		if (r->values == r->local_values)
		{
			r->values = pi_alloc_huge(2 * size);
			memcpy(r->values, r->local_values, size);
		}
		else
			r->values = repalloc_huge(r->values, 2 * size);
		r->maxvalues *= 2;
	}
	return &r->values[r->nvalues++];
}

static inline void
push_false(BodyReader *r)
{
	JsonbValue *v = push_value(r);

	v->type = jbvBool;
	v->val.boolean = false;
}

static void
open_skipped(BodyReader *r, bool is_object)
{
	if (r->nskipped == r->maxskipped)
	{
		Size		bytes = r->maxskipped / 8;

		if (r->skipped == r->local_skipped)
		{
			r->skipped = pi_alloc_huge(2 * bytes);
			memcpy(r->skipped, r->local_skipped, bytes);
		}
		else
			r->skipped = repalloc_huge(r->skipped, 2 * bytes);
		r->maxskipped *= 2;
	}
	if (is_object)
		r->skipped[r->nskipped / 8] |= 1 << (r->nskipped % 8);
	else
		r->skipped[r->nskipped / 8] &= ~(1 << (r->nskipped % 8));
	r->nskipped++;
}

/*
 * Once the tree is beyond what a jsonb can hold, whatever lies below the root
 * is given up: the member of the root that is being read becomes false.
 */
static void
give_up_building(BodyReader *r)
{
	int			i;

	r->too_big = true;
	note_defect(r, "The message holds too much data.");
	if (r->depth <= 1)
		return;
	for (i = 1; i < r->depth; i++)
		open_skipped(r, r->open[i].is_object);
	r->nvalues = r->open[1].first;
	r->depth = 1;
	push_false(r);
}

static inline void
count_size(BodyReader *r, uint64 bytes)
{
	r->size += bytes;
	if (unlikely(r->size > PI_MAX_JSONB_BYTES) && !r->too_big)
		give_up_building(r);
}

static int
compare_key_values(const void *a, const void *b)
{
	const JsonbValue *ka = a;
	const JsonbValue *kb = b;

	return pi_key_compare(ka->val.string.val, ka->val.string.len,
						  kb->val.string.val, kb->val.string.len);
}

/*
 * Makes an object of keys and values that alternate.  Keys sorted, of equal
 * ones the last.
 */
static void
build_object(JsonbValue *members, int n, bool drop_keys, JsonbValue *out)
{
	const void *local_keys[LOCAL_KEYS];
	const void **keys = local_keys;
	JsonbPair  *pairs = NULL;
	int			nkeys = 0;
	int			npairs = 0;
	int			i;

	if (n > LOCAL_KEYS)
		keys = pi_alloc_huge(sizeof(void *) * n);
	for (i = 0; i < n; i++)
	{
		if (!drop_keys || members[2 * i].type == jbvString)
			keys[nkeys++] = &members[2 * i];
	}

	/* stable, so the last of equal keys is the last of its run */
	pi_sort(keys, nkeys, compare_key_values);

	if (nkeys > 0)
		pairs = pi_alloc_huge(sizeof(JsonbPair) * nkeys);
	for (i = 0; i < nkeys; i++)
	{
		const JsonbValue *key = keys[i];

		if (i + 1 < nkeys && compare_key_values(key, keys[i + 1]) == 0)
			continue;
		pairs[npairs].key = key[0];
		pairs[npairs].value = key[1];
		pairs[npairs].order = npairs;
		npairs++;
	}
	if (keys != local_keys)
		pfree(keys);

	out->type = jbvObject;
	out->val.object.nPairs = npairs;
	out->val.object.pairs = pairs;
}

/* Moves the members of the innermost container into a value of its own. */
static void
close_container(BodyReader *r)
{
	OpenContainer *open = &r->open[--r->depth];
	JsonbValue *members = &r->values[open->first];
	int			n = (int) (r->nvalues - open->first);
	JsonbValue	built;

	if (open->is_object)
		build_object(members, n / 2, r->dropped_keys, &built);
	else
	{
		built.type = jbvArray;
		built.val.array.nElems = n;
		built.val.array.elems = NULL;
		built.val.array.rawScalar = false;
		if (n > 0)
		{
			built.val.array.elems = pi_alloc_huge(sizeof(JsonbValue) * n);
			memcpy(built.val.array.elems, members, sizeof(JsonbValue) * n);
		}
	}
	r->nvalues = open->first;
	*push_value(r) = built;
}

/*
 * Reads the whole body.  False: malformed at r->at.  Otherwise the root is
 * the one value on the stack, or r->not_object is set.
 */
static bool
read_body(BodyReader *r)
{
	JsonbValue *v;
	JsonbValue	scratch;
	StringKind	kind;
	bool		is_object;

value:
	skip_space(r);
	if (r->at >= r->end)
		return false;

	switch (*r->at)
	{
		case '{':
		case '[':
			is_object = (*r->at++ == '{');
			if (r->nskipped > 0)
				open_skipped(r, is_object);
			else if (r->depth == 0 && !is_object)
			{
				r->not_object = true;
				open_skipped(r, false);
			}
			else if (r->depth == PI_MAX_DEPTH || r->too_big)
			{
				if (!r->too_big)
					note_defect(r, "The message is nested too deeply.");
				push_false(r);
				open_skipped(r, is_object);
			}
			else
			{
				r->open[r->depth].first = r->nvalues;
				r->open[r->depth].is_object = is_object;
				r->depth++;
				count_size(r, 12);
			}
			skip_space(r);
			if (r->at < r->end && *r->at == (is_object ? '}' : ']'))
				goto close;
			if (is_object)
				goto key;
			goto value;

		case '"':
			if (r->nskipped > 0 || r->depth == 0)
			{
				if (read_string(r, NULL) == STRING_MALFORMED)
					return false;
				break;
			}
			v = push_value(r);
			kind = read_string(r, v);
			if (kind == STRING_MALFORMED)
				return false;
			if (kind == STRING_HAS_ZERO)
			{
				note_defect(r, "The message contains \\u0000.");
				v->type = jbvBool;
				v->val.boolean = false;
				break;
			}
			count_size(r, 8 + v->val.string.len);
			break;

		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			if (r->nskipped > 0 || r->depth == 0)
			{
				if (!read_number(r, NULL))
					return false;
				break;
			}
			v = push_value(r);
			if (!read_number(r, v))
				return false;
			count_size(r, 8 + (v->type == jbvNumeric ?
							   VARSIZE_ANY(v->val.numeric) : 0));
			break;

		default:
			if (!read_word(r, &scratch))
				return false;
			if (r->nskipped > 0 || r->depth == 0)
				break;
			*push_value(r) = scratch;
			count_size(r, 8);
			break;
	}

after_value:
	skip_space(r);
	if (r->nskipped > 0)
	{
		int64		top = r->nskipped - 1;

		is_object = (r->skipped[top / 8] >> (top % 8)) & 1;
	}
	else if (r->depth > 0)
		is_object = r->open[r->depth - 1].is_object;
	else
	{
		if (r->nvalues == 0)
			r->not_object = true;
		return r->at == r->end;
	}

	if (r->at >= r->end)
		return false;
	if (*r->at == ',')
	{
		r->at++;
		skip_space(r);
		if (is_object)
			goto key;
		goto value;
	}
	if (*r->at != (is_object ? '}' : ']'))
		return false;

close:
	r->at++;
	if (r->nskipped > 0)
		r->nskipped--;
	else
		close_container(r);
	goto after_value;

key:
	if (r->at >= r->end || *r->at != '"')
		return false;
	if (r->nskipped > 0)
		kind = read_string(r, NULL);
	else
	{
		v = push_value(r);
		kind = read_string(r, v);
		if (kind == STRING_HAS_ZERO)
		{
			note_defect(r, "The message contains \\u0000.");
			v->type = jbvNull;
			r->dropped_keys = true;
		}
		else if (kind == STRING_GOOD)
			count_size(r, 12 + v->val.string.len);
	}
	if (kind == STRING_MALFORMED)
		return false;
	skip_space(r);
	if (r->at >= r->end || *r->at != ':')
		return false;
	r->at++;
	goto value;
}

void
pi_body_parse(const char *bytes, size_t len, PiBody *out)
{
	BodyReader	r;

	out->root = NULL;
	out->defect = NULL;

	if (len == 0)
	{
		out->defect = "The message is empty.";
		return;
	}
	if (len > MAX_BODY_BYTES)
	{
		out->defect = "The message is too large.";
		return;
	}
	if (!pg_verify_mbstr(PG_UTF8, bytes, (int) len, true))
	{
		/* a zero byte is UTF-8, but in no place of a JSON text */
		if (memchr(bytes, '\0', len) != NULL)
			out->defect = "The message contains a zero byte.";
		else
			out->defect = "The message is not valid UTF-8.";
		return;
	}

	r.start = bytes;
	r.at = bytes;
	r.end = bytes + len;
	r.defect = NULL;
	r.not_object = false;
	r.values = r.local_values;
	r.nvalues = 0;
	r.maxvalues = LOCAL_VALUES;
	r.depth = 0;
	r.size = 0;
	r.too_big = false;
	r.dropped_keys = false;
	r.skipped = r.local_skipped;
	r.nskipped = 0;
	r.maxskipped = sizeof(r.local_skipped) * 8;
	r.unescaped = NULL;

	if (!read_body(&r))
	{
		if (r.at >= r.end)
			out->defect = "The message is not valid JSON: it ends too early.";
		else
			out->defect = psprintf("The message is not valid JSON at byte %zu.",
								   (size_t) (r.at - r.start) + 1);
	}
	else if (r.not_object)
		out->defect = "The message is not a JSON object.";
	else
	{
		out->root = palloc(sizeof(JsonbValue));
		*out->root = r.values[0];
		out->defect = r.defect;
	}

	if (r.values != r.local_values)
		pfree(r.values);
	if (r.skipped != r.local_skipped)
		pfree(r.skipped);
}
