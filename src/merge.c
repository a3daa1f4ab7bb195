/*-------------------------------------------------------------------------
 *
 * merge.c
 *		A set of changes applied to a stored object of fields.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "compat.h"
#include "merge.h"

JsonbValue *
pi_stored_value(Jsonb *data, const PiFieldDef *field)
{
	return getKeyJsonValueFromContainer(&data->root, field->name, field->namelen, NULL);
}

Jsonb	   *
pi_empty_object(void)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
push_key(JsonbParseState * *state, const PiFieldDef *field)
{
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = field->name;
	key.val.string.len = field->namelen;
	pushJsonbValue(state, WJB_KEY, &key);
}

void
pi_push_changed(JsonbParseState * *state, const PiChanged *changed, int n)
{
	for (int i = 0; i < n; i++)
	{
		JsonbValue	null;

		null.type = jbvNull;
		push_key(state, changed[i].field);
		pushJsonbValue(state, WJB_VALUE,
					   changed[i].present ? unconstify(JsonbValue *, &changed[i].value) : &null);
	}
}

static bool
is_changed(const PiMerge *m, const JsonbValue *key)
{
	for (int i = 0; i < m->nchanged; i++)
		if (m->changed[i].field->namelen == key->val.string.len &&
			memcmp(m->changed[i].field->name, key->val.string.val, key->val.string.len) == 0)
			return true;
	return false;
}

/* The old object with the changed fields replaced. */
static Jsonb *
rebuild(Jsonb *old, const PiMerge *m)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit(&old->root);
	JsonbIteratorToken tok;
	JsonbValue	v;
	bool		skip = false;

	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		switch (tok)
		{
			case WJB_KEY:
				skip = is_changed(m, &v);
				if (!skip)
					pushJsonbValue(&state, tok, &v);
				break;
			case WJB_VALUE:
				if (!skip)
					pushJsonbValue(&state, tok, &v);
				break;
			case WJB_BEGIN_OBJECT:
				pushJsonbValue(&state, tok, NULL);
				break;
			default:
				break;
		}
	}
	for (int i = 0; i < m->nchanged; i++)
		if (m->changed[i].present)
			pi_push_changed(&state, &m->changed[i], 1);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

bool
pi_merge(Jsonb *old, const PiChange *changes, int nchanges, PiMerge *out,
		 char **error_text)
{
	out->data = old;
	out->nchanged = 0;
	out->changed = palloc(sizeof(PiChanged) * Max(nchanges, 1));
	for (int i = 0; i < nchanges; i++)
	{
		PiChanged  *c = &out->changed[out->nchanged];
		JsonbValue *stored = pi_stored_value(old, changes[i].field);

		c->field = changes[i].field;
		if (!pi_change_apply(&changes[i], stored, &c->value, &c->present, error_text))
			return false;
		if (c->present != (stored != NULL) ||
			(c->present && !pi_value_equal(stored, &c->value)))
			out->nchanged++;
	}
	if (out->nchanged > 0)
		out->data = rebuild(old, out);
	return true;
}
