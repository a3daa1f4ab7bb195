/*-------------------------------------------------------------------------
 *
 * subscriptions.c
 *		data.subscriptions: elements read, applied to the subscriptions of a
 *		profile, written.
 *
 * NOTES
 *		The elements of a message are applied in memory first, in array order,
 *		and only then written: two elements for one contact make one row
 *		version, and a required field of a new subscription may come with any
 *		of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "compat.h"
#include "subscriptions.h"
#include "textnorm.h"

typedef enum ContactKind
{
	CONTACT_EMAIL,
	CONTACT_PHONE,
	CONTACT_PUSH,
	CONTACT_CC_DATA
} ContactKind;

static const struct
{
	const char *name;
	ContactKind kind;
}			channels[] =

{
	{"email", CONTACT_EMAIL},
	{"sms", CONTACT_PHONE},
	{"push", CONTACT_PUSH},
	{"viber", CONTACT_PHONE},
	{"whatsapp", CONTACT_PHONE},
	{"telegram_bot", CONTACT_CC_DATA},
	{"notify", CONTACT_PHONE}
};

static int
channel_index(const char *name, int len)
{
	for (int i = 0; i < lengthof(channels); i++)
		if (strlen(channels[i].name) == len && memcmp(channels[i].name, name, len) == 0)
			return i;
	return -1;
}

const char *
pi_channel(const char *name, int len)
{
	int			i = channel_index(name, len);

	return i < 0 ? NULL : channels[i].name;
}

/* ---- identity ------------------------------------------------------------- */

char	   *
pi_contact_key_of(const char *channel, const char *contact, const char *provider,
				  Jsonb *cc_data)
{
	int			i = channel_index(channel, strlen(channel));
	char	   *text;

	if (i >= 0 && channels[i].kind == CONTACT_CC_DATA)
		return cc_data == NULL ? pstrdup("") :
			psprintf(INT64_FORMAT,
					 DatumGetInt64(DirectFunctionCall2(jsonb_hash_extended,
													   JsonbPGetDatum(cc_data),
													   Int64GetDatum(0))));
	if (i >= 0 && channels[i].kind == CONTACT_PUSH)
	{
		if (provider == NULL)
			provider = "";
		/* the length keeps ("a", "bc") and ("ab", "c") apart */
		return psprintf("%zu:%s%s", strlen(provider), provider,
						contact ? contact : "");
	}
	text = pstrdup(contact ? contact : "");
	if (i >= 0 && channels[i].kind == CONTACT_EMAIL)
		for (char *p = text; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p += 'a' - 'A';
	return text;
}

/* The same as the index of 1.0.0 has it, made from the key above. */
char	   *
pi_contact_key_1_0(const char *channel, const char *contact_key)
{
	char	   *rest;
	int			len;

	if (strcmp(channel, "push") != 0)
		return pstrdup(contact_key);
	len = (int) strtol(contact_key, &rest, 10);
	rest++;						/* the colon */
	return psprintf("%.*s\x1f%s", len, rest, rest + len);
}

/* ---- reading elements ------------------------------------------------------ */

static const JsonbValue *
get(const JsonbValue *object, const char *key)
{
	const JsonbValue *v = pi_object_get(object, key, strlen(key));

	return v == NULL || v->type == jbvNull ? NULL : v;
}

static char *
wrong(const char *key, const char *why)
{
	return psprintf("Key \"%s\" in \"subscriptions\" is not valid: %s.", key, why);
}

/* A string member that must be there and not blank; NULL with *error_text. */
static char *
need_string(const JsonbValue *e, const char *key, char **error_text)
{
	const JsonbValue *v = get(e, key);

	if (v == NULL)
		*error_text = wrong(key, "it is missing");
	else if (v->type != jbvString)
		*error_text = wrong(key, "a string is expected");
	else if (pi_is_blank(v->val.string.val, v->val.string.len))
		*error_text = wrong(key, "it is empty");
	else
		return pnstrdup(v->val.string.val, v->val.string.len);
	return NULL;
}

static bool
read_contact(const JsonbValue *e, ContactKind kind, PiSubChange *c, char **error_text)
{
	const char *why;
	bool		empty;
	char	   *s;
	const JsonbValue *v;

	switch (kind)
	{
		case CONTACT_EMAIL:
		case CONTACT_PHONE:
			{
				const char *key = kind == CONTACT_EMAIL ? "email" : "phone";

				if ((s = need_string(e, key, error_text)) == NULL)
					return false;
				c->contact = kind == CONTACT_EMAIL ?
					pi_normalize_email(s, strlen(s), &empty, &why) :
					pi_normalize_phone(s, strlen(s), &empty, &why);
				if (c->contact == NULL)
				{
					*error_text = wrong(key, why);
					return false;
				}
				return true;
			}
		case CONTACT_PUSH:
			return (c->provider = need_string(e, "provider", error_text)) != NULL &&
				(c->contact = need_string(e, "subscription_id", error_text)) != NULL;
		case CONTACT_CC_DATA:
			v = get(e, "cc_data");
			if (v == NULL || v->type != jbvObject || v->val.object.nPairs == 0)
			{
				*error_text = wrong("cc_data", v == NULL ? "it is missing" :
									"an object that is not empty is expected");
				return false;
			}
			c->cc_data = pi_value_to_jsonb(v);
			return true;
	}
	return false;
}

/* Absent: -1. */
static bool
read_priority(const JsonbValue *v, int *priority)
{
	int64		n;

	*priority = -1;
	if (v == NULL)
		return true;
	if (!pi_json_int64(v, &n) || n < PG_INT32_MIN || n > PG_INT32_MAX)
		return false;
	*priority = (int) n;
	return true;
}

static bool
read_status(const JsonbValue *v, int *status)
{
	int64		n;

	*status = -1;
	if (v == NULL || (pi_json_int64(v, &n) && n == -1))
		return true;
	if (v->type == jbvString &&
		pi_int_from_string(v->val.string.val, v->val.string.len, &n) && n == -1)
		return true;
	return pi_status(v, status);
}

static bool
read_cats(const JsonbValue *v, PiSubChange *c, char **error_text)
{
	if (v == NULL)
		return true;
	if (v->type != jbvArray)
	{
		*error_text = wrong("cats", "an array of category names is expected");
		return false;
	}
	c->has_cats = true;
	c->cats = palloc(sizeof(char *) * Max(v->val.array.nElems, 1));
	for (int i = 0; i < v->val.array.nElems; i++)
	{
		const JsonbValue *e = &v->val.array.elems[i];
		char	   *name;
		bool		known = false;
		bool		repeated = false;

		if (e->type != jbvString)
		{
			*error_text = wrong("cats", "an array of category names is expected");
			return false;
		}
		name = pnstrdup(e->val.string.val, e->val.string.len);
		for (int j = 0; j < c->resource->ncats && !known; j++)
			known = strcmp(c->resource->cats[j], name) == 0;
		if (!known)
		{
			*error_text = wrong("cats", "the resource has no such category");
			return false;
		}
		for (int j = 0; j < c->ncats && !repeated; j++)
			repeated = strcmp(c->cats[j], name) == 0;
		if (!repeated)
			c->cats[c->ncats++] = name;
	}
	return true;
}

static bool
read_custom_fields(const JsonbValue *v, PiSubChange *c, char **error_text)
{
	if (v == NULL)
		return true;
	if (v->type != jbvObject)
	{
		*error_text = wrong("custom_fields", "an object is expected");
		return false;
	}
	c->fields = palloc(sizeof(PiChange) * Max(v->val.object.nPairs, 1));
	for (int i = 0; i < v->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &v->val.object.pairs[i];
		const PiFieldDef *field = pi_declared_field(c->resource->fields, c->resource->nfields,
													pair->key.val.string.val,
													pair->key.val.string.len);

		if (field == NULL)
		{
			*error_text = psprintf("Field \"%s\" is not declared for the resource.",
								   pi_show_name(pair->key.val.string.val, pair->key.val.string.len));
			return false;
		}
		if (!pi_change_parse(field, &pair->value, &c->fields[c->nfields++], error_text))
			return false;
	}
	return true;
}

static bool
read_element(const PiDatabase *db, const JsonbValue *e, PiSubChange *c, int *error,
			 char **error_text)
{
	const JsonbValue *v;
	int64		id;
	int			channel;
	char	   *s;

	memset(c, 0, sizeof(*c));
	*error = 400;
	if (e->type != jbvObject)
	{
		*error_text = "An element of \"subscriptions\" is not an object.";
		return false;
	}
	v = get(e, "resource_id");
	if (v == NULL || !pi_json_int64(v, &id))
	{
		*error_text = wrong("resource_id", v == NULL ? "it is missing" : "an int is expected");
		return false;
	}
	if (pi_json_id(v) == 0)
	{
		*error_text = wrong("resource_id", "an int from 1 to 2147483647 is expected");
		return false;
	}
	c->resource = pi_config_resource(db, pi_json_id(v));
	if (c->resource == NULL)
	{
		*error = 404;
		*error_text = "The resource of \"resource_id\" in \"subscriptions\" is unknown or not open to the database.";
		return false;
	}
	s = need_string(e, "channel", error_text);
	if (s == NULL)
		return false;
	channel = channel_index(s, strlen(s));
	if (channel < 0)
	{
		*error_text = wrong("channel", "it is none of the known channels");
		return false;
	}
	c->channel = channels[channel].name;
	if (!read_contact(e, channels[channel].kind, c, error_text))
		return false;
	c->contact_key = pi_contact_key_of(c->channel, c->contact, c->provider, c->cc_data);
	if (!read_status(get(e, "status"), &c->status))
	{
		*error_text = wrong("status", "a status word or number is expected");
		return false;
	}
	if (!read_priority(get(e, "priority"), &c->priority))
	{
		*error_text = wrong("priority", "an int of 32 bits is expected");
		return false;
	}
	return read_custom_fields(get(e, "custom_fields"), c, error_text) &&
		read_cats(get(e, "cats"), c, error_text);
}

bool
pi_subs_parse(const PiDatabase *db, const PiMessage *msg, PiSubChange **changes,
			  int *nchanges, int *error, char **error_text)
{
	const JsonbValue *v = get(msg->data, "subscriptions");
	int			n;

	*nchanges = 0;
	*changes = NULL;
	if (v == NULL)
		return true;
	if (v->type != jbvArray)
	{
		*error = 400;
		*error_text = "Field \"subscriptions\" must be an array of objects.";
		return false;
	}
	n = v->val.array.nElems;
	*changes = palloc(sizeof(PiSubChange) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (read_element(db, &v->val.array.elems[i], &(*changes)[*nchanges], error, error_text))
			(*nchanges)++;
		else if (!msg->skip_invalid_subscriptions)
			return false;
	}
	return true;
}

static void
implicit(PiSubChange *c, const PiResource *resource, const char *channel, char *contact,
		 char *provider)
{
	memset(c, 0, sizeof(*c));
	c->resource = resource;
	c->channel = channel;
	c->contact = contact;
	c->provider = provider;
	c->contact_key = pi_contact_key_of(channel, contact, provider, NULL);
	c->status = c->priority = -1;
	c->implicit = true;
}

int
pi_subs_implicit(const PiDatabase *db, const PiMessage *msg, PiSubChange *changes)
{
	const PiResource *resource = pi_config_resource(db, msg->resource_id);
	int			n = 0;

	if (msg->email)
		implicit(&changes[n++], resource, "email", msg->email, NULL);
	if (msg->phone)
		implicit(&changes[n++], resource, "sms", msg->phone, NULL);
	if (msg->mode == PI_MATCH_PUSH_SUB)
		implicit(&changes[n++], resource, "push", msg->subscription_id, msg->provider);
	return n;
}

/* ---- applying --------------------------------------------------------------- */

static PiSubState *
find_state(PiSubStates *all, const PiSubChange *c)
{
	for (int i = 0; i < all->n; i++)
	{
		PiSubscription *s = &all->states[i].sub;

		if (s->resource_id == c->resource->resource_id &&
			strcmp(s->channel, c->channel) == 0 &&
			strcmp(s->contact_key, c->contact_key) == 0)
			return &all->states[i];
	}
	return NULL;
}

static bool
same_cats(const PiSubscription *a, const PiSubscription *b)
{
	if (a->ncats != b->ncats)
		return false;
	for (int i = 0; i < a->ncats; i++)
		if (strcmp(a->cats[i], b->cats[i]) != 0)
			return false;
	return true;
}

/* Keeps the last value of every custom field that an element changed. */
static void
note_fields(PiSubState *st, const PiMerge *merge)
{
	PiChanged  *all = palloc(sizeof(PiChanged) * (st->nfields + merge->nchanged + 1));
	int			n = 0;

	for (int i = 0; i < st->nfields; i++)
	{
		bool		again = false;

		for (int j = 0; j < merge->nchanged && !again; j++)
			again = merge->changed[j].field == st->fields[i].field;
		if (!again)
			all[n++] = st->fields[i];
	}
	memcpy(all + n, merge->changed, sizeof(PiChanged) * merge->nchanged);
	st->fields = all;
	st->nfields = n + merge->nchanged;
}

static bool
apply(PiSubState *st, const PiSubChange *c, char **error_text)
{
	PiSubscription *s = &st->sub;
	PiMerge		merge;

	if (!pi_merge(s->custom_fields, c->fields, c->nfields, &merge, error_text))
		return false;
	st->resource = c->resource;
	st->implicit |= c->implicit;
	if (merge.nchanged > 0)
	{
		s->custom_fields = merge.data;
		note_fields(st, &merge);
	}
	if (c->status >= 0)
		s->status = c->status;
	if (c->priority != -1)
		s->priority = c->priority;
	if (c->has_cats)
	{
		s->cats = c->cats;
		s->ncats = c->ncats;
	}
	return true;
}

/* What the elements together changed: the last may have undone the first. */
static void
compare_with_stored(PiSubState *st)
{
	int			n = 0;

	st->status_changed = st->sub.status != st->orig.status;
	st->priority_changed = st->sub.priority != st->orig.priority;
	st->cats_changed = !same_cats(&st->sub, &st->orig);
	for (int i = 0; i < st->nfields; i++)
	{
		PiChanged  *c = &st->fields[i];
		JsonbValue *before = st->orig.custom_fields ?
		pi_stored_value(st->orig.custom_fields, c->field) : NULL;

		if (c->present != (before != NULL) ||
			(c->present && !pi_value_equal(before, &c->value)))
			st->fields[n++] = *c;
	}
	st->nfields = n;
	st->changed = st->sub.subscription_no == 0 || st->status_changed ||
		st->priority_changed || st->cats_changed || n > 0;
}

static PiSubState *
add_state(PiSubStates *all, const PiSubChange *c)
{
	PiSubState *st = &all->states[all->n++];

	memset(st, 0, sizeof(*st));
	st->sub.resource_id = c->resource->resource_id;
	st->sub.channel = pstrdup(c->channel);
	st->sub.contact = c->contact;
	st->sub.provider = c->provider;
	st->sub.cc_data = c->cc_data;
	st->sub.contact_key = c->contact_key;
	st->sub.custom_fields = pi_empty_object();
	return st;
}

/* The name of a required field that a new subscription lacks, or NULL. */
static const char *
lacks(const PiSubState *st)
{
	for (int i = 0; i < st->resource->nfields; i++)
	{
		const PiFieldDef *f = &st->resource->fields[i];

		if (f->required && pi_stored_value(st->sub.custom_fields, f) == NULL)
			return f->name;
	}
	return NULL;
}

bool
pi_subs_apply(const PiDatabase *db, const char *profile_id, bool skip_invalid,
			  const PiSubChange *changes, int nchanges, PiSubStates *out,
			  char **error_text)
{
	PiSubscription *stored = NULL;
	int			nstored = 0;

	out->n = 0;
	if (nchanges == 0)
		return true;
	if (profile_id != NULL)
		nstored = pi_load_subscriptions(db, profile_id, &stored);
	out->states = palloc0(sizeof(PiSubState) * (nstored + nchanges));
	for (int i = 0; i < nstored; i++)
	{
		out->states[i].sub = out->states[i].orig = stored[i];
		out->n++;
	}

	for (int i = 0; i < nchanges; i++)
	{
		PiSubState *st = find_state(out, &changes[i]);
		bool		fresh = st == NULL;

		if (fresh)
			st = add_state(out, &changes[i]);
		if (!apply(st, &changes[i], error_text))
		{
			if (!skip_invalid)
				return false;
			if (fresh)
				out->n--;
		}
	}
	for (int i = 0; i < out->n; i++)
	{
		PiSubState *st = &out->states[i];
		const char *field;

		if (st->resource == NULL)
			continue;
		compare_with_stored(st);
		if (st->sub.subscription_no != 0 || (field = lacks(st)) == NULL)
			continue;
		if (!skip_invalid || st->implicit)
		{
			*error_text = psprintf("Field \"%s\" is required to create a subscription.", field);
			return false;
		}
		st->dropped = true;
	}
	return true;
}

bool
pi_subs_changed(const PiSubStates *states)
{
	for (int i = 0; i < states->n; i++)
		if (states->states[i].changed && !states->states[i].dropped)
			return true;
	return false;
}

/* ---- writing ----------------------------------------------------------------- */

bool
pi_subs_write(const PiDatabase *db, const char *profile_id, PiSubStates *states,
			  bool written)
{
	if (!pi_subs_changed(states))
		return true;

	/* even a profile just written may be gone: a trigger may delete it */
	if (!pi_lock_profile(db->account_id, db->db_id, profile_id))
	{
		if (written)
			pi_row_was_swallowed("profile");
		return false;
	}
	for (int i = 0; i < states->n; i++)
	{
		PiSubState *st = &states->states[i];

		if (!st->changed || st->dropped)
			continue;
		if (st->sub.subscription_no == 0)
			pi_insert_subscription(db, profile_id, &st->sub);
		else if (!pi_update_subscription(&st->sub))
			return false;
	}
	return true;
}

static void
push_text(JsonbParseState * *state, const char *key, const char *text)
{
	JsonbValue	v;

	if (text == NULL)
		return;
	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, text);
	v.val.string.len = strlen(text);
	pushJsonbValue(state, WJB_VALUE, &v);
}

static void
push_key(JsonbParseState * *state, const char *key)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
}

static void
push_int(JsonbParseState * *state, const char *key, int n)
{
	JsonbValue	v;

	push_key(state, key);
	v.type = jbvNumeric;
	v.val.numeric = DatumGetNumeric(DirectFunctionCall1(int4_numeric, Int32GetDatum(n)));
	pushJsonbValue(state, WJB_VALUE, &v);
}

/*
 * For a new subscription: everything that was set.  (subscription_no is
 * given by the insert, so "new" cannot be told from it here: a new one has
 * no version.)
 */
Jsonb	   *
pi_subs_event(const PiSubState *st)
{
	JsonbParseState *state = NULL;
	const PiSubscription *s = &st->sub;
	bool		created = !ItemPointerIsValid(&s->ctid);

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (created)
	{
		push_text(&state, "contact", s->contact);
		push_text(&state, "provider", s->provider);
		if (s->cc_data)
		{
			JsonbValue	v;

			push_key(&state, "cc_data");
			v.type = jbvBinary;
			v.val.binary.data = &s->cc_data->root;
			v.val.binary.len = VARSIZE(s->cc_data) - VARHDRSZ;
			pushJsonbValue(&state, WJB_VALUE, &v);
		}
	}
	if (created || st->status_changed)
		push_int(&state, "status", s->status);
	if (created || st->priority_changed)
		push_int(&state, "priority", s->priority);
	if (st->cats_changed)
	{
		push_key(&state, "cats");
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		for (int i = 0; i < s->ncats; i++)
		{
			JsonbValue	v;

			v.type = jbvString;
			v.val.string.val = s->cats[i];
			v.val.string.len = strlen(s->cats[i]);
			pushJsonbValue(&state, WJB_ELEM, &v);
		}
		pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	}
	if (st->nfields > 0)
	{
		push_key(&state, "custom_fields");
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		pi_push_changed(&state, st->fields, st->nfields);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
