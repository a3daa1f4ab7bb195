/*-------------------------------------------------------------------------
 *
 * triggers.c
 *		The same rules for ordinary SQL on profile and subscription: values
 *		are checked and normalised before a row is stored, its keys kept in
 *		step after.
 *
 * NOTES
 *		The engine's own writes are checked already and pass unlooked at,
 *		unless the table has other row triggers that may have changed them.
 *		Keys are kept by the AFTER trigger for everybody, from what the row
 *		really became.  If a trigger of a user ran after the check, the AFTER
 *		trigger checks once more, and refuses what is not normalised.
 *
 *		The output of pg_dump loads the tables of an extension in any order,
 *		a parallel restore at the same time: a profile may come before its
 *		database and fields.  Such a session is told by check_function_bodies,
 *		which the output always switches off.  Its rows were checked when they
 *		were written and are taken as they are.  Keys are right all the same: a
 *		declaration indexes what is there when it comes (field_upkeep).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "merge.h"
#include "profile_id.h"
#include "row.h"
#include "statement.h"
#include "store.h"
#include "subscriptions.h"

PG_FUNCTION_INFO_V1(pi_profile_check);
PG_FUNCTION_INFO_V1(pi_profile_index);
PG_FUNCTION_INFO_V1(pi_subscription_check);
PG_FUNCTION_INFO_V1(pi_subscription_index);
PG_FUNCTION_INFO_V1(pi_match_keys_srf);

/* Columns of profimport.profile */
enum
{
	P_ACCOUNT_ID = 1, P_DB_ID, P_PROFILE_ID, P_EMAIL, P_PHONES, P_DATA,
	P_CREATED_AT, P_UPDATED_AT, P_END
};

/* Columns of profimport.subscription */
enum
{
	S_ACCOUNT_ID = 1, S_DB_ID, S_PROFILE_ID, S_SUBSCRIPTION_NO, S_RESOURCE_ID,
	S_CHANNEL, S_CONTACT, S_PROVIDER, S_CC_DATA, S_STATUS, S_PRIORITY,
	S_CUSTOM_FIELDS, S_CATS, S_CREATED_AT, S_UPDATED_AT, S_END
};

/* Their types, by which a table is known to be one of the two. */
static const Oid profile_types[] = {
	INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID
};
static const Oid subscription_types[] = {
	INT4OID, INT4OID, TEXTOID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID,
	JSONBOID, INT4OID, INT4OID, JSONBOID, TEXTARRAYOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID
};

/*
 * Outside of a batch there is none of pi_store_begin()'s locks, but the
 * statement that fired us holds ROW EXCLUSIVE on the table, which keeps the
 * configuration that belongs to it from changing.
 */
static void
refresh_configuration(void)
{
	if (!pi_fired_by_engine())
		pi_config_refresh();
}

/* ---- objects of fields -------------------------------------------------------- */

static void
need_object(Relation rel, const char *column, Jsonb *object)
{
	if (!JB_ROOT_IS_OBJECT(object))
		pi_row_violation(rel, column, "A JSON object is expected.");
}

/*
 * Checks and normalises an object of declared fields.  JSON null unsets, as
 * in a message.  Returns the object itself if nothing had to be changed.
 */
static Jsonb *
check_object(Relation rel, const char *column, Jsonb *object, const PiDatabase *db,
			 const PiFieldDef *fields, int nfields)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbIteratorToken tok;
	JsonbValue	key = {0};
	JsonbValue	v;
	bool		changed = false;

	need_object(rel, column, object);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	it = JsonbIteratorInit(&object->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		const PiFieldDef *f;
		JsonbValue	out;
		const char *why;

		if (tok == WJB_KEY)
			key = v;
		if (tok != WJB_VALUE)
			continue;
		f = db ? pi_config_field(db, key.val.string.val, key.val.string.len) :
			pi_declared_field(fields, nfields, key.val.string.val, key.val.string.len);
		if (f == NULL)
			pi_row_violation_hint(rel, column,
								  psprintf("Field \"%s\" is not declared.",
										   pnstrdup(key.val.string.val, key.val.string.len)),
								  db ? "Declare it in profimport.field." : "Declare it in profimport.resource_field.");
		if (f->type == PI_TYPE_EMAIL || f->type == PI_TYPE_PHONES)
			pi_row_violation_hint(rel, column,
								  psprintf("Field \"%s\" is a column of its own.", f->name),
								  "Write it to the column.");
		if (v.type == jbvNull)
		{
			changed = true;
			continue;
		}
		if (!pi_convert(f, &v, &out, &why))
			pi_row_violation(rel, column,
							 psprintf("Field \"%s\" does not accept this value: %s.", f->name, why));
		changed |= !pi_value_equal(&v, &out);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &out);
	}
	v = *pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return changed ? JsonbValueToJsonb(&v) : object;
}

/* A required field must be there on INSERT, and must not go on UPDATE. */
static void
check_required(Relation rel, const char *column, const PiFieldDef *fields, int nfields,
			   Jsonb *now, Jsonb *before)
{
	for (int i = 0; i < nfields; i++)
		if (fields[i].required && pi_stored_value(now, &fields[i]) == NULL &&
			(before == NULL || pi_stored_value(before, &fields[i]) != NULL))
			pi_row_violation(rel, column, psprintf("Field \"%s\" is required.", fields[i].name));
}

/* ---- profile ---------------------------------------------------------------------- */

static void
check_phones(Relation rel, PiRow *row)
{
	static const char *const name = "phones";
	const PiFieldDef *f = pi_standard_field(name, strlen(name));
	JsonbValue	in;
	JsonbValue	out;
	const char *why;

	if (row->nulls[P_PHONES])
		return;
	pi_array_to_texts(row->values[P_PHONES], &in);
	if (!pi_convert(f, &in, &out, &why))
		pi_row_violation(rel, name, pi_sentence(why));
	if (!pi_value_equal(&in, &out))
		pi_row_replace(row, P_PHONES, pi_texts_to_array(&out), false);
}

static void
check_email(Relation rel, PiRow *row)
{
	char	   *email = pi_row_text(row, P_EMAIL);
	char	   *normal;
	bool		empty;
	const char *why;

	if (email == NULL)
		return;
	normal = pi_normalize_email(email, strlen(email), &empty, &why);
	if (normal == NULL)
		pi_row_violation(rel, "email", pi_sentence(why));
	if (strcmp(email, normal) != 0)
		pi_row_replace(row, P_EMAIL, CStringGetTextDatum(normal), false);
}

/* Checks and normalises a row; old is what it replaces, or NULL. */
static void
check_profile_row(Relation rel, PiRow *row, const PiRow *old)
{
	const PiDatabase *db;
	Jsonb	   *data;
	Jsonb	   *checked;

	db = pi_config_database(DatumGetInt32(row->values[P_ACCOUNT_ID]),
							DatumGetInt32(row->values[P_DB_ID]));
	if (!db->exists)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("database %d of account %d does not exist",
						DatumGetInt32(row->values[P_DB_ID]),
						DatumGetInt32(row->values[P_ACCOUNT_ID])),
				 errhint("Insert it into profimport.database first."),
				 err_generic_string(PG_DIAG_SCHEMA_NAME, "profimport"),
				 err_generic_string(PG_DIAG_TABLE_NAME, "profile"),
				 err_generic_string(PG_DIAG_CONSTRAINT_NAME, "profile_database_fkey")));
	if (row->nulls[P_PROFILE_ID])
	{
		char		id[PI_PROFILE_ID_LEN + 1];

		pi_make_profile_id(id);
		pi_row_replace(row, P_PROFILE_ID, CStringGetTextDatum(id), false);
	}
	else
	{
		char	   *id = pi_row_text(row, P_PROFILE_ID);

		if (pi_is_blank(id, strlen(id)) || strlen(id) > 255)
			pi_row_violation(rel, "profile_id", "An id of 1 to 255 bytes that is not blank is expected.");
	}
	check_email(rel, row);
	check_phones(rel, row);
	data = DatumGetJsonbP(row->values[P_DATA]);
	checked = check_object(rel, "data", data, db, NULL, 0);
	if (checked != data)
		pi_row_replace(row, P_DATA, JsonbPGetDatum(checked), false);
	check_required(rel, "data", db->fields, db->nfields, checked,
				   old ? DatumGetJsonbP(old->values[P_DATA]) : NULL);
	if (old != NULL && row->nulls[P_EMAIL] && !old->nulls[P_EMAIL])
		pi_row_violation(rel, "email", "A profile's email can be replaced, but not unset.");
}

Datum
pi_profile_check(PG_FUNCTION_ARGS)
{
	TriggerData *td = pi_called_as_row_trigger(fcinfo, "profile_check",
											   profile_types,
											   lengthof(profile_types));
	Relation	rel = td->tg_relation;
	bool		update = TRIGGER_FIRED_BY_UPDATE(td->tg_event);
	static const int generated[] = {P_PROFILE_ID};
	PiRow		row;
	PiRow		old;

	if (pi_fired_by_engine() && !pi_others_before(rel, td->tg_trigger->tgname))
		return PointerGetDatum(update ? td->tg_newtuple : td->tg_trigtuple);

	pi_row_take_apart(rel, update ? td->tg_newtuple : td->tg_trigtuple, &row);
	if (pi_row_lacks_required(rel, &row, generated, 1))
		return PointerGetDatum(row.tuple);
	if (pi_restoring() && !row.nulls[P_PROFILE_ID])
	{
		need_object(rel, "data", DatumGetJsonbP(row.values[P_DATA]));
		return PointerGetDatum(row.tuple);
	}
	refresh_configuration();
	if (update)
		pi_row_take_apart(rel, td->tg_trigtuple, &old);
	check_profile_row(rel, &row, update ? &old : NULL);
	if (update && !pi_fired_by_engine())
		pi_row_touch(&row, &old, P_CREATED_AT, P_UPDATED_AT);
	return PointerGetDatum(pi_row_put_together(&row));
}

/* What a profile is matched by. */
typedef struct Key
{
	const PiFieldDef *field;
	char	   *key;
} Key;

static Key *
add_keys(Key *keys, int *n, const PiFieldDef *field, PiType type, const JsonbValue *value)
{
	char	  **texts;
	int			ntexts = pi_match_keys(type, value, &texts);

	keys = keys ? repalloc(keys, sizeof(Key) * (*n + ntexts + 1)) :
		palloc(sizeof(Key) * (ntexts + 1));
	for (int i = 0; i < ntexts; i++)
	{
		keys[*n].field = field;
		keys[(*n)++].key = texts[i];
	}
	return keys;
}

static Key *
profile_keys(const PiRow *row, const PiDatabase *db, int *n)
{
	Key		   *keys = NULL;

	*n = 0;
	if (!row->nulls[P_PHONES])
	{
		JsonbValue	phones;

		pi_array_to_texts(row->values[P_PHONES], &phones);
		keys = add_keys(keys, n, pi_standard_field("phones", 6), PI_TYPE_PHONES, &phones);
	}
	for (int i = 0; db->nmatching > 0 && i < db->nfields; i++)
	{
		const PiFieldDef *f = &db->fields[i];
		JsonbValue *v;

		if (f->matching &&
			(v = pi_stored_value(DatumGetJsonbP(row->values[P_DATA]), f)) != NULL)
			keys = add_keys(keys, n, f, f->type, v);
	}
	return keys;
}

static bool
has_key(const Key *keys, int n, const Key *k)
{
	for (int i = 0; i < n; i++)
		if (keys[i].field == k->field && strcmp(keys[i].key, k->key) == 0)
			return true;
	return false;
}

Datum
pi_profile_index(PG_FUNCTION_ARGS)
{
	TriggerData *td = pi_called_as_row_trigger(fcinfo, "profile_index",
											   profile_types,
											   lengthof(profile_types));
	Relation	rel = td->tg_relation;
	bool		update = TRIGGER_FIRED_BY_UPDATE(td->tg_event);
	bool		deleted = TRIGGER_FIRED_BY_DELETE(td->tg_event);
	PiRow		now;
	PiRow		old;
	Key		   *added = NULL;
	Key		   *gone = NULL;
	int			nadded = 0;
	int			ngone = 0;
	bool		moved;
	const char *later;

	pi_row_take_apart(rel, td->tg_trigtuple, &old);
	if (update)
		pi_row_take_apart(rel, td->tg_newtuple, &now);
	else
		now = old;

	moved = update && !(pi_row_same(&now, &old, P_ACCOUNT_ID) && pi_row_same(&now, &old, P_DB_ID) &&
						pi_row_same(&now, &old, P_PROFILE_ID));
	refresh_configuration();
	if (!deleted && (later = pi_later_trigger(rel)) != NULL && !pi_restoring())
	{
		PiRow		stored = now;

		check_profile_row(rel, &stored, update ? &old : NULL);
		pi_row_refuse_overtaking(rel, &stored, later);
	}
	if (update || deleted)
		gone = profile_keys(&old, pi_config_database(DatumGetInt32(old.values[P_ACCOUNT_ID]),
													 DatumGetInt32(old.values[P_DB_ID])), &ngone);
	if (!deleted)
		added = profile_keys(&now, pi_config_database(DatumGetInt32(now.values[P_ACCOUNT_ID]),
													  DatumGetInt32(now.values[P_DB_ID])), &nadded);
	if (ngone == 0 && nadded == 0 && !moved && !deleted)
		return PointerGetDatum(NULL);

	SPI_connect();
	if (deleted)
		pi_delete_subscriptions(DatumGetInt32(old.values[P_ACCOUNT_ID]),
								DatumGetInt32(old.values[P_DB_ID]),
								pi_row_text(&old, P_PROFILE_ID));
	else if (moved)
		pi_move_subscriptions(DatumGetInt32(old.values[P_ACCOUNT_ID]),
							  DatumGetInt32(old.values[P_DB_ID]),
							  pi_row_text(&old, P_PROFILE_ID),
							  DatumGetInt32(now.values[P_ACCOUNT_ID]),
							  DatumGetInt32(now.values[P_DB_ID]),
							  pi_row_text(&now, P_PROFILE_ID));
	for (int i = 0; i < ngone; i++)
		if (moved || !has_key(added, nadded, &gone[i]))
			pi_write_profile_keys(false, DatumGetInt32(old.values[P_ACCOUNT_ID]),
								  DatumGetInt32(old.values[P_DB_ID]), pi_row_text(&old, P_PROFILE_ID),
								  gone[i].field->name, false, gone[i].key);
	for (int i = 0; i < nadded; i++)
		if (moved || !has_key(gone, ngone, &added[i]))
			pi_write_profile_keys(true, DatumGetInt32(now.values[P_ACCOUNT_ID]),
								  DatumGetInt32(now.values[P_DB_ID]), pi_row_text(&now, P_PROFILE_ID),
								  added[i].field->name, added[i].field->is_unique, added[i].key);
	SPI_finish();
	return PointerGetDatum(NULL);
}

/* ---- subscription -------------------------------------------------------------------- */

/* The contact columns by channel; see SPEC.md section 5. */
static void
check_contact(Relation rel, PiRow *row, const char *channel)
{
	char	   *contact = pi_row_text(row, S_CONTACT);
	char	   *normal = contact;
	bool		is_push = strcmp(channel, "push") == 0;
	bool		is_bot = strcmp(channel, "telegram_bot") == 0;
	bool		empty;
	const char *why = NULL;

	if (is_bot)
	{
		if (contact != NULL)
			pi_row_violation(rel, "contact", "Channel telegram_bot has its contact in cc_data.");
		if (row->nulls[S_CC_DATA] ||
			!JB_ROOT_IS_OBJECT(DatumGetJsonbP(row->values[S_CC_DATA])) ||
			JB_ROOT_COUNT(DatumGetJsonbP(row->values[S_CC_DATA])) == 0)
			pi_row_violation(rel, "cc_data", "A JSON object that is not empty is expected.");
	}
	else
	{
		if (!row->nulls[S_CC_DATA])
			pi_row_violation(rel, "cc_data", "Only channel telegram_bot has cc_data.");
		if (contact == NULL || pi_is_blank(contact, strlen(contact)))
			pi_row_violation(rel, "contact", "The contact is missing.");
		if (strcmp(channel, "email") == 0)
			normal = pi_normalize_email(contact, strlen(contact), &empty, &why);
		else if (!is_push)
			normal = pi_normalize_phone(contact, strlen(contact), &empty, &why);
		if (normal == NULL)
			pi_row_violation(rel, "contact", pi_sentence(why));
		if (strcmp(contact, normal) != 0)
			pi_row_replace(row, S_CONTACT, CStringGetTextDatum(normal), false);
	}
	if (is_push)
	{
		char	   *provider = pi_row_text(row, S_PROVIDER);

		if (provider == NULL || pi_is_blank(provider, strlen(provider)))
			pi_row_violation(rel, "provider", "Channel push needs a provider.");
	}
	else if (!row->nulls[S_PROVIDER])
		pi_row_violation(rel, "provider", "Only channel push has a provider.");
}

static void
check_cats(Relation rel, PiRow *row, const PiResource *resource)
{
	JsonbValue	cats;
	int			nkept = 0;

	pi_array_to_texts(row->values[S_CATS], &cats);
	for (int i = 0; i < cats.val.array.nElems; i++)
	{
		JsonbValue *c = &cats.val.array.elems[i];
		bool		known = false;
		bool		repeated = false;

		for (int j = 0; c->type == jbvString && j < resource->ncats && !known; j++)
			known = strcmp(resource->cats[j], c->val.string.val) == 0;
		if (!known)
			pi_row_violation(rel, "cats", "The resource has no such category.");
		for (int j = 0; j < nkept && !repeated; j++)
			repeated = strcmp(cats.val.array.elems[j].val.string.val,
							  c->val.string.val) == 0;
		if (!repeated)
			cats.val.array.elems[nkept++] = *c;
	}
	if (nkept == cats.val.array.nElems)
		return;
	cats.val.array.nElems = nkept;
	pi_row_replace(row, S_CATS, pi_texts_to_array(&cats), false);
}

static void
check_profile(const PiRow *row)
{
	int			account_id = DatumGetInt32(row->values[S_ACCOUNT_ID]);
	int			db_id = DatumGetInt32(row->values[S_DB_ID]);
	char	   *profile_id = pi_row_text(row, S_PROFILE_ID);
	bool		found;

	SPI_connect();
	found = pi_lock_profile(account_id, db_id, profile_id);
	SPI_finish();
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("profile \"%s\" of database %d of account %d does not exist",
						profile_id, db_id, account_id),
				 errhint("Insert it into profimport.profile first."),
				 err_generic_string(PG_DIAG_SCHEMA_NAME, "profimport"),
				 err_generic_string(PG_DIAG_TABLE_NAME, "subscription"),
				 err_generic_string(PG_DIAG_CONSTRAINT_NAME, "subscription_profile_fkey")));
}

/* The same for a row of subscription. */
static void
check_subscription_row(Relation rel, PiRow *row, const PiRow *old)
{
	const PiDatabase *db;
	const PiResource *resource;
	const char *channel;
	char	   *name;
	int			n;
	Jsonb	   *fields;
	Jsonb	   *checked;

	db = pi_config_database(DatumGetInt32(row->values[S_ACCOUNT_ID]),
							DatumGetInt32(row->values[S_DB_ID]));
	resource = db->exists ?
		pi_config_resource(db, DatumGetInt32(row->values[S_RESOURCE_ID])) : NULL;
	if (resource == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("resource %d of account %d does not exist or is not open to database %d",
						DatumGetInt32(row->values[S_RESOURCE_ID]),
						DatumGetInt32(row->values[S_ACCOUNT_ID]),
						DatumGetInt32(row->values[S_DB_ID])),
				 errhint("Insert it into profimport.resource, or add the database to its db_ids."),
				 err_generic_string(PG_DIAG_SCHEMA_NAME, "profimport"),
				 err_generic_string(PG_DIAG_TABLE_NAME, "subscription"),
				 err_generic_string(PG_DIAG_CONSTRAINT_NAME, "subscription_resource_fkey")));
	check_profile(row);
	name = pi_row_text(row, S_CHANNEL);
	channel = pi_channel(name, strlen(name));
	if (channel == NULL)
		pi_row_violation(rel, "channel", "It is none of the known channels.");
	check_contact(rel, row, channel);
	n = DatumGetInt32(row->values[S_STATUS]);
	if (n < 0 || n > 6)
		pi_row_violation(rel, "status", "A status from 0 to 6 is expected.");
	check_cats(rel, row, resource);
	fields = DatumGetJsonbP(row->values[S_CUSTOM_FIELDS]);
	checked = check_object(rel, "custom_fields", fields, NULL, resource->fields, resource->nfields);
	if (checked != fields)
		pi_row_replace(row, S_CUSTOM_FIELDS, JsonbPGetDatum(checked), false);
	check_required(rel, "custom_fields", resource->fields, resource->nfields, checked,
				   old ? DatumGetJsonbP(old->values[S_CUSTOM_FIELDS]) : NULL);
}

Datum
pi_subscription_check(PG_FUNCTION_ARGS)
{
	TriggerData *td = pi_called_as_row_trigger(fcinfo, "subscription_check",
											   subscription_types,
											   lengthof(subscription_types));
	Relation	rel = td->tg_relation;
	bool		update = TRIGGER_FIRED_BY_UPDATE(td->tg_event);
	PiRow		row;
	PiRow		old;

	if (pi_fired_by_engine() && !pi_others_before(rel, td->tg_trigger->tgname))
		return PointerGetDatum(update ? td->tg_newtuple : td->tg_trigtuple);

	pi_row_take_apart(rel, update ? td->tg_newtuple : td->tg_trigtuple, &row);
	if (pi_row_lacks_required(rel, &row, NULL, 0))
		return PointerGetDatum(row.tuple);
	if (pi_restoring())
	{
		need_object(rel, "custom_fields", DatumGetJsonbP(row.values[S_CUSTOM_FIELDS]));
		return PointerGetDatum(row.tuple);
	}
	refresh_configuration();
	if (update)
		pi_row_take_apart(rel, td->tg_trigtuple, &old);
	check_subscription_row(rel, &row, update ? &old : NULL);
	if (update && !pi_fired_by_engine())
		pi_row_touch(&row, &old, S_CREATED_AT, S_UPDATED_AT);
	return PointerGetDatum(pi_row_put_together(&row));
}

static Key *
subscription_keys(const PiRow *row, int *n)
{
	const PiDatabase *db = pi_config_database(DatumGetInt32(row->values[S_ACCOUNT_ID]),
											  DatumGetInt32(row->values[S_DB_ID]));
	const PiResource *r = pi_config_resource(db, DatumGetInt32(row->values[S_RESOURCE_ID]));
	Key		   *keys = NULL;

	*n = 0;
	for (int i = 0; r != NULL && i < r->nfields; i++)
	{
		const PiFieldDef *f = &r->fields[i];
		JsonbValue *v;

		if (f->matching &&
			(v = pi_stored_value(DatumGetJsonbP(row->values[S_CUSTOM_FIELDS]), f)) != NULL)
			keys = add_keys(keys, n, f, f->type, v);
	}
	return keys;
}

Datum
pi_subscription_index(PG_FUNCTION_ARGS)
{
	TriggerData *td = pi_called_as_row_trigger(fcinfo, "subscription_index",
											   subscription_types,
											   lengthof(subscription_types));
	Relation	rel = td->tg_relation;
	bool		update = TRIGGER_FIRED_BY_UPDATE(td->tg_event);
	bool		deleted = TRIGGER_FIRED_BY_DELETE(td->tg_event);
	PiRow		rows[2];		/* old and new */
	Key		   *keys[2] = {NULL, NULL};
	int			n[2] = {0, 0};
	bool		moved = false;
	const char *later;
	static const int identity[] = {
		S_ACCOUNT_ID, S_DB_ID, S_PROFILE_ID, S_SUBSCRIPTION_NO, S_RESOURCE_ID
	};

	pi_row_take_apart(rel, td->tg_trigtuple, &rows[0]);
	if (update)
		pi_row_take_apart(rel, td->tg_newtuple, &rows[1]);
	else
		rows[1] = rows[0];
	for (int i = 0; i < lengthof(identity); i++)
		moved |= !pi_row_same(&rows[0], &rows[1], identity[i]);
	refresh_configuration();
	if (!deleted && (later = pi_later_trigger(rel)) != NULL && !pi_restoring())
	{
		PiRow		stored = rows[1];

		check_subscription_row(rel, &stored, update ? &rows[0] : NULL);
		pi_row_refuse_overtaking(rel, &stored, later);
	}
	if (update || deleted)
		keys[0] = subscription_keys(&rows[0], &n[0]);
	if (!deleted)
		keys[1] = subscription_keys(&rows[1], &n[1]);
	if (n[0] == 0 && n[1] == 0)
		return PointerGetDatum(NULL);

	SPI_connect();
	for (int which = 0; which < 2; which++)
	{
		const PiRow *row = &rows[which];

		for (int i = 0; i < n[which]; i++)
			if (moved || !has_key(keys[1 - which], n[1 - which], &keys[which][i]))
				pi_write_subscription_keys(which == 1,
										   DatumGetInt32(row->values[S_ACCOUNT_ID]),
										   DatumGetInt32(row->values[S_DB_ID]),
										   pi_row_text(row, S_PROFILE_ID),
										   DatumGetInt64(row->values[S_SUBSCRIPTION_NO]),
										   DatumGetInt32(row->values[S_RESOURCE_ID]),
										   keys[which][i].field->name, keys[which][i].key);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}

/* match_keys(type text, value jsonb) → setof text: for the upkeep of keys in SQL */
Datum
pi_match_keys_srf(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PiType		type;
	Jsonb	   *value = PG_GETARG_JSONB_P(1);
	JsonbValue	v;
	char	  **keys;
	int			n = 0;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (pi_type_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)), &type))
	{
		if (JB_ROOT_IS_SCALAR(value))
			JsonbExtractScalar(&value->root, &v);
		else
		{
			v.type = jbvBinary;
			v.val.binary.data = &value->root;
			v.val.binary.len = VARSIZE(value) - VARHDRSZ;
		}
		n = pi_match_keys(type, &v, &keys);
	}
	for (int i = 0; i < n; i++)
	{
		Datum		values[1] = {CStringGetTextDatum(keys[i])};
		bool		nulls[1] = {false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
