/*-------------------------------------------------------------------------
 *
 * fields.c
 *		Plain values and functional updates of profile fields.
 *
 * NOTES
 *	  A change is read once, from the message alone, and may then be applied
 *	  several times (when a profile is matched again after a race).  So
 *	  applying never alters the change or the stored value: what is new is
 *	  allocated, what stays is shared.
 *
 *	  Decisions where the documentation leaves room:
 *	  - "submatch" is looked at by upsert only, and its value may be anything
 *		elsewhere; an empty part ("a..b") is an error;
 *	  - add and delete that leave nothing keep the field as an empty array;
 *		on a missing field, when they have nothing to add, it stays missing;
 *	  - add leaves repeats that were stored before as they are, delete removes
 *		all of them;
 *	  - incr by 0 on a missing field stores 0; upsert on a missing arr_object
 *		has no elements to change and leaves it missing.
 *
 *	  Texts name fields, actions and keys, never values: they end up in logs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "body.h"
#include "common/int.h"
#include "fields.h"
#include "textnorm.h"
#include "value.h"

/*
 * Parts of submatch.  With values at most PI_MAX_DEPTH deep this bounds what
 * upserts can ever nest, far from where jsonb runs out of stack.
 */
#define MAX_PATH_PARTS		PI_MAX_DEPTH

typedef struct Action
{
	const char *name;
	PiAction	action;
	bool		needs_value;
} Action;

static const Action actions[] =
{
	{"set", PI_ACTION_SET, true},
	{"unset", PI_ACTION_UNSET, false},
	{"incr", PI_ACTION_INCR, true},
	{"add", PI_ACTION_ADD, true},
	{"delete", PI_ACTION_DELETE, true},
	{"upsert", PI_ACTION_UPSERT, true}
};

/* An object read as a functional update. */
typedef struct Functional
{
	const Action *action;
	const JsonbValue *value;	/* NULL: absent */
	const JsonbValue *submatch; /* NULL: absent */
} Functional;


/* ---- from the message ------------------------------------------------ */

/*
 * True if an object has "action" with one of the six words and no keys but
 * the three.
 */
static bool
read_functional(const JsonbValue *object, Functional *out)
{
	const JsonbValue *action = NULL;
	int			i;

	out->action = NULL;
	out->value = NULL;
	out->submatch = NULL;
	if (object->val.object.nPairs > 3)
		return false;
	for (i = 0; i < object->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &object->val.object.pairs[i];

		if (pi_string_is(&pair->key, "action", 6))
			action = &pair->value;
		else if (pi_string_is(&pair->key, "value", 5))
			out->value = &pair->value;
		else if (pi_string_is(&pair->key, "submatch", 8))
			out->submatch = &pair->value;
		else
			return false;
	}
	if (action == NULL)
		return false;
	for (i = 0; i < lengthof(actions); i++)
	{
		if (pi_string_is(action, actions[i].name, strlen(actions[i].name)))
		{
			out->action = &actions[i];
			return true;
		}
	}
	return false;
}

static bool
type_has_action(PiType type, PiAction action)
{
	switch (action)
	{
		case PI_ACTION_SET:
		case PI_ACTION_UNSET:
			return true;
		case PI_ACTION_INCR:
			return type == PI_TYPE_INT || type == PI_TYPE_FLOAT;
		case PI_ACTION_ADD:
		case PI_ACTION_DELETE:
			return type == PI_TYPE_TAGS || type == PI_TYPE_PHONES ||
				type == PI_TYPE_ARR_OBJECT;
		case PI_ACTION_UPSERT:
			return type == PI_TYPE_OBJECT || type == PI_TYPE_ARR_OBJECT;
	}
	return false;
}

static bool
parse_unset(const PiFieldDef *field, PiChange *out, char **error_text)
{
	if (field->type == PI_TYPE_EMAIL || field->required)
	{
		*error_text = psprintf("Field \"%s\" cannot be unset.", field->name);
		return false;
	}
	out->action = PI_ACTION_UNSET;
	out->value.type = jbvNull;
	return true;
}

/* A plain value, or the value of set, incr, add and delete. */
static bool
parse_value(const PiFieldDef *field, PiAction action, const JsonbValue *in,
			PiChange *out, char **error_text)
{
	const char *why;
	JsonbValue	list;

	out->action = action;

	/* one object stands for a list of one */
	if (field->type == PI_TYPE_ARR_OBJECT && in->type == jbvObject &&
		(action == PI_ACTION_ADD || action == PI_ACTION_DELETE))
	{
		list.type = jbvArray;
		list.val.array.nElems = 1;
		list.val.array.elems = (JsonbValue *) in;
		list.val.array.rawScalar = false;
		in = &list;
	}

	if (pi_convert(field, in, &out->value, &why))
		return true;
	*error_text = psprintf("Field \"%s\" does not accept this value: %s.",
						   field->name, why);
	return false;
}

static bool
parse_path(const PiFieldDef *field, const JsonbValue *submatch, PiChange *out,
		   char **error_text)
{
	const char *s;
	const char *end;
	char	   *copy;
	char	   *p;
	int			n = 1;
	int			i;

	if (submatch == NULL || submatch->type != jbvString ||
		submatch->val.string.len == 0)
	{
		*error_text = psprintf("Field \"%s\": the action \"upsert\" needs a \"submatch\" that is a path (\"a.b\").",
							   field->name);
		return false;
	}

	s = submatch->val.string.val;
	end = s + submatch->val.string.len;
	for (; s < end; s++)
	{
		if (*s == '.')
			n++;
	}
	if (n > MAX_PATH_PARTS)
	{
		*error_text = psprintf("Field \"%s\": the path in \"submatch\" has more than %d parts.",
							   field->name, MAX_PATH_PARTS);
		return false;
	}

	copy = pnstrdup(submatch->val.string.val, submatch->val.string.len);
	out->path = palloc(sizeof(char *) * n);
	out->npath = n;
	for (i = 0, p = copy; i < n; i++)
	{
		char	   *dot = strchr(p, '.');

		if (dot != NULL)
			*dot = '\0';
		if (*p == '\0')
		{
			*error_text = psprintf("Field \"%s\": the path in \"submatch\" has an empty part.",
								   field->name);
			return false;
		}
		out->path[i] = p;
		if (dot != NULL)
			p = dot + 1;
	}
	return true;
}

static bool
parse_functional(const PiFieldDef *field, const Functional *functional,
				 PiChange *out, char **error_text)
{
	const Action *action = functional->action;
	const JsonbValue *value = functional->value;

	if (!type_has_action(field->type, action->action))
	{
		*error_text = psprintf("Field \"%s\" does not know the action \"%s\".",
							   field->name, action->name);
		return false;
	}
	if (action->needs_value && value == NULL)
	{
		*error_text = psprintf("Field \"%s\": the action \"%s\" needs a \"value\".",
							   field->name, action->name);
		return false;
	}

	switch (action->action)
	{
		case PI_ACTION_UNSET:
			return parse_unset(field, out, error_text);

		case PI_ACTION_UPSERT:
			out->action = PI_ACTION_UPSERT;
			out->value = *value;
			return parse_path(field, functional->submatch, out, error_text);

		case PI_ACTION_SET:
			if (value->type == jbvNull)
				return parse_unset(field, out, error_text);
			/* FALLTHROUGH */

		default:
			return parse_value(field, action->action, value, out, error_text);
	}
}

bool
pi_change_parse(const PiFieldDef *field, const JsonbValue *in,
				PiChange *out, char **error_text)
{
	JsonbValue	expanded;
	Functional	functional;

	out->field = field;
	out->path = NULL;
	out->npath = 0;

	if (in->type == jbvBinary)
	{
		pi_value_expand(in, &expanded);
		in = &expanded;
	}

	if (in->type == jbvNull)
		return parse_unset(field, out, error_text);
	if (in->type == jbvObject)
	{
		if (read_functional(in, &functional))
			return parse_functional(field, &functional, out, error_text);
		if (field->type != PI_TYPE_OBJECT &&
			pi_object_get(in, "action", 6) != NULL)
		{
			/* most likely meant as one */
			*error_text = psprintf("Field \"%s\" does not accept this value: \"action\" must be set, unset, incr, add, delete or upsert, beside \"value\" and \"submatch\" only.",
								   field->name);
			return false;
		}
	}
	return parse_value(field, PI_ACTION_SET, in, out, error_text);
}

/* ---- to the stored value --------------------------------------------- */

static bool
wrong_stored_value(const PiFieldDef *field, char **error_text)
{
	/* only by changing a declaration behind the extension's back */
	*error_text = psprintf("The stored value of field \"%s\" does not fit its type.",
						   field->name);
	return false;
}

static bool
apply_incr(const PiChange *change, const JsonbValue *old, JsonbValue *result,
		   char **error_text)
{
	const PiFieldDef *field = change->field;

	if (field->type == PI_TYPE_INT)
	{
		int64		stored = 0;
		int64		by;

		if ((old != NULL && !pi_json_int64(old, &stored)) ||
			!pi_json_int64(&change->value, &by))
			return wrong_stored_value(field, error_text);
		if (!pg_add_s64_overflow(stored, by, &stored))
		{
			result->type = jbvNumeric;
			result->val.numeric = pi_int_numeric(stored);
			return true;
		}
	}
	else
	{
		double		stored = 0;
		double		by;

		if ((old != NULL && !pi_get_double(old, &stored)) ||
			!pi_get_double(&change->value, &by))
			return wrong_stored_value(field, error_text);
		stored += by;
		if (isfinite(stored))
		{
			pi_set_double(result, stored);
			return true;
		}
	}

	*error_text = psprintf("Field \"%s\": the action \"incr\" leads out of range.",
						   field->name);
	return false;
}

/*
 * add and delete: the two lists are laid end to end, so that one search for
 * equal values tells everything.
 */
static bool
apply_list(const PiChange *change, const JsonbValue *old, JsonbValue *result,
		   bool *present, char **error_text)
{
	const JsonbValue *value = &change->value;
	bool		add = (change->action == PI_ACTION_ADD);
	int			nvalue = value->val.array.nElems;
	int			nold = 0;
	int			n;
	int			kept = 0;
	int			i;
	JsonbValue *all;
	int		   *first;

	if (old != NULL)
	{
		if (old->type != jbvArray)
			return wrong_stored_value(change->field, error_text);
		nold = old->val.array.nElems;
	}
	else if (!add || nvalue == 0)
	{
		*present = false;
		return true;
	}

	n = nold + nvalue;
	all = pi_alloc_huge(sizeof(JsonbValue) * Max(n, 1));
	if (nold > 0)
		memcpy(all + (add ? 0 : nvalue), old->val.array.elems,
			   sizeof(JsonbValue) * nold);
	if (nvalue > 0)
		memcpy(all + (add ? nold : 0), value->val.array.elems,
			   sizeof(JsonbValue) * nvalue);
	first = pi_value_first_equal(all, n);

	if (add)
	{
		kept = nold;
		for (i = nold; i < n; i++)
		{
			if (first[i] == i)
				all[kept++] = all[i];
		}
	}
	else
	{
		for (i = nvalue; i < n; i++)
		{
			if (first[i] >= nvalue)
				all[kept++] = all[i];
		}
	}
	pfree(first);

	result->type = jbvArray;
	result->val.array.nElems = kept;
	result->val.array.elems = all;
	result->val.array.rawScalar = false;
	return true;
}

/* A copy of an object in which one member has another value. */
static void
with_member(const JsonbValue *object, const char *key, const JsonbValue *value,
			JsonbValue *out)
{
	const JsonbPair *from = object->val.object.pairs;
	int			n = object->val.object.nPairs;
	int			keylen = strlen(key);
	int			order = 1;
	int			at;
	JsonbPair  *pairs;

	for (at = 0; at < n; at++)
	{
		order = pi_key_compare(key, keylen, from[at].key.val.string.val,
							   from[at].key.val.string.len);
		if (order <= 0)
			break;
	}

	pairs = pi_alloc_huge(sizeof(JsonbPair) * (n + 1));
	if (at > 0)
		memcpy(pairs, from, sizeof(JsonbPair) * at);
	pi_set_string(&pairs[at].key, key, keylen);
	pairs[at].value = *value;
	pairs[at].order = at;
	if (at < n && order == 0)
	{
		memcpy(pairs + at + 1, from + at + 1, sizeof(JsonbPair) * (n - at - 1));
		n--;
	}
	else if (at < n)
		memcpy(pairs + at + 1, from + at, sizeof(JsonbPair) * (n - at));

	out->type = jbvObject;
	out->val.object.nPairs = n + 1;
	out->val.object.pairs = pairs;
}

/*
 * Writes the value at the path of an object, which is not altered.  Missing
 * parents are created.  False: the path leads through something else.
 */
static bool
write_at_path(const PiChange *change, const JsonbValue *object,
			  JsonbValue *out)
{
	static const JsonbValue empty = {.type = jbvObject};
	const JsonbValue *parents[MAX_PATH_PARTS];
	JsonbValue	value = change->value;
	int			i;

	for (i = 0; i < change->npath; i++)
	{
		if (object->type != jbvObject)
			return false;
		parents[i] = object;
		object = pi_object_get(object, change->path[i],
							   strlen(change->path[i]));
		if (object == NULL)
			object = &empty;
	}

	/* from the innermost object outwards */
	while (--i >= 0)
	{
		JsonbValue	parent;

		with_member(parents[i], change->path[i], &value, &parent);
		value = parent;
	}
	*out = value;
	return true;
}

static bool
has_path(const PiChange *change, const JsonbValue *v)
{
	int			i;

	for (i = 0; i < change->npath; i++)
	{
		if (v == NULL || v->type != jbvObject)
			return false;
		v = pi_object_get(v, change->path[i], strlen(change->path[i]));
	}
	return v != NULL;
}

static bool
upsert_object(const PiChange *change, const JsonbValue *old,
			  JsonbValue *result, char **error_text)
{
	JsonbValue	empty = {.type = jbvObject};

	if (old == NULL)
		old = &empty;
	if (write_at_path(change, old, result))
		return true;
	*error_text = psprintf("Field \"%s\": the path in \"submatch\" leads through something that is not an object.",
						   change->field->name);
	return false;
}

static bool
upsert_array(const PiChange *change, const JsonbValue *old,
			 JsonbValue *result, bool *present, char **error_text)
{
	JsonbValue *elems;
	int			n;
	int			changed = 0;
	int			i;

	if (old == NULL)
	{
		*present = false;
		return true;
	}
	if (old->type != jbvArray)
		return wrong_stored_value(change->field, error_text);

	n = old->val.array.nElems;
	elems = pi_alloc_huge(sizeof(JsonbValue) * Max(n, 1));
	for (i = 0; i < n; i++)
	{
		const JsonbValue *elem = &old->val.array.elems[i];

		if (has_path(change, elem) &&
			write_at_path(change, elem, &elems[i]))
			changed++;
		else
			elems[i] = *elem;
	}

	/* one small message must not multiply into more than a jsonb can hold */
	if (changed > 1 &&
		pi_value_size(&change->value, PI_MAX_JSONB_BYTES) * changed +
		pi_value_size(old, PI_MAX_JSONB_BYTES) > PI_MAX_JSONB_BYTES)
	{
		*error_text = psprintf("Field \"%s\" would become too large.",
							   change->field->name);
		return false;
	}

	result->type = jbvArray;
	result->val.array.nElems = n;
	result->val.array.elems = elems;
	result->val.array.rawScalar = false;
	return true;
}

bool
pi_change_apply(const PiChange *change, const JsonbValue *old,
				JsonbValue *result, bool *present, char **error_text)
{
	JsonbValue	expanded;

	*present = true;
	if (change->action == PI_ACTION_SET)
	{
		*result = change->value;
		return true;
	}
	if (change->action == PI_ACTION_UNSET)
	{
		*present = false;
		return true;
	}

	/* null is no value of any field: the same as absent */
	if (old != NULL && old->type == jbvNull)
		old = NULL;
	if (old != NULL && old->type == jbvBinary)
	{
		pi_value_expand(old, &expanded);
		old = &expanded;
	}

	switch (change->action)
	{
		case PI_ACTION_INCR:
			return apply_incr(change, old, result, error_text);

		case PI_ACTION_ADD:
		case PI_ACTION_DELETE:
			return apply_list(change, old, result, present, error_text);

		default:
			if (change->field->type == PI_TYPE_OBJECT)
				return upsert_object(change, old, result, error_text);
			return upsert_array(change, old, result, present, error_text);
	}
}
