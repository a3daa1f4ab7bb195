/*-------------------------------------------------------------------------
 *
 * profile_id.c
 *		New profile ids.
 *
 * NOTES
 *		24 lower-case hexadecimal digits: 12 of milliseconds since 1970, then
 *		12 that start at random and count up within a millisecond.  So ids are
 *		ordered by time, strictly within a process even if its clock steps
 *		back, and new rows go to the end of the index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "profile_id.h"

PG_FUNCTION_INFO_V1(pi_new_profile_id);

void
pi_make_profile_id(char *buf)
{
	static uint64 last_ms = 0;
	static uint64 tail = 0;
	uint64		ms = (uint64) (GetCurrentTimestamp() / 1000 +
							   (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000));

	if (ms > last_ms)
	{
		if (!pg_strong_random(&tail, sizeof(tail)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		tail &= UINT64CONST(0x7fffffffffff);	/* room to count up */
		last_ms = ms;
	}
	else
		tail++;
	snprintf(buf, PI_PROFILE_ID_LEN + 1, "%012llx%012llx",
			 (unsigned long long) (last_ms & UINT64CONST(0xffffffffffff)),
			 (unsigned long long) (tail & UINT64CONST(0xffffffffffff)));
}

/* new_profile_id() → text */
Datum
pi_new_profile_id(PG_FUNCTION_ARGS)
{
	char		buf[PI_PROFILE_ID_LEN + 1];

	pi_make_profile_id(buf);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}
