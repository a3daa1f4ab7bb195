/*-------------------------------------------------------------------------
 *
 * pack.h
 *		The stored form of messages that wait to be published.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_PACK_H
#define PI_PACK_H

#include "journal.h"
#include "lib/stringinfo.h"

/*
 * Appends a message.  "before" is the one in front of it in the same buffer,
 * NULL for the first; to read it again the same one is needed.
 */
extern void pi_pack_out(StringInfo buf, const PiOut *out, const PiOut *before);

/* Reads the next message; throws if it makes no sense. */
extern void pi_unpack_out(StringInfo buf, PiOut *out, const PiOut *before);

/* A string of less than 64 kB as it is, or NULL. */
extern void pi_pack_string(StringInfo buf, const char *s);
extern char *pi_unpack_string(StringInfo buf);

#endif							/* PI_PACK_H */
