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

#include "body.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "scan.h"
#include "utils/memutils.h"
#include "value.h"

/* Longer bodies would overflow the int lengths of jsonb and mbutils. */
#define MAX_BODY_BYTES		MaxAllocSize

/*
 * 1e131071 has 8 characters and takes 10 bytes as jsonb, but jsonb writes it
 * with 131072 digits: a message full of such numbers would become a row that
 * can neither be shown nor dumped.  So these may add so much to the message.
 */
#define MAX_SWELLING		(1024 * 1024)

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
	PiScanner	scan;
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

	JsonbValue	local_values[LOCAL_VALUES];
	uint8		local_skipped[64];
} BodyReader;


static inline void
skip_space(BodyReader *r)
{
	const char *p = r->scan.at;

	while (p < r->scan.end &&
		   (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	r->scan.at = p;
}

static inline void
note_defect(BodyReader *r, const char *defect)
{
	if (r->defect == NULL)
		r->defect = defect;
}

static const char *
unfit_string(PiToken token)
{
	return token == PI_TOKEN_UNPAIRED ?
		"The message contains half of a surrogate pair." :
		"The message contains \\u0000.";
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
 * Reads the whole body.  False: malformed at r->scan.at.  Otherwise the root is
 * the one value on the stack, or r->not_object is set.
 */
static bool
read_body(BodyReader *r)
{
	JsonbValue *v;
	JsonbValue	scratch;
	PiToken		token;
	bool		is_object;

value:
	skip_space(r);
	if (r->scan.at >= r->scan.end)
		return false;

	switch (*r->scan.at)
	{
		case '{':
		case '[':
			is_object = (*r->scan.at++ == '{');
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
			if (r->scan.at < r->scan.end && *r->scan.at == (is_object ? '}' : ']'))
				goto close;
			if (is_object)
				goto key;
			goto value;

		case '"':
			if (r->nskipped > 0 || r->depth == 0)
			{
				if (pi_scan_string(&r->scan, NULL) == PI_TOKEN_MALFORMED)
					return false;
				break;
			}
			v = push_value(r);
			token = pi_scan_string(&r->scan, v);
			if (token == PI_TOKEN_MALFORMED)
				return false;
			if (token != PI_TOKEN_GOOD)
			{
				note_defect(r, unfit_string(token));
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
				if (pi_scan_number(&r->scan, NULL) == PI_TOKEN_MALFORMED)
					return false;
				break;
			}
			v = push_value(r);
			token = pi_scan_number(&r->scan, v);
			if (token == PI_TOKEN_MALFORMED)
				return false;
			if (token == PI_TOKEN_UNFIT)
			{
				note_defect(r, "The message contains a number out of range.");
				v->type = jbvBool;
				v->val.boolean = false;
				break;
			}
			if (r->scan.swelling > MAX_SWELLING)
				note_defect(r, "The numbers of the message are too long when they are written without exponent.");
			count_size(r, 8 + VARSIZE_ANY(v->val.numeric));
			break;

		default:
			if (!pi_scan_word(&r->scan, &scratch))
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
		return r->scan.at == r->scan.end;
	}

	if (r->scan.at >= r->scan.end)
		return false;
	if (*r->scan.at == ',')
	{
		r->scan.at++;
		skip_space(r);
		if (is_object)
			goto key;
		goto value;
	}
	if (*r->scan.at != (is_object ? '}' : ']'))
		return false;

close:
	r->scan.at++;
	if (r->nskipped > 0)
		r->nskipped--;
	else
		close_container(r);
	goto after_value;

key:
	if (r->scan.at >= r->scan.end || *r->scan.at != '"')
		return false;
	if (r->nskipped > 0)
		token = pi_scan_string(&r->scan, NULL);
	else
	{
		v = push_value(r);
		token = pi_scan_string(&r->scan, v);
		if (token == PI_TOKEN_UNFIT || token == PI_TOKEN_UNPAIRED)
		{
			note_defect(r, unfit_string(token));
			v->type = jbvNull;
			r->dropped_keys = true;
		}
		else if (token == PI_TOKEN_GOOD)
			count_size(r, 12 + v->val.string.len);
	}
	if (token == PI_TOKEN_MALFORMED)
		return false;
	skip_space(r);
	if (r->scan.at >= r->scan.end || *r->scan.at != ':')
		return false;
	r->scan.at++;
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

	r.scan.start = bytes;
	r.scan.at = bytes;
	r.scan.end = bytes + len;
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
	r.scan.unescaped = NULL;
	r.scan.swelling = 0;

	if (!read_body(&r))
	{
		if (r.scan.at >= r.scan.end)
			out->defect = "The message is not valid JSON: it ends too early.";
		else
			out->defect = psprintf("The message is not valid JSON at byte %zu.",
								   (size_t) (r.scan.at - r.scan.start) + 1);
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
