/*-------------------------------------------------------------------------
 *
 * convert.c
 *		The types of profile fields: what each accepts and how it is stored.
 *
 * NOTES
 *	  Functions of PostgreSQL that throw on bad input are called only with
 *	  input that was found good before.
 *
 *	  Decisions where the documentation leaves room:
 *	  - a string is taken as it is: "" and white space are values, and the
 *		options of a list are compared byte by byte, untrimmed;
 *	  - a float too small for a double is zero, and there is no minus zero;
 *	  - status words are lower case; numeric strings may have leading zeros;
 *	  - tags of which nothing is left are the empty array, which is a value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <math.h>
#include <sys/socket.h>

#include "common/shortest_dec.h"
#include "compat.h"
#include "convert.h"
#include "datetime.h"
#include "textnorm.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "value.h"

#define MAX_KEY_BYTES		255
#define MAX_IP_BYTES		255
#define SHA256_BYTES		32

/* Integers up to here have a double of their own. */
#define MAX_EXACT_INT		(INT64CONST(1) << 53)

typedef struct DeclarableType
{
	const char *name;
	PiType		type;
} DeclarableType;

static const DeclarableType declarable[] =
{
	{"string", PI_TYPE_STRING},
	{"int", PI_TYPE_INT},
	{"float", PI_TYPE_FLOAT},
	{"bool", PI_TYPE_BOOL},
	{"date", PI_TYPE_DATE},
	{"datetime", PI_TYPE_DATETIME},
	{"list", PI_TYPE_LIST},
	{"ip", PI_TYPE_IP},
	{"tags", PI_TYPE_TAGS},
	{"object", PI_TYPE_OBJECT},
	{"arr_object", PI_TYPE_ARR_OBJECT}
};

#define STANDARD(name_, type_, unique_) \
	{.name = (name_), .namelen = sizeof(name_) - 1, .type = (type_), \
	 .is_unique = (unique_), .standard = true}

static const PiFieldDef standard_fields[] =
{
	STANDARD("email", PI_TYPE_EMAIL, true),
	STANDARD("phones", PI_TYPE_PHONES, false),
	STANDARD("_fname", PI_TYPE_STRING, false),
	STANDARD("_lname", PI_TYPE_STRING, false),
	STANDARD("_city", PI_TYPE_STRING, false),
	STANDARD("_region", PI_TYPE_STRING, false),
	STANDARD("_country", PI_TYPE_STRING, false),
	STANDARD("_regcity", PI_TYPE_STRING, false),
	STANDARD("_regcountry", PI_TYPE_STRING, false),
	STANDARD("_regurl", PI_TYPE_STRING, false),
	STANDARD("_vendor", PI_TYPE_STRING, false),
	STANDARD("_browser", PI_TYPE_STRING, false),
	STANDARD("_os", PI_TYPE_STRING, false),
	STANDARD("_postal_code", PI_TYPE_POSTAL_CODE, false),
	STANDARD("_tz", PI_TYPE_TZ, false),
	STANDARD("_bdate", PI_TYPE_DATETIME, false),
	STANDARD("_regdate", PI_TYPE_DATETIME, false),
	STANDARD("_sex", PI_TYPE_SEX, false),
	STANDARD("_ip", PI_TYPE_IP, false),
	STANDARD("_regip", PI_TYPE_IP, false),
	STANDARD("_status", PI_TYPE_STATUS, false)
};


const char *
pi_type_name(PiType type)
{
	int			i;

	for (i = 0; i < lengthof(declarable); i++)
	{
		if (declarable[i].type == type)
			return declarable[i].name;
	}
	return NULL;
}

bool
pi_type_by_name(const char *name, PiType *type)
{
	int			i;

	for (i = 0; i < lengthof(declarable); i++)
	{
		if (strcmp(declarable[i].name, name) == 0)
		{
			*type = declarable[i].type;
			return true;
		}
	}
	return false;
}

const PiFieldDef *
pi_standard_field(const char *name, int namelen)
{
	int			i;

	/* most names are of declared fields and leave here */
	if (namelen < 3 || (name[0] != '_' && name[0] != 'e' && name[0] != 'p'))
		return NULL;
	for (i = 0; i < lengthof(standard_fields); i++)
	{
		if (standard_fields[i].namelen == namelen &&
			memcmp(standard_fields[i].name, name, namelen) == 0)
			return &standard_fields[i];
	}
	return NULL;
}

/* ---- numbers --------------------------------------------------------- */

bool
pi_json_int64(const JsonbValue *v, int64 *result)
{
	static Numeric lowest = NULL;
	static Numeric highest = NULL;
	Datum		number;

	if (v->type != jbvNumeric)
		return false;
	number = NumericGetDatum(v->val.numeric);

	/* the text has a point exactly if there is a scale */
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, number)) != 0)
		return false;

	if (unlikely(highest == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		lowest = pi_int_numeric(PG_INT64_MIN);
		highest = pi_int_numeric(PG_INT64_MAX);
		MemoryContextSwitchTo(old);
	}
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, number,
										  NumericGetDatum(lowest))) < 0 ||
		DatumGetInt32(DirectFunctionCall2(numeric_cmp, number,
										  NumericGetDatum(highest))) > 0)
		return false;
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	return true;
}

/* The double nearest to a number; false if it is beyond all of them. */
static bool
double_from_numeric(Numeric number, double *result)
{
	*result = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												 NumericGetDatum(number)));
	return isfinite(*result);
}

static void
set_int(JsonbValue *out, int64 value)
{
	out->type = jbvNumeric;
	out->val.numeric = pi_int_numeric(value);
}

void
pi_set_double(JsonbValue *out, double value)
{
	char		text[DOUBLE_SHORTEST_DECIMAL_LEN];

	Assert(isfinite(value));
	if (value >= -MAX_EXACT_INT && value <= MAX_EXACT_INT &&
		value == (double) (int64) value)
	{
		set_int(out, (int64) value);
		return;
	}
	(void) double_to_shortest_decimal_buf(value, text);
	out->type = jbvNumeric;
	out->val.numeric =
		DatumGetNumeric(DirectFunctionCall3(numeric_in,
											CStringGetDatum(text),
											ObjectIdGetDatum(InvalidOid),
											Int32GetDatum(-1)));
}

bool
pi_get_double(const JsonbValue *v, double *result)
{
	return v->type == jbvNumeric && double_from_numeric(v->val.numeric, result);
}

/*
 * A JSON int as the string of its digits.  Any size will do: that of 64 bits
 * is a limit of int fields, not of JSON.
 */
static bool
digits_of_int(const JsonbValue *v, JsonbValue *out)
{
	Datum		number;
	char	   *text;

	if (v->type != jbvNumeric)
		return false;
	number = NumericGetDatum(v->val.numeric);
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, number)) != 0)
		return false;
	text = DatumGetCString(DirectFunctionCall1(numeric_out, number));
	pi_set_string(out, text, strlen(text));
	return true;
}

/* ---- types ----------------------------------------------------------- */

static bool
convert_int(const JsonbValue *in, JsonbValue *out)
{
	int64		value;

	if (in->type == jbvNumeric)
	{
		if (!pi_json_int64(in, &value))
			return false;
		*out = *in;
		return true;
	}
	if (in->type != jbvString ||
		!pi_int_from_string(in->val.string.val, in->val.string.len, &value))
		return false;
	set_int(out, value);
	return true;
}

static bool
convert_float(const JsonbValue *in, JsonbValue *out)
{
	double		value;

	if (in->type == jbvNumeric)
	{
		if (!double_from_numeric(in->val.numeric, &value))
			return false;
	}
	else if (in->type != jbvString ||
			 !pi_float_from_string(in->val.string.val, in->val.string.len,
								   &value))
		return false;
	pi_set_double(out, value);
	return true;
}

static bool
convert_bool(const JsonbValue *in, JsonbValue *out)
{
	bool		value;

	if (in->type == jbvBool)
		value = in->val.boolean;
	else if (in->type != jbvString)
		return false;
	else if (pi_is_word(in->val.string.val, in->val.string.len, "true"))
		value = true;
	else if (pi_is_word(in->val.string.val, in->val.string.len, "false"))
		value = false;
	else
		return false;
	out->type = jbvBool;
	out->val.boolean = value;
	return true;
}

static bool
convert_date(const JsonbValue *in, JsonbValue *out)
{
	char		text[PI_DATE_LEN];

	if (in->type != jbvString ||
		!pi_parse_date(in->val.string.val, in->val.string.len, text))
		return false;
	pi_set_string(out, pnstrdup(text, PI_DATE_LEN), PI_DATE_LEN);
	return true;
}

static bool
convert_datetime(const JsonbValue *in, JsonbValue *out)
{
	char		text[PI_DATETIME_MAX_LEN];
	int			len;

	if (in->type != jbvString ||
		!pi_parse_datetime(in->val.string.val, in->val.string.len, text, &len))
		return false;
	pi_set_string(out, pnstrdup(text, len), len);
	return true;
}

static bool
convert_list(const PiFieldDef *field, const JsonbValue *in, JsonbValue *out)
{
	int			i;

	if (in->type != jbvString)
		return false;
	for (i = 0; i < field->noptions; i++)
	{
		if (pi_string_is(in, field->options[i], strlen(field->options[i])))
		{
			*out = *in;
			return true;
		}
	}
	return false;
}

static bool
convert_ip(const JsonbValue *in, JsonbValue *out)
{
	char		source[MAX_IP_BYTES + 1];
	unsigned char address[16];
	char		text[sizeof("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128")];
	int			family;
	int			bits;
	char	   *slash;
	int			af;

	if (in->type != jbvString || in->val.string.len > MAX_IP_BYTES)
		return false;
	memcpy(source, in->val.string.val, in->val.string.len);
	source[in->val.string.len] = '\0';

	/* the server's own function reads "1.2.3.4." and "::1.2.3" too */
	family = strchr(source, ':') ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	af = (family == PGSQL_AF_INET6) ? AF_INET6 : AF_INET;
	if (inet_pton(af, source, address) != 1)
		return false;
	bits = (family == PGSQL_AF_INET6) ? 128 : 32;
	if (pg_inet_net_pton(family, source, address, -1) != bits ||
		pg_inet_net_ntop(family, address, bits, text, sizeof(text)) == NULL)
		return false;
	if ((slash = strchr(text, '/')) != NULL)
		*slash = '\0';
	pi_set_string(out, pstrdup(text), strlen(text));
	return true;
}

static bool
convert_tags(const JsonbValue *in, JsonbValue *out)
{
	if (in->type == jbvString)
	{
		pi_tags_from_string(in->val.string.val, in->val.string.len, out);
		return true;
	}
	return in->type == jbvArray && pi_tags_from_array(in, out);
}

static bool
convert_arr_object(const JsonbValue *in, JsonbValue *out)
{
	int			i;

	if (in->type != jbvArray)
		return false;
	for (i = 0; i < in->val.array.nElems; i++)
	{
		if (in->val.array.elems[i].type != jbvObject)
			return false;
	}
	*out = *in;
	return true;
}

static bool
convert_postal_code(const JsonbValue *in, JsonbValue *out)
{
	if (in->type == jbvString)
	{
		*out = *in;
		return true;
	}
	return digits_of_int(in, out);
}

static bool
convert_tz(const JsonbValue *in, JsonbValue *out)
{
	const char *name;

	if (in->type != jbvString)
		return false;
	name = pi_timezone_name(in->val.string.val, in->val.string.len);
	if (name == NULL)
		return false;
	pi_set_string(out, name, strlen(name));
	return true;
}

static bool
convert_sex(const JsonbValue *in, JsonbValue *out)
{
	int64		value;

	if (in->type == jbvString)
		value = pi_sex_word(in->val.string.val, in->val.string.len);
	else if (!pi_json_int64(in, &value))
		return false;
	if (value < 0 || value > 2)
		return false;
	set_int(out, value);
	return true;
}

bool
pi_status(const JsonbValue *v, int *status)
{
	int64		value;

	if (v->type == jbvString)
	{
		value = pi_status_word(v->val.string.val, v->val.string.len);
		if (value < 0 &&
			(v->val.string.len == 0 || v->val.string.val[0] == '-' ||
			 !pi_int_from_string(v->val.string.val, v->val.string.len, &value)))
			return false;
	}
	else if (!pi_json_int64(v, &value))
		return false;
	if (value < 0 || value > 6)
		return false;
	*status = (int) value;
	return true;
}

/* pi_convert() for a value that is not jbvBinary. */
static bool
convert_tree(const PiFieldDef *field, const JsonbValue *in, JsonbValue *out,
			 const char **why)
{
	switch (field->type)
	{
		case PI_TYPE_STRING:
			*why = "a string is expected";
			*out = *in;
			return in->type == jbvString;

		case PI_TYPE_INT:
			*why = "an int is expected";
			return convert_int(in, out);

		case PI_TYPE_FLOAT:
			*why = "a finite number is expected";
			return convert_float(in, out);

		case PI_TYPE_BOOL:
			*why = "true or false is expected";
			return convert_bool(in, out);

		case PI_TYPE_DATE:
			*why = "a date (YYYY-MM-DD) is expected";
			return convert_date(in, out);

		case PI_TYPE_DATETIME:
			*why = "a datetime (YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ) is expected";
			return convert_datetime(in, out);

		case PI_TYPE_LIST:
			*why = "one of its options is expected";
			return convert_list(field, in, out);

		case PI_TYPE_IP:
			*why = "an IP address is expected";
			return convert_ip(in, out);

		case PI_TYPE_TAGS:
			*why = "an array of strings without commas, or one string, is expected";
			return convert_tags(in, out);

		case PI_TYPE_OBJECT:
			*why = "an object is expected";
			*out = *in;
			return in->type == jbvObject;

		case PI_TYPE_ARR_OBJECT:
			*why = "an array of objects is expected";
			return convert_arr_object(in, out);

		case PI_TYPE_EMAIL:
			{
				bool		empty;
				char	   *email;

				*why = "an email address is expected";
				if (in->type != jbvString)
					return false;
				email = pi_normalize_email(in->val.string.val,
										   in->val.string.len, &empty, why);
				if (email == NULL)
					return false;
				pi_set_string(out, email, strlen(email));
				return true;
			}

		case PI_TYPE_PHONES:
			return pi_phones(in, out, why);

		case PI_TYPE_POSTAL_CODE:
			*why = "a string is expected";
			return convert_postal_code(in, out);

		case PI_TYPE_TZ:
			*why = "the name of a time zone is expected";
			return convert_tz(in, out);

		case PI_TYPE_SEX:
			*why = "0, 1, 2 or a word for one of them is expected";
			return convert_sex(in, out);

		case PI_TYPE_STATUS:
			{
				int			status;

				*why = "a status is expected";
				if (!pi_status(in, &status))
					return false;
				set_int(out, status);
				return true;
			}
	}
	*why = "its type is unknown";
	return false;
}

bool
pi_convert(const PiFieldDef *field, const JsonbValue *in, JsonbValue *out,
		   const char **why)
{
	JsonbValue	expanded;

	if (in->type == jbvBinary)
	{
		pi_value_expand(in, &expanded);
		in = &expanded;
	}
	return convert_tree(field, in, out, why);
}

bool
pi_convert_match(const PiFieldDef *field, const JsonbValue *in,
				 JsonbValue *out, const char **why)
{
	JsonbValue	expanded;
	JsonbValue	digits;

	if (in->type == jbvBinary)
	{
		pi_value_expand(in, &expanded);
		in = &expanded;
	}

	switch (field->type)
	{
		case PI_TYPE_OBJECT:
		case PI_TYPE_ARR_OBJECT:
			*why = "its type cannot be matched";
			return false;

		case PI_TYPE_STRING:
		case PI_TYPE_LIST:
		case PI_TYPE_TAGS:
			if (digits_of_int(in, &digits))
				in = &digits;
			break;

		default:
			break;
	}

	if (!convert_tree(field, in, out, why))
		return false;
	if (field->type == PI_TYPE_TAGS && out->val.array.nElems == 0)
	{
		*why = "at least one tag is expected";
		return false;
	}
	return true;
}

/* ---- keys ------------------------------------------------------------ */

/*
 * "=" and the text, or "#" and its digest: the first character keeps a text
 * that looks like a digest from being one.
 */
static char *
make_key(const char *s, int len)
{
	char	   *key;

	if (len <= MAX_KEY_BYTES)
	{
		key = palloc(len + 2);
		key[0] = '=';
		memcpy(key + 1, s, len);
		key[len + 1] = '\0';
	}
	else
	{
		bytea	   *text = (bytea *) cstring_to_text_with_len(s, len);
		bytea	   *digest;

		digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
													 PointerGetDatum(text)));
		Assert(VARSIZE_ANY_EXHDR(digest) == SHA256_BYTES);
		key = palloc(1 + 2 * SHA256_BYTES + 1);
		key[0] = '#';
		hex_encode(VARDATA_ANY(digest), SHA256_BYTES, key + 1);
		key[1 + 2 * SHA256_BYTES] = '\0';
		pfree(text);
	}
	return key;
}

/* The key of one scalar, or NULL if it is no scalar. */
static char *
scalar_key(const JsonbValue *v)
{
	char		text[64];
	int64		ivalue;
	double		dvalue;

	switch (v->type)
	{
		case jbvString:
			return make_key(v->val.string.val, v->val.string.len);

		case jbvBool:
			return v->val.boolean ? make_key("true", 4) : make_key("false", 5);

		case jbvNumeric:

			/*
			 * By value, not by its spelling: 1.0 and 1.00 are equal.  A
			 * number that fits neither is not a stored value of any type.
			 */
			if (pi_json_int64(v, &ivalue))
				snprintf(text, sizeof(text), INT64_FORMAT, ivalue);
			else if (double_from_numeric(v->val.numeric, &dvalue))
			{
				JsonbValue	canonical;

				pi_set_double(&canonical, dvalue);
				if (pi_json_int64(&canonical, &ivalue))
					snprintf(text, sizeof(text), INT64_FORMAT, ivalue);
				else
					(void) double_to_shortest_decimal_buf(dvalue, text);
			}
			else
				return NULL;
			return make_key(text, strlen(text));

		default:
			return NULL;
	}
}

int
pi_match_keys(PiType type, const JsonbValue *stored, char ***keys)
{
	JsonbValue	expanded;
	int			n = 0;
	int			i;

	*keys = NULL;
	if (type == PI_TYPE_OBJECT || type == PI_TYPE_ARR_OBJECT)
		return 0;
	if (stored->type == jbvBinary)
	{
		pi_value_expand(stored, &expanded);
		stored = &expanded;
	}

	if (stored->type != jbvArray)
	{
		char	   *key = scalar_key(stored);

		if (key == NULL)
			return 0;
		*keys = palloc(sizeof(char *));
		(*keys)[0] = key;
		return 1;
	}

	*keys = pi_alloc_huge(sizeof(char *) * Max(stored->val.array.nElems, 1));
	for (i = 0; i < stored->val.array.nElems; i++)
	{
		char	   *key = scalar_key(&stored->val.array.elems[i]);

		if (key != NULL)
			(*keys)[n++] = key;
	}
	return n;
}
