/*-------------------------------------------------------------------------
 *
 * textnorm.c
 *		Strings with a normal form: email, phone, tags, words and numbers.
 *
 * NOTES
 *	  "White space" at the ends of a string is ASCII white space (space, tab,
 *	  LF, VT, FF, CR), whatever the locale of the server.  In phones only the
 *	  space itself is a filler, like the other four characters that are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "textnorm.h"
#include "value.h"

#define MAX_EMAIL_BYTES		320
#define MIN_PHONE_DIGITS	7
#define MAX_PHONE_DIGITS	15

typedef struct SexWord
{
	const char *word;
	int			sex;
} SexWord;

#define IS_SPACE(c) ((c) == ' ' || ((c) >= '\t' && (c) <= '\r'))
#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')
#define FOLD(c)		(((c) >= 'A' && (c) <= 'Z') ? (c) + ('a' - 'A') : (c))


void
pi_trim(const char **s, int *len)
{
	while (*len > 0 && IS_SPACE(**s))
	{
		(*s)++;
		(*len)--;
	}
	while (*len > 0 && IS_SPACE((*s)[*len - 1]))
		(*len)--;
}

bool
pi_is_blank(const char *s, int len)
{
	pi_trim(&s, &len);
	return len == 0;
}

/* ---- numbers as strings ---------------------------------------------- */

bool
pi_int_from_string(const char *s, int len, int64 *result)
{
	int64		value = 0;
	bool		negative = false;
	int			i = 0;

	if (len > 0 && s[0] == '-')
	{
		negative = true;
		i++;
	}
	if (i == len)
		return false;
	for (; i < len; i++)
	{
		/* counted downwards: the range of negative numbers is the larger one */
		if (!IS_DIGIT(s[i]) ||
			pg_mul_s64_overflow(value, 10, &value) ||
			pg_sub_s64_overflow(value, s[i] - '0', &value))
			return false;
	}
	if (!negative)
	{
		if (value == PG_INT64_MIN)
			return false;
		value = -value;
	}
	*result = value;
	return true;
}

bool
pi_float_from_string(const char *s, int len, double *result)
{
	const char *p = s;
	const char *end = s + len;
	const char *digits;
	char		local[64];
	char	   *copy;

	if (p < end && *p == '-')
		p++;
	for (digits = p; p < end && IS_DIGIT(*p);)
		p++;
	if (p == digits)
		return false;
	if (p < end && *p == '.')
	{
		for (digits = ++p; p < end && IS_DIGIT(*p);)
			p++;
		if (p == digits)
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		for (digits = p; p < end && IS_DIGIT(*p);)
			p++;
		if (p == digits)
			return false;
	}
	if (p != end)
		return false;

	/* strtod() is safe here: a server process keeps LC_NUMERIC at "C" */
	copy = (len < sizeof(local)) ? local : palloc(len + 1);
	memcpy(copy, s, len);
	copy[len] = '\0';
	*result = strtod(copy, NULL);
	if (copy != local)
		pfree(copy);

	/* too small a number is the nearest one there is, zero */
	return isfinite(*result);
}

/* ---- letters --------------------------------------------------------- */

char *
pi_fold_ascii(const char *s, int len)
{
	char	   *folded = palloc(len + 1);
	int			i;

	for (i = 0; i < len; i++)
		folded[i] = FOLD(s[i]);
	folded[len] = '\0';
	return folded;
}

bool
pi_is_word(const char *s, int len, const char *word)
{
	int			i;

	for (i = 0; i < len; i++)
	{
		if (word[i] == '\0' || FOLD(s[i]) != word[i])
			return false;
	}
	return word[len] == '\0';
}

/*
 * The lower case of the Russian letters, which are two bytes of UTF-8 each:
 * U+0410..U+042F (D0 90..D0 AF) become U+0430..U+044F (D0 B0..BF, D1 80..8F).
 */
static void
fold_russian(char *s, int len)
{
	int			i;

	for (i = 0; i + 1 < len; i++)
	{
		unsigned char c = s[i + 1];

		if ((unsigned char) s[i] != 0xD0)
			continue;
		if (c >= 0x90 && c <= 0x9F)
			s[i + 1] = (char) (c + 0x20);
		else if (c >= 0xA0 && c <= 0xAF)
		{
			s[i] = (char) 0xD1;
			s[i + 1] = (char) (c - 0x20);
		}
		i++;
	}
}

int
pi_sex_word(const char *s, int len)
{
	static const SexWord words[] =
	{
		{"0", 0},
		{"1", 1},
		{"2", 2},
		{"male", 1},
		{"m", 1},
		{"man", 1},
		{"female", 2},
		{"f", 2},
		{"w", 2},
		{"woman", 2},
		{"\xD0\xBC", 1},
		{"\xD0\xBC\xD1\x83\xD0\xB6", 1},
		{"\xD0\xB6", 2},
		{"\xD0\xB6\xD0\xB5\xD0\xBD", 2}
	};
	char		folded[16];
	int			i;

	if (len >= sizeof(folded))
		return -1;
	memcpy(folded, s, len);
	fold_russian(folded, len);
	for (i = 0; i < lengthof(words); i++)
	{
		if (pi_is_word(folded, len, words[i].word))
			return words[i].sex;
	}
	return -1;
}

int
pi_status_word(const char *s, int len)
{
	static const char *const words[] =
	{
		"subscribed", "unsubscribed", "complained", "hardbounced",
		"unconfirmed", "suspended", "invalid"
	};
	int			i;

	for (i = 0; i < lengthof(words); i++)
	{
		if (strlen(words[i]) == len && memcmp(words[i], s, len) == 0)
			return i;
	}
	return -1;
}

/* ---- email ----------------------------------------------------------- */

/*
 * How many bytes at s are a control character or white space, of Unicode
 * too; 0 if they are none.
 */
static int
unwanted_in_email(const char *s, int left)
{
	const unsigned char *c = (const unsigned char *) s;

	if (c[0] <= ' ' || c[0] == 0x7F)
		return 1;
	if (left >= 2 && c[0] == 0xC2 && c[1] <= 0xA0)
		return 2;				/* U+0080 to U+00A0 */
	if (left >= 3 &&
		((c[0] == 0xE1 && c[1] == 0x9A && c[2] == 0x80) ||	/* U+1680 */
		 (c[0] == 0xE2 && c[1] == 0x80 && c[2] <= 0x8A) ||	/* U+2000..200A */
		 (c[0] == 0xE2 && c[1] == 0x80 &&
		  (c[2] == 0xA8 || c[2] == 0xA9 || c[2] == 0xAF)) ||	/* U+2028 2029 202F */
		 (c[0] == 0xE2 && c[1] == 0x81 && c[2] == 0x9F) ||	/* U+205F */
		 (c[0] == 0xE3 && c[1] == 0x80 && c[2] == 0x80)))	/* U+3000 */
		return 3;
	return 0;
}

char *
pi_normalize_email(const char *s, int len, bool *empty, const char **why)
{
	const char *at;
	int			i;

	pi_trim(&s, &len);
	*empty = (len == 0);
	*why = "an email address is expected";
	if (len == 0)
		return NULL;
	if (len > MAX_EMAIL_BYTES)
	{
		*why = "an email address of at most 320 bytes is expected";
		return NULL;
	}

	at = memchr(s, '@', len);
	if (at == NULL || at == s || at == s + len - 1 ||
		memchr(at + 1, '@', s + len - (at + 1)) != NULL)
		return NULL;
	for (i = 0; i < len; i++)
	{
		if (unwanted_in_email(s + i, len - i) > 0)
			return NULL;
	}
	return pnstrdup(s, len);
}

/* ---- phone ----------------------------------------------------------- */

char *
pi_normalize_phone(const char *s, int len, bool *empty, const char **why)
{
	char		phone[1 + MAX_PHONE_DIGITS];
	int			n = 0;
	int			i;

	*empty = pi_is_blank(s, len);
	*why = "a phone number in international form (+ and 7 to 15 digits) is expected";

	for (i = 0; i < len; i++)
	{
		char		c = s[i];

		if (c == ' ' || c == '-' || c == '(' || c == ')' || c == '.')
			continue;
		if (n == sizeof(phone))
			return NULL;
		if (n == 0 ? c != '+' : !IS_DIGIT(c))
			return NULL;
		if (n == 1 && c == '0')
			return NULL;
		phone[n++] = c;
	}
	if (n < 1 + MIN_PHONE_DIGITS)
		return NULL;
	return pnstrdup(phone, n);
}

/* ---- lists of strings ------------------------------------------------ */

void
pi_distinct_array(JsonbValue *elems, int n, JsonbValue *out)
{
	int			kept = n;

	if (n > 1)
	{
		int		   *first = pi_value_first_equal(elems, n);
		int			i;

		for (i = kept = 0; i < n; i++)
		{
			if (first[i] == i)
				elems[kept++] = elems[i];
		}
		pfree(first);
	}
	out->type = jbvArray;
	out->val.array.nElems = kept;
	out->val.array.elems = elems;
	out->val.array.rawScalar = false;
}

void
pi_tags_from_string(const char *s, int len, JsonbValue *out)
{
	const char *end = s + len;
	const char *p;
	JsonbValue *elems;
	int			n = 1;

	for (p = s; p < end && (p = memchr(p, ',', end - p)) != NULL; p++)
		n++;
	elems = pi_alloc_huge(sizeof(JsonbValue) * n);

	n = 0;
	for (p = s; p <= end;)
	{
		const char *comma = (p < end) ? memchr(p, ',', end - p) : NULL;
		const char *tag = p;
		int			taglen = (comma ? comma : end) - p;

		p += taglen + 1;
		pi_trim(&tag, &taglen);
		if (taglen > 0)
			pi_set_string(&elems[n++], tag, taglen);
	}
	pi_distinct_array(elems, n, out);
}

bool
pi_tags_from_array(const JsonbValue *in, JsonbValue *out)
{
	JsonbValue *elems;
	int			n = 0;
	int			i;

	elems = pi_alloc_huge(sizeof(JsonbValue) * Max(in->val.array.nElems, 1));
	for (i = 0; i < in->val.array.nElems; i++)
	{
		const JsonbValue *v = &in->val.array.elems[i];
		const char *tag;
		int			taglen;

		if (v->type != jbvString)
			return false;
		tag = v->val.string.val;
		taglen = v->val.string.len;
		if (taglen > 0 && memchr(tag, ',', taglen) != NULL)
			return false;
		pi_trim(&tag, &taglen);
		if (taglen > 0)
			pi_set_string(&elems[n++], tag, taglen);
	}
	pi_distinct_array(elems, n, out);
	return true;
}

bool
pi_phones(const JsonbValue *in, JsonbValue *out, const char **why)
{
	const JsonbValue *from = in;
	JsonbValue *elems;
	int			n = 1;
	int			i;

	if (in->type == jbvArray)
	{
		from = in->val.array.elems;
		n = in->val.array.nElems;
	}

	elems = pi_alloc_huge(sizeof(JsonbValue) * Max(n, 1));
	for (i = 0; i < n; i++)
	{
		bool		empty;
		char	   *phone;

		*why = "a phone number or an array of phone numbers is expected";
		if (from[i].type != jbvString)
			return false;
		phone = pi_normalize_phone(from[i].val.string.val,
								   from[i].val.string.len, &empty, why);
		if (phone == NULL)
			return false;
		pi_set_string(&elems[i], phone, strlen(phone));
	}
	pi_distinct_array(elems, n, out);
	return true;
}
