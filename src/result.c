/*-------------------------------------------------------------------------
 *
 * result.c
 *		The result document, and which errors become one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "engine.h"

const char *
pi_outcome_name(PiOutcome outcome)
{
	switch (outcome)
	{
		case PI_CREATED:
			return "created";
		case PI_UPDATED:
			return "updated";
		case PI_UNCHANGED:
			return "unchanged";
		case PI_FAILED:
			return "failed";
	}
	return NULL;
}

char	   *
pi_result_json(const PiResult *r)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"error\":%d,\"error_text\":", r->error);
	escape_json(&buf, r->error_text);
	appendStringInfoString(&buf, ",\"feedback_id\":");
	escape_json(&buf, r->feedback_id);
	appendStringInfoString(&buf, ",\"matching_field\":");
	escape_json(&buf, r->matching_field);
	appendStringInfoString(&buf, ",\"profile_id\":");
	escape_json(&buf, r->profile_id);
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

static void
push_string(JsonbParseState * *state, const char *key, const char *value)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

Jsonb	   *
pi_result_jsonb(const PiResult *r)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = "error";
	v.val.string.len = strlen("error");
	pushJsonbValue(&state, WJB_KEY, &v);
	v.type = jbvNumeric;
	v.val.numeric = DatumGetNumeric(DirectFunctionCall1(int4_numeric, Int32GetDatum(r->error)));
	pushJsonbValue(&state, WJB_VALUE, &v);
	push_string(&state, "error_text", r->error_text);
	push_string(&state, "feedback_id", r->feedback_id);
	push_string(&state, "matching_field", r->matching_field);
	push_string(&state, "profile_id", r->profile_id);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

bool
pi_sqlstate_is_transient(int code)
{
	switch (ERRCODE_TO_CATEGORY(code))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):	/* connection */
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* rollback */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* resources */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* intervention */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system */
			return true;
		default:
			return code == ERRCODE_LOCK_NOT_AVAILABLE ||
				code == ERRCODE_READ_ONLY_SQL_TRANSACTION;
	}
}

bool
pi_sqlstate_is_setup(int code)
{
	int			category = ERRCODE_TO_CATEGORY(code);

	return category == MAKE_SQLSTATE('4', '2', '0', '0', '0') ||
		category == MAKE_SQLSTATE('3', 'F', '0', '0', '0');
}
