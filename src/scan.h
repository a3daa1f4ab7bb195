/*-------------------------------------------------------------------------
 *
 * scan.h
 *		The tokens of a JSON text: strings, numbers and words.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_SCAN_H
#define PI_SCAN_H

#include "utils/jsonb.h"

typedef struct PiScanner
{
	const char *start;
	const char *at;				/* what is read next, or did not fit */
	const char *end;
	char	   *unescaped;		/* room for strings that have escapes: as much
								 * as was left of the text at the first one */
	int64		swelling;		/* how many characters more the numbers read so
								 * far have when jsonb writes them: 1e9 has 10 */
} PiScanner;

typedef enum PiToken
{
	PI_TOKEN_GOOD,
	PI_TOKEN_UNFIT,				/* JSON, but jsonb cannot store it: a string
								 * with \u0000, a number out of range */
	PI_TOKEN_UNPAIRED,			/* the same: a string with half of a surrogate
								 * pair */
	PI_TOKEN_MALFORMED
} PiToken;

/*
 * Each reads the token that begins at scanner->at (a string with its quote)
 * and moves beyond it.  *out is set if the token is good; with out NULL the
 * token is only checked for its syntax.
 */
extern PiToken pi_scan_string(PiScanner *scanner, JsonbValue *out);
extern PiToken pi_scan_number(PiScanner *scanner, JsonbValue *out);

/* true, false or null; false if it is none of them. */
extern bool pi_scan_word(PiScanner *scanner, JsonbValue *out);

#endif							/* PI_SCAN_H */
