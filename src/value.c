/*-------------------------------------------------------------------------
 *
 * value.c
 *		Trees of JsonbValue: look up, compare, copy, sort.
 *
 * NOTES
 *	  An "in-memory tree" here is what jsonb calls an expanded value: objects
 *	  have their keys sorted and unique, as in a stored jsonb.  A jbvBinary
 *	  (a container in its stored form) may take the place of a whole value and
 *	  is expanded where its inside matters.
 *
 *	  Nothing recurses: the depth of a stored value is not ours to bound, and
 *	  check_stack_depth() would throw.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "value.h"

#define SMALL_INTS			256
#define INSERTION_SORT_MAX	12
#define PAIRWISE_MAX		24

/* One level of two containers that are compared side by side. */
typedef struct CompareLevel
{
	const JsonbValue *a;
	const JsonbValue *b;
	int			next;
} CompareLevel;

/* Containers still to be dealt with. */
typedef struct Pending
{
	JsonbValue **items;
	int			n;
	int			max;
	JsonbValue *local[32];
} Pending;

static Numeric small_ints[SMALL_INTS];


void *
pi_alloc_huge(Size size)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, size);
}

Numeric
pi_int_numeric(int64 value)
{
	MemoryContext old;

	if (value < 0 || value >= SMALL_INTS)
		return DatumGetNumeric(DirectFunctionCall1(int8_numeric,
												   Int64GetDatum(value)));

	if (unlikely(small_ints[value] == NULL))
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		small_ints[value] =
			DatumGetNumeric(DirectFunctionCall1(int8_numeric,
												Int64GetDatum(value)));
		MemoryContextSwitchTo(old);
	}
	return small_ints[value];
}

/*
 * The library's qsort is quadratic for orders made up to defeat it, and the
 * keys of a message are made up by somebody else; hence a merge sort.
 */
void
pi_sort(const void **items, int n, PiCompare compare)
{
	const void **from = items;
	const void **to;
	const void **buffer;
	int			width;
	int			i;

	for (i = 1; i < n; i++)
	{
		if (compare(items[i - 1], items[i]) > 0)
			break;
	}
	if (i >= n)
		return;

	/* short runs, in place */
	for (i = 0; i < n; i += INSERTION_SORT_MAX)
	{
		int			end = Min(n - i, INSERTION_SORT_MAX) + i;
		int			j;

		for (j = i + 1; j < end; j++)
		{
			const void *item = items[j];
			int			k = j;

			while (k > i && compare(items[k - 1], item) > 0)
			{
				items[k] = items[k - 1];
				k--;
			}
			items[k] = item;
		}
	}
	if (n <= INSERTION_SORT_MAX)
		return;

	/* merged, to and fro between the two arrays */
	buffer = pi_alloc_huge(sizeof(void *) * n);
	to = buffer;
	for (width = INSERTION_SORT_MAX; width < n; width *= 2)
	{
		const void **swap;
		int			start;

		for (start = 0; start < n; start += Min(2 * width, n - start))
		{
			int			left = start;
			int			middle = start + Min(width, n - start);
			int			right = middle;
			int			end = start + Min(2 * width, n - start);
			int			out = start;

			while (left < middle && right < end)
			{
				if (compare(from[left], from[right]) <= 0)
					to[out++] = from[left++];
				else
					to[out++] = from[right++];
			}
			while (left < middle)
				to[out++] = from[left++];
			while (right < end)
				to[out++] = from[right++];
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (from != items)
		memcpy(items, from, sizeof(void *) * n);
	pfree(buffer);
}

/* -1, 0, 1 for two values of one scalar type. */
static int
compare_scalars(const JsonbValue *a, const JsonbValue *b)
{
	switch (a->type)
	{
		case jbvString:
			return pi_key_compare(a->val.string.val, a->val.string.len,
								  b->val.string.val, b->val.string.len);
		case jbvNumeric:
			if (a->val.numeric == b->val.numeric)
				return 0;
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp,
													 NumericGetDatum(a->val.numeric),
													 NumericGetDatum(b->val.numeric)));
		case jbvBool:
			return (int) a->val.boolean - (int) b->val.boolean;
		default:
			return 0;
	}
}

int
pi_value_compare(const JsonbValue *a, const JsonbValue *b)
{
	CompareLevel local[16];
	CompareLevel *levels = local;
	int			depth = 0;
	int			max = lengthof(local);
	int			result = 0;

	for (;;)
	{
		int			na = 0;
		int			nb = 0;

		if (a->type == jbvBinary || b->type == jbvBinary)
		{
			JsonbValue *expanded = palloc(2 * sizeof(JsonbValue));

			pi_value_expand(a, &expanded[0]);
			pi_value_expand(b, &expanded[1]);
			a = &expanded[0];
			b = &expanded[1];
		}

		if (a->type != b->type)
			result = a->type < b->type ? -1 : 1;
		else if (a->type == jbvArray)
		{
			na = a->val.array.nElems;
			nb = b->val.array.nElems;
		}
		else if (a->type == jbvObject)
		{
			na = a->val.object.nPairs;
			nb = b->val.object.nPairs;
		}
		else
			result = compare_scalars(a, b);

		if (result == 0 && na != nb)
			result = na < nb ? -1 : 1;
		if (result != 0)
			break;

		if (na > 0)
		{
			if (depth == max)
			{
				CompareLevel *more = palloc(2 * max * sizeof(CompareLevel));

				memcpy(more, levels, max * sizeof(CompareLevel));
				levels = more;
				max *= 2;
			}
			levels[depth].a = a;
			levels[depth].b = b;
			levels[depth].next = 0;
			depth++;
		}

		/* on to the next two values: here, or after the end of this level */
		for (;;)
		{
			CompareLevel *level;
			int			i;

			if (depth == 0)
				return 0;
			level = &levels[depth - 1];
			i = level->next++;
			if (level->a->type == jbvArray)
			{
				if (i < level->a->val.array.nElems)
				{
					a = &level->a->val.array.elems[i];
					b = &level->b->val.array.elems[i];
					break;
				}
			}
			else if (i < level->a->val.object.nPairs)
			{
				const JsonbPair *pa = &level->a->val.object.pairs[i];
				const JsonbPair *pb = &level->b->val.object.pairs[i];

				result = compare_scalars(&pa->key, &pb->key);
				if (result != 0)
					return result;
				a = &pa->value;
				b = &pb->value;
				break;
			}
			depth--;
		}
	}

	return result;
}

/* The kind and size of a value, without looking into it. */
static void
outline(const JsonbValue *v, enum jbvType *type, int *count)
{
	*type = v->type;
	*count = 0;
	if (v->type == jbvArray)
		*count = v->val.array.nElems;
	else if (v->type == jbvObject)
		*count = v->val.object.nPairs;
	else if (v->type == jbvBinary &&
			 !JsonContainerIsScalar(v->val.binary.data))
	{
		*type = JsonContainerIsObject(v->val.binary.data) ? jbvObject : jbvArray;
		*count = JsonContainerSize(v->val.binary.data);
	}
}

bool
pi_value_equal(const JsonbValue *a, const JsonbValue *b)
{
	enum jbvType atype,
				btype;
	int			acount,
				bcount;

	outline(a, &atype, &acount);
	outline(b, &btype, &bcount);
	if (atype != jbvBinary && btype != jbvBinary &&
		(atype != btype || acount != bcount))
		return false;

	/* equal bytes are equal values; other bytes may be too (1.0 and 1.00) */
	if (a->type == jbvBinary && b->type == jbvBinary &&
		a->val.binary.len == b->val.binary.len &&
		memcmp(a->val.binary.data, b->val.binary.data, a->val.binary.len) == 0)
		return true;

	return pi_value_compare(a, b) == 0;
}

static int
compare_value_pointers(const void *a, const void *b)
{
	return pi_value_compare(a, b);
}

int *
pi_value_first_equal(const JsonbValue *values, int n)
{
	int		   *first = pi_alloc_huge(sizeof(int) * Max(n, 1));
	const void **sorted;
	int			i,
				j;

	if (n <= PAIRWISE_MAX)
	{
		for (i = 0; i < n; i++)
		{
			first[i] = i;
			for (j = 0; j < i; j++)
			{
				if (first[j] == j && pi_value_equal(&values[j], &values[i]))
				{
					first[i] = j;
					break;
				}
			}
		}
		return first;
	}

	sorted = pi_alloc_huge(sizeof(void *) * n);
	for (i = 0; i < n; i++)
		sorted[i] = &values[i];
	pi_sort(sorted, n, compare_value_pointers);
	for (i = 0; i < n; i = j)
	{
		int			leader = (const JsonbValue *) sorted[i] - values;

		first[leader] = leader;
		for (j = i + 1; j < n && pi_value_compare(sorted[i], sorted[j]) == 0; j++)
			first[(const JsonbValue *) sorted[j] - values] = leader;
	}
	pfree(sorted);
	return first;
}

static void
pending_init(Pending *pending)
{
	pending->items = pending->local;
	pending->n = 0;
	pending->max = lengthof(pending->local);
}

static void
pending_add(Pending *pending, JsonbValue *v)
{
	if (v->type != jbvArray && v->type != jbvObject && v->type != jbvBinary)
		return;
	if (pending->n == pending->max)
	{
		JsonbValue **more = pi_alloc_huge(sizeof(JsonbValue *) * 2 * pending->max);

		memcpy(more, pending->items, sizeof(JsonbValue *) * pending->n);
		if (pending->items != pending->local)
			pfree(pending->items);
		pending->items = more;
		pending->max *= 2;
	}
	pending->items[pending->n++] = v;
}

static void
pending_free(Pending *pending)
{
	if (pending->items != pending->local)
		pfree(pending->items);
}

/* Gives a scalar memory of its own. */
static void
copy_scalar(JsonbValue *v)
{
	if (v->type == jbvString && v->val.string.len > 0)
	{
		char	   *copy = palloc(v->val.string.len);

		memcpy(copy, v->val.string.val, v->val.string.len);
		v->val.string.val = copy;
	}
	else if (v->type == jbvNumeric)
	{
		Size		size = VARSIZE_ANY(v->val.numeric);
		Numeric		copy = palloc(size);

		memcpy(copy, v->val.numeric, size);
		v->val.numeric = copy;
	}
}

/* Replaces a stored container by its expanded form, one level of it. */
static void
expand_binary(JsonbValue *v, Pending *pending)
{
	JsonbIterator *it = JsonbIteratorInit(v->val.binary.data);
	JsonbValue	head;
	JsonbIteratorToken token;
	int			i;

	token = JsonbIteratorNext(&it, &head, true);
	if (token == WJB_BEGIN_ARRAY)
	{
		int			n = head.val.array.nElems;
		bool		scalar = head.val.array.rawScalar;
		JsonbValue *elems = pi_alloc_huge(sizeof(JsonbValue) * Max(n, 1));

		for (i = 0; i < n; i++)
		{
			(void) JsonbIteratorNext(&it, &elems[i], true);
			copy_scalar(&elems[i]);
			if (!scalar)
				pending_add(pending, &elems[i]);
		}
		if (scalar)
			*v = elems[0];
		else
		{
			v->type = jbvArray;
			v->val.array.nElems = n;
			v->val.array.elems = elems;
			v->val.array.rawScalar = false;
		}
	}
	else
	{
		int			n = head.val.object.nPairs;
		JsonbPair  *pairs = pi_alloc_huge(sizeof(JsonbPair) * Max(n, 1));

		for (i = 0; i < n; i++)
		{
			(void) JsonbIteratorNext(&it, &pairs[i].key, true);
			(void) JsonbIteratorNext(&it, &pairs[i].value, true);
			pairs[i].order = i;
			copy_scalar(&pairs[i].key);
			copy_scalar(&pairs[i].value);
			pending_add(pending, &pairs[i].value);
		}
		v->type = jbvObject;
		v->val.object.nPairs = n;
		v->val.object.pairs = pairs;
	}

	/* the end of the container, which frees the iterator */
	(void) JsonbIteratorNext(&it, &head, true);
}

void
pi_value_expand(const JsonbValue *v, JsonbValue *out)
{
	Pending		pending;
	int			i;

	*out = *v;
	copy_scalar(out);
	if (IsAJsonbScalar(out))
		return;

	pending_init(&pending);
	pending_add(&pending, out);
	while (pending.n > 0)
	{
		JsonbValue *item = pending.items[--pending.n];

		if (item->type == jbvBinary)
			expand_binary(item, &pending);
		else if (item->type == jbvArray)
		{
			int			n = item->val.array.nElems;
			JsonbValue *elems = pi_alloc_huge(sizeof(JsonbValue) * Max(n, 1));

			if (n > 0)
				memcpy(elems, item->val.array.elems, sizeof(JsonbValue) * n);
			item->val.array.elems = elems;
			for (i = 0; i < n; i++)
			{
				copy_scalar(&elems[i]);
				pending_add(&pending, &elems[i]);
			}
		}
		else
		{
			int			n = item->val.object.nPairs;
			JsonbPair  *pairs = pi_alloc_huge(sizeof(JsonbPair) * Max(n, 1));

			if (n > 0)
				memcpy(pairs, item->val.object.pairs, sizeof(JsonbPair) * n);
			item->val.object.pairs = pairs;
			for (i = 0; i < n; i++)
			{
				copy_scalar(&pairs[i].key);
				copy_scalar(&pairs[i].value);
				pending_add(&pending, &pairs[i].value);
			}
		}
	}
	pending_free(&pending);
}

/*
 * Every value costs a JEntry and up to three bytes of alignment, a container
 * its header besides.
 */
static uint64
own_size(const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return 8 + v->val.string.len;
		case jbvNumeric:
			{
				/* 1e131071 is small as jsonb, and long when it is shown */
				char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out,
																	   NumericGetDatum(v->val.numeric)));
				uint64		shown = strlen(text);

				pfree(text);
				return 8 + Max(VARSIZE_ANY(v->val.numeric), shown);
			}
		case jbvBinary:
			return 8 + v->val.binary.len;
		case jbvArray:
		case jbvObject:
			return 12;
		default:
			return 8;
	}
}

uint64
pi_value_size(const JsonbValue *v, uint64 enough)
{
	Pending		pending;
	uint64		size = own_size(v);
	int			i;

	pending_init(&pending);
	pending_add(&pending, (JsonbValue *) v);
	while (pending.n > 0 && size <= enough)
	{
		const JsonbValue *item = pending.items[--pending.n];

		if (item->type == jbvArray)
		{
			for (i = 0; i < item->val.array.nElems; i++)
			{
				size += own_size(&item->val.array.elems[i]);
				pending_add(&pending, &item->val.array.elems[i]);
			}
		}
		else if (item->type == jbvObject)
		{
			for (i = 0; i < item->val.object.nPairs; i++)
			{
				size += own_size(&item->val.object.pairs[i].key);
				size += own_size(&item->val.object.pairs[i].value);
				pending_add(&pending, &item->val.object.pairs[i].value);
			}
		}
	}
	pending_free(&pending);
	return size;
}

JsonbValue *
pi_object_get(const JsonbValue *object, const char *key, int keylen)
{
	JsonbPair  *pairs = object->val.object.pairs;
	int			low = 0;
	int			high;

	Assert(object->type == jbvObject);
	high = object->val.object.nPairs;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		int			order = pi_key_compare(pairs[middle].key.val.string.val,
										   pairs[middle].key.val.string.len,
										   key, keylen);

		if (order == 0)
			return &pairs[middle].value;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

Jsonb *
pi_value_to_jsonb(const JsonbValue *v)
{
	return JsonbValueToJsonb((JsonbValue *) v);
}
