/*-------------------------------------------------------------------------
 *
 * body.h
 *		From the bytes of a message to a tree of JsonbValue.
 *
 * The reader never throws: whatever the bytes are, the answer is a value.
 * It accepts exactly the JSON that jsonb_in() of a UTF8 database accepts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_BODY_H
#define PI_BODY_H

#include "utils/jsonb.h"

/* Brackets that may be open at once; the outer object counts as one. */
#define PI_MAX_DEPTH 128

typedef struct PiBody
{
	/*
	 * The message as an in-memory tree (jbvObject; no jbvBinary anywhere),
	 * keys sorted and unique as jsonb has them, the last of equal keys kept.
	 * NULL if the bytes are not one well-formed JSON object in UTF-8.
	 *
	 * When "defect" is set and root is not NULL (too deep, \u0000, a number
	 * out of range), the tree is good enough to read feedback_id and matching
	 * from: a value that could not be represented (a string holding \u0000, a
	 * number out of range, a container below the depth limit) stands in it as
	 * jbvBool false, a key holding \u0000 is left out.
	 */
	JsonbValue *root;

	/* NULL if the body is good, else the sentence for error_text (code 400) */
	const char *defect;
} PiBody;

/*
 * Reads len bytes.  Everything is allocated in CurrentMemoryContext, strings
 * of the tree may point into "bytes", which must outlive it.
 */
extern void pi_body_parse(const char *bytes, size_t len, PiBody *out);

#endif							/* PI_BODY_H */
