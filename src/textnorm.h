/*-------------------------------------------------------------------------
 *
 * textnorm.h
 *		Strings with a normal form: email, phone, tags, and the words for sex
 *		and status.  Email and phone are declared in convert.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_TEXTNORM_H
#define PI_TEXTNORM_H

#include "convert.h"

/* Moves *s and *len past ASCII white space at both ends. */
extern void pi_trim(const char **s, int *len);

/* "int" as a string: optional minus, digits, within 64 bits. */
extern bool pi_int_from_string(const char *s, int len, int64 *result);

/* The same with fraction and exponent; finite. */
extern bool pi_float_from_string(const char *s, int len, double *result);

/*
 * A new string with the letters A to Z in lower case, for keys that are
 * compared without regard to their case.
 */
extern char *pi_fold_ascii(const char *s, int len);

/* Case-insensitive (ASCII) comparison with a constant in lower case. */
extern bool pi_is_word(const char *s, int len, const char *word);

/* 0, 1, 2 for a word for the sex of a person, in any case; else -1. */
extern int	pi_sex_word(const char *s, int len);

/* 0 to 6 for a status word; else -1. */
extern int	pi_status_word(const char *s, int len);

/*
 * The tags of one string, separated by commas: trimmed, empty ones dropped,
 * without repeats, in order.
 */
extern void pi_tags_from_string(const char *s, int len, JsonbValue *out);

/*
 * The tags of an array; false if an element is no string or has a comma.
 */
extern bool pi_tags_from_array(const JsonbValue *in, JsonbValue *out);

/* Phones of an array, or of one string; false: *why says what is wrong. */
extern bool pi_phones(const JsonbValue *in, JsonbValue *out, const char **why);

/* An array of the distinct ones of n strings; reuses "elems". */
extern void pi_distinct_array(JsonbValue *elems, int n, JsonbValue *out);

#endif							/* PI_TEXTNORM_H */
