/*-------------------------------------------------------------------------
 *
 * import_one.c
 *		One message: checked, matched, merged, written.
 *
 * NOTES
 *		The order of the steps is the order of failures of SPEC.md section 2:
 *		the first failure wins.  Nothing is written before every check has
 *		passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "body.h"
#include "compat.h"
#include "import_one.h"
#include "merge.h"
#include "profile_id.h"
#include "row.h"
#include "settings.h"
#include "subscriptions.h"

/* How often the version read may be gone when it is to be updated. */
#define MAX_ATTEMPTS 10

bool		pi_version_gone = false;

void
pi_fail(PiResult *r, int error, const char *error_text)
{
	r->error = error;
	r->error_text = error_text;
	r->profile_id = "";
	r->outcome = PI_FAILED;
}

/* ---- reading ---------------------------------------------------------------- */

static JsonbValue *
read_body(PiItem *item, const PiInput *input)
{
	PiBody		body;

	item->early_error = 0;
	item->feedback_id = item->matching = "";
	item->account_id = item->db_id = 0;
	if (input->too_large)
	{
		item->early_error = 400;
		item->early_text = "The message is larger than profimport.max_message_size.";
		return NULL;
	}
	pi_body_parse(input->body, input->len, &body);
	pi_message_echo(body.root, &item->feedback_id, &item->matching);
	pi_message_place(body.root, &item->account_id, &item->db_id);
	if (body.defect)
	{
		item->early_error = 400;
		item->early_text = pstrdup(body.defect);
	}
	return body.root;
}

void
pi_item_read_echo(PiItem *item, const PiInput *input)
{
	read_body(item, input);
}

void
pi_item_read(PiItem *item, const PiInput *input)
{
	JsonbValue *root = read_body(item, input);
	const PiDatabase *db;

	item->read = true;
	item->nlocks = 0;
	item->value_error = NULL;
	if (item->early_error != 0)
		return;
	if (!pi_message_read(root, &item->msg, &item->early_text))
	{
		item->early_error = 400;
		return;
	}
	db = pi_config_database(item->msg.account_id, item->msg.db_id);
	if (!db->exists)
	{
		item->early_error = 404;
		item->early_text = "There is no such database: \"account_id\" or \"db_id\" is unknown.";
		return;
	}
	if (!pi_match_prepare(db, &item->msg, &item->values, &item->value_error))
		return;
	item->nlocks = pi_match_locks(&item->msg, &item->values, &item->locks);
}

void
pi_item_echo(const PiItem *item, PiResult *r)
{
	r->error_text = "";
	r->feedback_id = item->feedback_id;
	r->matching_field = r->matching = item->matching;
	r->profile_id = "";
	r->account_id = item->account_id;
	r->db_id = item->db_id;
}

/* ---- the profile before and after --------------------------------------------- */

/* What the message asks for, as far as the message alone shows it. */
typedef struct Request
{
	const PiDatabase *db;
	const PiMessage *msg;
	const PiMatchValues *values;
	PiChange   *email;			/* NULL: not in data */
	PiChange   *phones;
	PiChange   *changes;		/* every other field of data */
	int			nchanges;
	PiSubChange *subs;
	int			nsubs;
	PiEventList *events;
	int			ordinal;
} Request;

/* A profile as it will be. */
typedef struct Target
{
	const char *profile_id;
	PiChanged	email;
	bool		email_changed;
	PiChanged	phones;
	bool		phones_changed;
	PiMerge		data;
	PiSubStates subs;
} Target;

static bool
read_data(Request *q, PiResult *r)
{
	const JsonbValue *data = q->msg->data;
	int			error = 400;
	char	   *error_text;

	q->changes = palloc(sizeof(PiChange) * (data->val.object.nPairs + 1));
	for (int i = 0; i < data->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &data->val.object.pairs[i];
		const char *name = pair->key.val.string.val;
		int			len = pair->key.val.string.len;
		const PiFieldDef *field;
		PiChange   *c = &q->changes[q->nchanges];

		if (len == 13 && memcmp(name, "subscriptions", 13) == 0)
			continue;
		field = pi_config_field(q->db, name, len);
		if (field == NULL)
		{
			pi_fail(r, 400, psprintf("Field \"%s\" is not declared for the database.",
									 pi_show_name(name, len)));
			return false;
		}
		if (!pi_change_parse(field, &pair->value, c, &error_text))
		{
			pi_fail(r, 400, error_text);
			return false;
		}
		if (field->type == PI_TYPE_EMAIL)
		{
			q->email = palloc(sizeof(PiChange));
			*q->email = *c;
		}
		else if (field->type == PI_TYPE_PHONES)
		{
			q->phones = palloc(sizeof(PiChange));
			*q->phones = *c;
		}
		else
			q->nchanges++;
	}
	if (!pi_subs_parse(q->db, q->msg, &q->subs, &q->nsubs, &error, &error_text))
	{
		pi_fail(r, error, error_text);
		return false;
	}
	return true;
}

/* Applies a change of email or phones, which are columns. */
static bool
apply_column(const PiChange *change, const JsonbValue *before, PiChanged *out,
			 bool *changed, char **error_text)
{
	out->present = before != NULL;
	if (before)
		out->value = *before;
	*changed = false;
	if (change == NULL)
		return true;
	out->field = change->field;
	if (!pi_change_apply(change, before, &out->value, &out->present, error_text))
		return false;
	*changed = out->present != (before != NULL) ||
		(out->present && !pi_value_equal(before, &out->value));
	return true;
}

static void
set_string(JsonbValue *v, const char *s)
{
	v->type = jbvString;
	v->val.string.val = unconstify(char *, s);
	v->val.string.len = strlen(s);
}

static const char *
email_of(const PiChanged *c)
{
	return c->present ? pnstrdup(c->value.val.string.val, c->value.val.string.len) : NULL;
}

static bool
merge(Request *q, const JsonbValue *email, const JsonbValue *phones, Jsonb *data,
	  Target *t, PiResult *r)
{
	char	   *error_text;

	if (!apply_column(q->email, email, &t->email, &t->email_changed, &error_text) ||
		!apply_column(q->phones, phones, &t->phones, &t->phones_changed, &error_text) ||
		!pi_merge(data, q->changes, q->nchanges, &t->data, &error_text))
	{
		pi_fail(r, 400, error_text);
		return false;
	}
	return true;
}

/* ---- uniqueness ----------------------------------------------------------------- */

static bool
taken(PiResult *r, const char *name)
{
	pi_fail(r, 409, psprintf("Another profile has the same value in field \"%s\".", name));
	return false;
}

/* Step 8.  "before": the stored object, to pass over values it has already. */
static bool
check_unique(Request *q, const Target *t, const char *email_before, Jsonb *before,
			 PiResult *r)
{
	if (t->email.present)
	{
		const char *email = email_of(&t->email);

		if ((email_before == NULL || pg_strcasecmp(email, email_before) != 0) &&
			pi_email_taken(q->db, email, t->profile_id))
			return taken(r, "email");
	}
	if (q->db->nunique == 0)
		return true;
	for (int i = 0; i < q->db->nfields; i++)
	{
		const PiFieldDef *f = &q->db->fields[i];
		JsonbValue *now;
		JsonbValue *old;
		char	  **keys;
		int			n;

		if (!f->is_unique || (now = pi_stored_value(t->data.data, f)) == NULL)
			continue;
		old = before ? pi_stored_value(before, f) : NULL;
		if (old && pi_value_equal(old, now))
			continue;
		n = pi_match_keys(f->type, now, &keys);
		for (int k = 0; k < n; k++)
			if (pi_key_taken(q->db, f->name, keys[k], t->profile_id))
				return taken(r, f->name);
	}
	return true;
}

/* ---- events ------------------------------------------------------------------------ */

static void
add_event(Request *q, const char *kind, const char *profile_id, const PiSubState *sub,
		  Jsonb *changes)
{
	PiEventList *list = q->events;
	MemoryContext oldcontext = MemoryContextSwitchTo(list->context);
	PiEventRow *e;

	if (list->n == list->room)
	{
		list->room = Max(64, 2 * list->room);
		list->rows = list->rows ? repalloc_huge(list->rows, sizeof(PiEventRow) * list->room) :
			palloc(sizeof(PiEventRow) * list->room);
		list->ordinals = list->ordinals ? repalloc_huge(list->ordinals, sizeof(int) * list->room) :
			palloc(sizeof(int) * list->room);
	}
	list->ordinals[list->n] = q->ordinal;
	e = &list->rows[list->n++];
	memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->account_id = q->db->account_id;
	e->db_id = q->db->db_id;
	e->profile_id = pstrdup(profile_id);
	e->feedback_id = pstrdup(q->msg->feedback_id);
	e->changes = (Jsonb *) memcpy(palloc(VARSIZE(changes)), changes, VARSIZE(changes));
	if (sub)
	{
		e->subscription_no = sub->sub.subscription_no;
		e->resource_id = sub->sub.resource_id;
		e->channel = pstrdup(sub->sub.channel);
	}
	MemoryContextSwitchTo(oldcontext);
}

static Jsonb *
profile_changes(const Target *t)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (t->email_changed)
		pi_push_changed(&state, &t->email, 1);
	if (t->phones_changed)
		pi_push_changed(&state, &t->phones, 1);
	pi_push_changed(&state, t->data.changed, t->data.nchanged);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
add_events(Request *q, const Target *t, const char *profile_kind)
{
	if (q->msg->skip_triggers || !pi_trigger_events)
		return;
	if (profile_kind)
		add_event(q, profile_kind, t->profile_id, NULL, profile_changes(t));
	for (int i = 0; i < t->subs.n; i++)
	{
		PiSubState *st = &t->subs.states[i];

		if (st->changed && !st->dropped)
			add_event(q, ItemPointerIsValid(&st->sub.ctid) ?
					  "subscription_updated" : "subscription_created",
					  t->profile_id, st, pi_subs_event(st));
	}
}

/* ---- create and update ---------------------------------------------------------------- */

/* Somebody else was faster, and part of the message is written already. */
static void
version_gone(void)
{
	pi_version_gone = true;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not import a message due to concurrent update")));
}

/* Every subscription change: the one of the mode first, then data's. */
static PiSubChange *
all_subs(Request *q, int *n)
{
	PiSubChange *all = palloc(sizeof(PiSubChange) * (q->nsubs + 2));

	*n = pi_subs_implicit(q->db, q->msg, all);
	/* memcpy() must not be given a null pointer, not even for nothing */
	if (q->nsubs > 0)
		memcpy(all + *n, q->subs, sizeof(PiSubChange) * q->nsubs);
	*n += q->nsubs;
	return all;
}

/*
 * "On create, all that were set": the changes of the event are what the new
 * profile has.
 */
static void
all_is_changed(Request *q, Target *t)
{
	int			n = 0;
	PiChanged  *all;
	JsonbIterator *it;
	JsonbIteratorToken tok;
	JsonbValue	v;

	t->email_changed = t->email.present;
	t->email.field = pi_standard_field("email", 5);
	t->phones_changed = t->phones.present;
	t->phones.field = pi_standard_field("phones", 6);

	all = palloc(sizeof(PiChanged) * (JsonContainerSize(&t->data.data->root) + 1));
	it = JsonbIteratorInit(&t->data.data->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (tok == WJB_KEY)
		{
			all[n].field = pi_config_field(q->db, v.val.string.val, v.val.string.len);
			all[n].present = true;
		}
		else if (tok == WJB_VALUE)
			all[n++].value = v;
	}
	t->data.changed = all;
	t->data.nchanged = n;
}

static void
create_profile(Request *q, PiResult *r)
{
	const PiMessage *msg = q->msg;
	const PiModeInfo *mode = &pi_modes[msg->mode];
	JsonbValue	email;
	JsonbValue	phone;
	JsonbValue	phones;
	bool		has_email = mode->profile_half && msg->email;
	bool		has_phones = mode->profile_half && msg->phone;
	Jsonb	   *data = pi_empty_object();
	PiSubChange *subs = q->subs;
	int			nsubs = q->nsubs;
	Target		t;
	char		id[PI_PROFILE_ID_LEN + 1];
	char	   *error_text;

	memset(&t, 0, sizeof(t));
	if (mode->creates_sub)
	{
		if (msg->resource_id == 0)
		{
			pi_fail(r, 400, psprintf("Matching by %s needs the key \"resource_id\" to create a profile.",
									 mode->name));
			return;
		}
		subs = all_subs(q, &nsubs);
	}

	/* the value it was matched by comes first, then data */
	if (has_email)
		set_string(&email, msg->email);
	if (has_phones)
	{
		set_string(&phone, msg->phone);
		phones.type = jbvArray;
		phones.val.array.nElems = 1;
		phones.val.array.rawScalar = false;
		phones.val.array.elems = &phone;
	}
	if (msg->mode == PI_MATCH_CUSTOM)
	{
		PiChange	set;
		PiMerge		first;

		memset(&set, 0, sizeof(set));
		set.field = q->values->values[0].field;
		set.action = PI_ACTION_SET;
		set.value = q->values->values[0].value;
		if (!pi_merge(data, &set, 1, &first, &error_text))
		{
			pi_fail(r, 400, error_text);
			return;
		}
		data = first.data;
	}
	if (!merge(q, has_email ? &email : NULL, has_phones ? &phones : NULL, data, &t, r))
		return;
	for (int i = 0; q->db->nrequired > 0 && i < q->db->nfields; i++)
	{
		const PiFieldDef *f = &q->db->fields[i];

		if (f->required && pi_stored_value(t.data.data, f) == NULL)
		{
			pi_fail(r, 400, psprintf("Field \"%s\" is required to create a profile.", f->name));
			return;
		}
	}
	if (!pi_subs_apply(q->db, NULL, msg->skip_invalid_subscriptions, subs, nsubs, &t.subs,
					   &error_text))
	{
		pi_fail(r, 400, error_text);
		return;
	}

	pi_make_profile_id(id);
	t.profile_id = id;
	/* nobody has the email that was just looked for */
	if (!check_unique(q, &t, has_email ? msg->email : NULL, NULL, r))
		return;

	pi_insert_profile(q->db, id, email_of(&t.email),
					  t.phones.present ? &t.phones.value : NULL, t.data.data);
	pi_find_ahead_written(q->db, email_of(&t.email));
	if (!pi_subs_write(q->db, id, &t.subs, true))
		version_gone();
	all_is_changed(q, &t);
	add_events(q, &t, "profile_created");
	r->profile_id = pstrdup(id);
	r->outcome = PI_CREATED;
}

/*
 * False: nothing was written, because the version read is gone, or because it
 * is to be read again: one that was read ahead, and is not written, must not
 * be set against subscriptions as they are now.
 */
static bool
update_profile(Request *q, PiProfile *p, bool ahead, PiResult *r)
{
	JsonbValue	email;
	Target		t;
	bool		changed;
	char	   *error_text;

	memset(&t, 0, sizeof(t));
	t.profile_id = p->profile_id;
	if (p->email)
		set_string(&email, p->email);
	if (!merge(q, p->email ? &email : NULL, p->has_phones ? &p->phones : NULL, p->data, &t, r))
		return true;
	if (!pi_subs_apply(q->db, p->profile_id, q->msg->skip_invalid_subscriptions,
					   q->subs, q->nsubs, &t.subs, &error_text))
	{
		pi_fail(r, 400, error_text);
		return true;
	}
	changed = t.email_changed || t.phones_changed || t.data.nchanged > 0;
	if (ahead && !changed && q->nsubs > 0)
		return false;
	if (changed)
	{
		if (!check_unique(q, &t, p->email, p->data, r))
			return true;
		if (!pi_update_profile(p, email_of(&t.email),
							   t.phones.present ? &t.phones.value : NULL, t.data.data))
			return false;
		pi_find_ahead_written(q->db, p->email);
		pi_find_ahead_written(q->db, email_of(&t.email));
	}
	r->profile_id = p->profile_id;
	if (!changed && !pi_subs_changed(&t.subs))
	{
		r->outcome = PI_UNCHANGED;
		return true;
	}
	if (!pi_subs_write(q->db, p->profile_id, &t.subs, changed))
		version_gone();
	add_events(q, &t, changed ? "profile_updated" : NULL);
	r->outcome = PI_UPDATED;
	return true;
}

/* False: it is to be looked for again. */
static bool
import_matched(Request *q, PiMatches *m, PiResult *r)
{
	const PiMessage *msg = q->msg;

	if (m->n > 1)
		pi_fail(r, 409, psprintf("Several profiles match by \"%s\".", pi_modes[msg->mode].name));
	else if (m->n == 1)
		return update_profile(q, &m->profile, m->ahead, r);
	else if (msg->update_only || !pi_modes[msg->mode].creates)
		pi_fail(r, 404, "The profile was not found.");
	else
		create_profile(q, r);
	return true;
}

void
pi_import_one(PiItem *item, PiResult *r, PiEventList *events)
{
	const PiMessage *msg = &item->msg;
	Request		q;

	pi_item_echo(item, r);
	if (item->early_error != 0)
	{
		pi_fail(r, item->early_error, item->early_text);
		return;
	}
	memset(&q, 0, sizeof(q));
	q.db = pi_config_database(msg->account_id, msg->db_id);
	q.msg = msg;
	q.values = &item->values;
	q.events = events;
	q.ordinal = item->ordinal;
	if (msg->resource_id != 0 && pi_config_resource(q.db, msg->resource_id) == NULL)
	{
		pi_fail(r, 404, "The resource of \"resource_id\" is unknown or not open to the database.");
		return;
	}
	if (item->value_error)
	{
		pi_fail(r, 400, item->value_error);
		return;
	}
	if (!read_data(&q, r))
		return;

	for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++)
	{
		PiMatches	m;

		pi_match(q.db, msg, q.values, &m);
		if (!import_matched(&q, &m, r))
			continue;
		if (r->error == 0 || !m.ahead)
			return;

		/* the profile of then and the values of others of now: no failure yet */
		memset(r, 0, sizeof(*r));
		pi_item_echo(item, r);
	}
	version_gone();
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void
json_text(StringInfo buf, const char *key, const char *value)
{
	appendStringInfo(buf, ",\"%s\":", key);
	if (value)
		escape_json(buf, value);
	else
		appendStringInfoString(buf, "null");
}

char	   *
pi_event_json(const PiEventRow *e)
{
	StringInfoData buf;
	bool		sub = e->subscription_no != 0;
	char		when[MAXDATELEN + 1];

	JsonEncodeDateTime(when, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
					   TIMESTAMPTZOID, NULL);
	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"event_id\":" INT64_FORMAT ",\"occurred_at\":\"%s\"",
					 e->event_id, when);
	json_text(&buf, "kind", e->kind);
	appendStringInfo(&buf, ",\"account_id\":%d,\"db_id\":%d", e->account_id, e->db_id);
	json_text(&buf, "profile_id", e->profile_id);
	if (sub)
		appendStringInfo(&buf, ",\"subscription_no\":" INT64_FORMAT ",\"resource_id\":%d",
						 e->subscription_no, e->resource_id);
	else
		appendStringInfoString(&buf, ",\"subscription_no\":null,\"resource_id\":null");
	json_text(&buf, "channel", sub ? e->channel : NULL);
	appendStringInfoString(&buf, ",\"changes\":");
	JsonbToCString(&buf, &e->changes->root, VARSIZE(e->changes));
	json_text(&buf, "feedback_id", e->feedback_id);
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

static bool
has_deferred(const char *table)
{
	Oid			nsp = get_namespace_oid("profimport", false);
	Relation	rel = table_open(get_relname_relid(table, nsp), NoLock);
	bool		found = false;

	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers && !found; i++)
		found = rel->trigdesc->triggers[i].tgdeferrable;
	table_close(rel, NoLock);
	return found;
}

static bool
has_foreign_code(const char *table)
{
	static const char *const own[] = {
		PI_CHECK_TRIGGER, "profimport_index", "profimport_truncate"
	};
	Oid			nsp = get_namespace_oid("profimport", false);
	Relation	rel = table_open(get_relname_relid(table, nsp), AccessShareLock);
	bool		found = rel->rd_rules != NULL || rel->rd_rel->relhassubclass;

	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers && !found; i++)
	{
		found = true;
		for (int j = 0; j < lengthof(own) && found; j++)
			found = strcmp(rel->trigdesc->triggers[i].tgname, own[j]) != 0;
	}
	table_close(rel, NoLock);
	return found;
}

bool
pi_engine_is_alone(void)
{
	return !has_foreign_code("profile") && !has_foreign_code("profile_key") &&
		!has_foreign_code("subscription") && !has_foreign_code("subscription_key");
}

void
pi_run_deferred_triggers(void)
{
	if (has_deferred("profile") || has_deferred("subscription"))
		(void) SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);
}
