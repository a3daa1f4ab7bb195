/*-------------------------------------------------------------------------
 *
 * convert.h
 *		The types of profile fields: what each accepts and how it is stored.
 *
 * Pure functions on JsonbValue: no SQL, no catalog access except the list of
 * time zones.  Nothing here throws for any input; a value that does not fit
 * is an answer, not an error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_CONVERT_H
#define PI_CONVERT_H

#include "utils/jsonb.h"

typedef enum PiType
{
	/* types of declared fields */
	PI_TYPE_STRING,
	PI_TYPE_INT,
	PI_TYPE_FLOAT,
	PI_TYPE_BOOL,
	PI_TYPE_DATE,
	PI_TYPE_DATETIME,
	PI_TYPE_LIST,
	PI_TYPE_IP,
	PI_TYPE_TAGS,
	PI_TYPE_OBJECT,
	PI_TYPE_ARR_OBJECT,
	/* types only standard fields have */
	PI_TYPE_EMAIL,
	PI_TYPE_PHONES,
	PI_TYPE_POSTAL_CODE,		/* string; a JSON int is taken as its digits */
	PI_TYPE_TZ,
	PI_TYPE_SEX,
	PI_TYPE_STATUS
} PiType;

typedef struct PiFieldDef
{
	char	   *name;			/* zero-terminated, UTF-8 */
	int			namelen;
	PiType		type;
	char	  **options;		/* list fields: the allowed strings */
	int			noptions;
	bool		required;
	bool		matching;
	bool		is_unique;
	bool		standard;
} PiFieldDef;

/* The name of a type as in profimport.field.type ("arr_object"), or NULL. */
extern const char *pi_type_name(PiType type);

/* False if there is no declarable type of that name. */
extern bool pi_type_by_name(const char *name, PiType *type);

/* The standard field of that name, or NULL. */
extern const PiFieldDef *pi_standard_field(const char *name, int namelen);

/*
 * Converts a plain value (never JSON null) to the form in which the field
 * stores it.  "in" may be any JsonbValue, jbvBinary included; "out" is an
 * in-memory tree.  On failure returns false and sets *why to a constant or
 * palloc'd phrase that says what is expected ("an int is expected"), without
 * the value and without a full stop.
 */
extern bool pi_convert(const PiFieldDef *field, const JsonbValue *in,
					   JsonbValue *out, const char **why);

/*
 * For matching = custom and custom_sub: like pi_convert, but an int also
 * counts as its digits for string, list and tags fields, and a string is
 * split on commas for tags.  object and arr_object never convert.
 */
extern bool pi_convert_match(const PiFieldDef *field, const JsonbValue *in,
							 JsonbValue *out, const char **why);

/*
 * Email and phone as inputs of matching.  Return a palloc'd, normalised,
 * zero-terminated string (email: trimmed, spelling kept; phone: +digits), or
 * NULL with *why set.  *empty tells "" and white space only from a bad one.
 */
extern char *pi_normalize_email(const char *s, int len, bool *empty, const char **why);
extern char *pi_normalize_phone(const char *s, int len, bool *empty, const char **why);

/* True if the string is empty or ASCII white space only. */
extern bool pi_is_blank(const char *s, int len);

/*
 * A JSON int: a number whose jsonb text has only digits and a sign, within
 * 64 bits.  False for anything else.
 */
extern bool pi_json_int64(const JsonbValue *v, int64 *result);

/* Status word, number or digit string to 0..6; false if it is none. */
extern bool pi_status(const JsonbValue *v, int *status);

/* jsonb equality of two values, each an in-memory tree or jbvBinary. */
extern bool pi_value_equal(const JsonbValue *a, const JsonbValue *b);

/* A copy of v without jbvBinary at any depth, in CurrentMemoryContext. */
extern void pi_value_expand(const JsonbValue *v, JsonbValue *out);

/* Member of an in-memory object, or NULL.  "keylen" bytes of "key". */
extern JsonbValue *pi_object_get(const JsonbValue *object, const char *key, int keylen);

/* One JsonbValue (in-memory or binary, scalar too) as a jsonb datum. */
extern Jsonb *pi_value_to_jsonb(const JsonbValue *v);

/*
 * The text under which a stored value of a matchable field is looked up
 * (key_value columns).  Scalars give one key, tags one per tag, phones one
 * per phone.  Equal values (jsonb equality) give equal keys; values longer
 * than a b-tree likes are given by their SHA-256.  Returns the number of
 * keys, 0 for a type that cannot be matched; *keys is palloc'd.
 */
extern int	pi_match_keys(PiType type, const JsonbValue *stored, char ***keys);

#endif							/* PI_CONVERT_H */
