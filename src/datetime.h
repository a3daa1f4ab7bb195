/*-------------------------------------------------------------------------
 *
 * datetime.h
 *		Dates, datetimes and names of time zones of profile fields.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_DATETIME_H
#define PI_DATETIME_H

/* "2001-12-31" and "2001-12-31T00:00:00.123Z", without a terminating zero */
#define PI_DATE_LEN			10
#define PI_DATETIME_MAX_LEN 24

/*
 * Reads a date or a datetime and writes its date as sent (PI_DATE_LEN bytes).
 */
extern bool pi_parse_date(const char *s, int len, char *out);

/*
 * Reads a date or a datetime and writes it in UTC; *outlen is set to the
 * bytes written.
 */
extern bool pi_parse_datetime(const char *s, int len, char *out, int *outlen);

/*
 * The spelling of pg_timezone_names for a name in any case, or NULL.  The
 * answer lives as long as the process.
 */
extern const char *pi_timezone_name(const char *s, int len);

#endif							/* PI_DATETIME_H */
