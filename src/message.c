/*-------------------------------------------------------------------------
 *
 * message.c
 *		The keys of a message: types, defaults, inputs of the matching mode.
 *
 * NOTES
 *		Every known key is type-checked, also those that the mode does not
 *		use, because a producer that sends "1" for 1 is wrong today even if
 *		it hurts only tomorrow.  Unknown keys are ignored.  The order is that
 *		of SPEC.md section 2, step 2: matching, types, required keys, inputs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "convert.h"
#include "message.h"

const PiModeInfo pi_modes[] = {
	[PI_MATCH_EMAIL] = {"email", true, false, true, true, true, false},
	[PI_MATCH_EMAIL_PROFILE] = {"email_profile", true, false, true, false, true, false},
	[PI_MATCH_EMAIL_SUB] = {"email_sub", true, false, false, true, true, true},
	[PI_MATCH_PHONE] = {"phone", false, true, true, true, true, false},
	[PI_MATCH_PHONE_SUB] = {"phone_sub", false, true, false, true, true, true},
	[PI_MATCH_EMAIL_PHONE] = {"email_phone", true, true, true, true, true, false},
	[PI_MATCH_EMAIL_PHONE_SUB] = {"email_phone_sub", true, true, false, true, true, true},
	[PI_MATCH_PUSH_SUB] = {"push_sub", false, false, false, true, true, true},
	[PI_MATCH_PROFILE_ID] = {"profile_id", false, false, true, false, false, false},
	[PI_MATCH_CUSTOM] = {"custom", false, false, true, false, true, false},
	[PI_MATCH_CUSTOM_SUB] = {"custom_sub", false, false, false, true, false, false},
};

#define NUM_MODES (PI_MATCH_CUSTOM_SUB + 1)

/* A name of the sender's as texts show it: no longer than a declared one. */
char	   *
pi_show_name(const char *name, int len)
{
	return pnstrdup(name, pg_mbcliplen(name, len, 255));
}

/* The member of that name; NULL if absent or JSON null. */
static const JsonbValue *
get(const JsonbValue *root, const char *key)
{
	const JsonbValue *v = pi_object_get(root, key, strlen(key));

	return v == NULL || v->type == jbvNull ? NULL : v;
}

static char *
text_of(const JsonbValue *v)
{
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static bool
mode_by_name(const JsonbValue *v, PiMode *mode)
{
	if (v->type != jbvString)
		return false;
	for (int i = 0; i < NUM_MODES; i++)
	{
		int			len = strlen(pi_modes[i].name);

		if (v->val.string.len == len &&
			memcmp(v->val.string.val, pi_modes[i].name, len) == 0)
		{
			*mode = (PiMode) i;
			return true;
		}
	}
	return false;
}

void
pi_message_echo(const JsonbValue *root, const char **feedback_id,
				const char **matching)
{
	const JsonbValue *v;
	PiMode		mode;

	*feedback_id = "";
	*matching = "";
	if (root == NULL)
		return;
	v = get(root, "feedback_id");
	if (v != NULL && v->type == jbvString)
		*feedback_id = text_of(v);
	v = get(root, "matching");
	if (v == NULL)
		*matching = pi_modes[PI_MATCH_EMAIL].name;
	else if (mode_by_name(v, &mode))
		*matching = pi_modes[mode].name;
}

int
pi_json_id(const JsonbValue *v)
{
	int64		n;

	if (v == NULL || !pi_json_int64(v, &n) || n < 1 || n > PG_INT32_MAX)
		return 0;
	return (int) n;
}

void
pi_message_place(const JsonbValue *root, int *account_id, int *db_id)
{
	*account_id = *db_id = 0;
	if (root == NULL)
		return;
	*account_id = pi_json_id(get(root, "account_id"));
	*db_id = pi_json_id(get(root, "db_id"));
}

/* A JSON int of any size: its jsonb text has only digits and a sign. */
static bool
is_int(const JsonbValue *v)
{
	int64		n;
	char	   *s;

	if (v->type != jbvNumeric)
		return false;
	if (pi_json_int64(v, &n))
		return true;
	s = DatumGetCString(DirectFunctionCall1(numeric_out,
											NumericGetDatum(v->val.numeric)));
	return s[strspn(s, "-0123456789")] == '\0';
}

static bool
missing(const char *key, char **error_text)
{
	*error_text = psprintf("The required key \"%s\" is missing.", key);
	return false;
}

/* 0 if absent. */
static bool
read_id(const JsonbValue *root, const char *key, int *id, char **error_text)
{
	const JsonbValue *v = get(root, key);

	*id = 0;
	if (v == NULL)
		return true;
	*id = pi_json_id(v);
	if (*id == 0)
		*error_text = psprintf("Key \"%s\" must be an int from 1 to 2147483647.", key);
	return *id != 0;
}

static bool
read_bool(const JsonbValue *root, const char *key, bool *result, char **error_text)
{
	const JsonbValue *v = get(root, key);

	*result = false;
	if (v == NULL)
		return true;
	if (v->type != jbvBool)
	{
		*error_text = psprintf("Key \"%s\" must be true or false.", key);
		return false;
	}
	*result = v->val.boolean;
	return true;
}

/* *v is NULL if absent. */
static bool
read_string(const JsonbValue *root, const char *key, const JsonbValue **v,
			char **error_text)
{
	*v = get(root, key);
	if (*v != NULL && (*v)->type != jbvString)
	{
		*error_text = psprintf("Key \"%s\" must be a string.", key);
		return false;
	}
	return true;
}

static bool
is_empty(const JsonbValue *v)
{
	return v == NULL ||
		(v->type == jbvString && pi_is_blank(v->val.string.val, v->val.string.len));
}

/* An input of the mode that must be there. */
static bool
need(const JsonbValue *v, const char *key, PiMode mode, char **error_text)
{
	if (!is_empty(v))
		return true;
	*error_text = psprintf("Matching by %s needs the key \"%s\", which is %s.",
						   pi_modes[mode].name, key, v == NULL ? "missing" : "empty");
	return false;
}

static bool
read_contact(const JsonbValue *v, const char *key, bool phone, char **result,
			 char **error_text)
{
	bool		empty;
	const char *why;

	if (is_empty(v))
		return true;
	*result = phone ?
		pi_normalize_phone(v->val.string.val, v->val.string.len, &empty, &why) :
		pi_normalize_email(v->val.string.val, v->val.string.len, &empty, &why);
	if (*result == NULL)
		*error_text = psprintf("Key \"%s\" is not valid: %s.", key, why);
	return *result != NULL;
}

bool
pi_message_read(const JsonbValue *root, PiMessage *msg, char **error_text)
{
	const JsonbValue *v;
	const JsonbValue *email;
	const JsonbValue *phone;
	const JsonbValue *profile_id;
	const JsonbValue *provider;
	const JsonbValue *subscription_id;
	const PiModeInfo *info;

	memset(msg, 0, sizeof(*msg));
	msg->feedback_id = "";

	v = get(root, "matching");
	if (v != NULL && v->type != jbvString)
	{
		*error_text = "Key \"matching\" must be a string.";
		return false;
	}
	if (v == NULL)
		msg->mode = PI_MATCH_EMAIL;
	else if (!mode_by_name(v, &msg->mode))
	{
		*error_text = "Key \"matching\" is none of the known modes.";
		return false;
	}
	info = &pi_modes[msg->mode];

	if (!read_id(root, "account_id", &msg->account_id, error_text) ||
		!read_id(root, "db_id", &msg->db_id, error_text) ||
		!read_id(root, "resource_id", &msg->resource_id, error_text) ||
		!read_bool(root, "update_only", &msg->update_only, error_text) ||
		!read_bool(root, "skip_triggers", &msg->skip_triggers, error_text) ||
		!read_bool(root, "skip_invalid_subscriptions",
				   &msg->skip_invalid_subscriptions, error_text) ||
		!read_string(root, "email", &email, error_text) ||
		!read_string(root, "phone", &phone, error_text) ||
		!read_string(root, "profile_id", &profile_id, error_text) ||
		!read_string(root, "field_name", &msg->field_name, error_text) ||
		!read_string(root, "provider", &provider, error_text) ||
		!read_string(root, "subscription_id", &subscription_id, error_text) ||
		!read_string(root, "feedback_id", &v, error_text))
		return false;
	if (v != NULL)
		msg->feedback_id = text_of(v);

	msg->field_value = get(root, "field_value");
	if (msg->field_value != NULL && msg->field_value->type != jbvString &&
		!is_int(msg->field_value))
	{
		*error_text = "Key \"field_value\" must be an int or a string.";
		return false;
	}

	msg->data = get(root, "data");
	if (msg->data != NULL && msg->data->type != jbvObject)
	{
		*error_text = "Key \"data\" must be an object.";
		return false;
	}

	if (msg->account_id == 0)
		return missing("account_id", error_text);
	if (msg->db_id == 0)
		return missing("db_id", error_text);
	if (msg->data == NULL)
		return missing("data", error_text);

	/* inputs of the mode */
	if (info->uses_email && info->uses_phone)
	{
		if (is_empty(email) && is_empty(phone))
		{
			*error_text = psprintf("Matching by %s needs the key \"email\" or \"phone\".",
								   info->name);
			return false;
		}
	}
	else if ((info->uses_email && !need(email, "email", msg->mode, error_text)) ||
			 (info->uses_phone && !need(phone, "phone", msg->mode, error_text)))
		return false;
	if (info->uses_email &&
		!read_contact(email, "email", false, &msg->email, error_text))
		return false;
	if (info->uses_phone &&
		!read_contact(phone, "phone", true, &msg->phone, error_text))
		return false;

	switch (msg->mode)
	{
		case PI_MATCH_PROFILE_ID:
			if (!need(profile_id, "profile_id", msg->mode, error_text))
				return false;
			msg->profile_id = text_of(profile_id);
			break;
		case PI_MATCH_PUSH_SUB:
			if (!need(provider, "provider", msg->mode, error_text) ||
				!need(subscription_id, "subscription_id", msg->mode, error_text))
				return false;
			msg->provider = text_of(provider);
			msg->subscription_id = text_of(subscription_id);
			break;
		case PI_MATCH_CUSTOM:
		case PI_MATCH_CUSTOM_SUB:
			if (!need(msg->field_name, "field_name", msg->mode, error_text) ||
				!need(msg->field_value, "field_value", msg->mode, error_text))
				return false;
			break;
		default:
			break;
	}
	return true;
}
