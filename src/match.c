/*-------------------------------------------------------------------------
 *
 * match.c
 *		The eleven modes: which profiles a message means.
 *
 * NOTES
 *		Both halves of a mode, fields of profiles and subscriptions, are
 *		always searched, and their hits united: a message that means two
 *		profiles must be refused, not guessed.  The half of the subscriptions
 *		costs nothing where no resource is open to the database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/builtins.h"

#include "compat.h"
#include "match.h"
#include "subscriptions.h"

static bool
add_value(const PiFieldDef *field, int resource_id, const JsonbValue *raw,
		  PiMatchValues *out, const char **why)
{
	PiMatchValue *v = &out->values[out->n];

	if (!pi_convert_match(field, raw, &v->value, why))
		return false;
	v->field = field;
	v->resource_id = resource_id;
	v->nkeys = pi_match_keys(field->type, &v->value, &v->keys);
	if (v->nkeys == 0)
	{
		*why = "it holds no tag";
		return false;
	}
	out->n++;
	return true;
}

bool
pi_match_prepare(const PiDatabase *db, const PiMessage *msg, PiMatchValues *out,
				 char **error_text)
{
	const char *name;
	int			namelen;
	const char *why = NULL;
	bool		declared = false;

	out->n = 0;
	if (msg->mode != PI_MATCH_CUSTOM && msg->mode != PI_MATCH_CUSTOM_SUB)
		return true;
	name = msg->field_name->val.string.val;
	namelen = msg->field_name->val.string.len;
	out->values = palloc(sizeof(PiMatchValue) * (db->nresources + 1));

	if (msg->mode == PI_MATCH_CUSTOM)
	{
		const PiFieldDef *field = pi_declared_field(db->fields, db->nfields, name, namelen);

		declared = field != NULL && field->matching;
		if (declared)
			add_value(field, 0, msg->field_value, out, &why);
	}
	else
		for (int i = 0; i < db->nresources; i++)
		{
			const PiResource *r = &db->resources[i];
			const PiFieldDef *field;

			if (!r->open || (msg->resource_id != 0 && r->resource_id != msg->resource_id))
				continue;
			field = pi_declared_field(r->fields, r->nfields, name, namelen);
			if (field == NULL || !field->matching)
				continue;
			declared = true;
			add_value(field, r->resource_id, msg->field_value, out, &why);
		}
	if (out->n > 0)
		return true;
	if (!declared)
		*error_text = psprintf("Field \"%s\" of \"field_name\" is not declared for matching.",
							   pi_show_name(name, namelen));
	else
		*error_text = psprintf("Field \"%s\" does not accept \"field_value\": %s.",
							   pi_show_name(name, namelen), why);
	return false;
}

static void
match_contact(const PiDatabase *db, const PiMessage *msg, const char *channel,
			  const char *contact, const char *provider, PiMatches *m)
{
	if (m->n < 2 && db->has_resources)
		pi_find_contact(db, channel, pi_contact_key_of(channel, contact, provider, NULL),
						msg->resource_id, m);
}

static void
match_phone_field(const PiDatabase *db, const char *phone, PiMatches *m)
{
	JsonbValue	v;
	char	  **keys;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, phone);
	v.val.string.len = strlen(phone);
	pi_match_keys(PI_TYPE_STRING, &v, &keys);
	pi_find_key(db, "phones", keys, 1, m);
}

void
pi_match(const PiDatabase *db, const PiMessage *msg, const PiMatchValues *values,
		 PiMatches *m)
{
	const PiModeInfo *mode = &pi_modes[msg->mode];

	m->n = 0;
	m->ahead = false;
	if (msg->mode == PI_MATCH_PROFILE_ID)
		pi_find_id(db, msg->profile_id, m);

	if (mode->profile_half)
	{
		if (msg->email)
			pi_find_email_field(db, msg->email, m);
		if (msg->phone && m->n < 2)
			match_phone_field(db, msg->phone, m);
	}
	if (mode->sub_half)
	{
		if (msg->email)
			match_contact(db, msg, "email", msg->email, NULL, m);
		if (msg->phone)
			match_contact(db, msg, "sms", msg->phone, NULL, m);
		if (msg->mode == PI_MATCH_PUSH_SUB)
			match_contact(db, msg, "push", msg->subscription_id, msg->provider, m);
	}
	for (int i = 0; i < values->n && m->n < 2; i++)
	{
		PiMatchValue *v = &values->values[i];

		if (msg->mode == PI_MATCH_CUSTOM)
			pi_find_key(db, v->field->name, v->keys, v->nkeys, m);
		else
			pi_find_sub_key(db, v->field->name, v->keys, v->nkeys, v->resource_id, m);
	}
}

static uint64
hash_of(const PiMessage *msg, char kind, const char *a, int alen, const char *b, int blen)
{
	uint64		h = hash_bytes_extended((const unsigned char *) a, alen, kind);

	h = hash_combine64(h, hash_bytes_extended((const unsigned char *) b, blen, kind));
	h = hash_combine64(h, hash_bytes_uint32_extended(msg->account_id, 1));
	return hash_combine64(h, hash_bytes_uint32_extended(msg->db_id, 2));
}

int
pi_match_locks(const PiMessage *msg, const PiMatchValues *values, uint64 **hashes)
{
	int			n = 0;

	*hashes = NULL;
	if (!pi_modes[msg->mode].creates || msg->update_only)
		return 0;
	*hashes = palloc(sizeof(uint64) * (2 + (values->n ? values->values[0].nkeys : 0)));
	if (msg->email)
	{
		char	   *key = pi_contact_key_of("email", msg->email, NULL, NULL);

		(*hashes)[n++] = hash_of(msg, 'e', key, strlen(key), "", 0);
	}
	if (msg->phone)
		(*hashes)[n++] = hash_of(msg, 'p', msg->phone, strlen(msg->phone), "", 0);
	if (msg->mode == PI_MATCH_PUSH_SUB)
		(*hashes)[n++] = hash_of(msg, 's', msg->provider, strlen(msg->provider),
								 msg->subscription_id, strlen(msg->subscription_id));
	if (values->n)
	{
		const PiMatchValue *v = &values->values[0];

		for (int i = 0; i < v->nkeys; i++)
			(*hashes)[n++] = hash_of(msg, 'c', v->field->name, v->field->namelen,
									 v->keys[i], strlen(v->keys[i]));
	}
	return n;
}
