/*-------------------------------------------------------------------------
 *
 * datetime.c
 *		Dates, datetimes and names of time zones of profile fields.
 *
 * NOTES
 *	  PostgreSQL's own input functions accept far more than we want ("today",
 *	  DateStyle, time zone abbreviations) and throw on the rest, so the one
 *	  format of the documentation is read here.
 *
 *	  An offset may be up to 15:59 hours either way, as in PostgreSQL.  24:00
 *	  and second 60 are refused: they have no place in the stored form.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "datetime.h"
#include "pgtime.h"
#include "utils/memutils.h"

typedef struct Moment
{
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;
	int			millisecond;
	int			offset;			/* minutes east of UTC */
} Moment;

/* A time zone and its name in lower case, to find it by. */
typedef struct ZoneName
{
	char	   *folded;
	char	   *name;
} ZoneName;

#define MAX_OFFSET_HOURS	15
#define MINUTES_PER_DAY		(24 * 60)

/* Core hides zones whose abbreviation is a sentence; so do we. */
#define MAX_ABBREVIATION	31

static ZoneName *zone_names = NULL;
static int	nzone_names = 0;


static inline bool
read_digits(const char *s, int n, int *value)
{
	int			result = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return false;
		result = result * 10 + (s[i] - '0');
	}
	*value = result;
	return true;
}

static inline void
write_digits(char *out, int n, int value)
{
	while (n-- > 0)
	{
		out[n] = '0' + value % 10;
		value /= 10;
	}
}

static int
days_of_month(int year, int month)
{
	static const uint8 days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
		return 29;
	return days[month - 1];
}

static bool
parse_moment(const char *s, int len, Moment *m)
{
	const char *end = s + len;
	int			offset_hours;
	int			offset_minutes;
	int			sign;

	memset(m, 0, sizeof(Moment));
	if (len < PI_DATE_LEN || s[4] != '-' || s[7] != '-' ||
		!read_digits(s, 4, &m->year) ||
		!read_digits(s + 5, 2, &m->month) ||
		!read_digits(s + 8, 2, &m->day))
		return false;
	if (m->year < 1 || m->month < 1 || m->month > 12 ||
		m->day < 1 || m->day > days_of_month(m->year, m->month))
		return false;
	s += PI_DATE_LEN;
	if (s == end)
		return true;

	if (end - s < 6 || (s[0] != 'T' && s[0] != ' ') || s[3] != ':' ||
		!read_digits(s + 1, 2, &m->hour) ||
		!read_digits(s + 4, 2, &m->minute) ||
		m->hour > 23 || m->minute > 59)
		return false;
	s += 6;

	if (s < end && *s == ':')
	{
		if (end - s < 3 || !read_digits(s + 1, 2, &m->second) ||
			m->second > 59)
			return false;
		s += 3;
		if (s < end && *s == '.')
		{
			int			place = 100;

			s++;
			if (s == end || *s < '0' || *s > '9')
				return false;
			for (; s < end && *s >= '0' && *s <= '9'; s++)
			{
				m->millisecond += (*s - '0') * place;
				place /= 10;
			}
		}
	}

	if (s == end)
		return true;
	if (*s == 'Z')
		return s + 1 == end;
	if (end - s != 6 || (*s != '+' && *s != '-') || s[3] != ':' ||
		!read_digits(s + 1, 2, &offset_hours) ||
		!read_digits(s + 4, 2, &offset_minutes) ||
		offset_hours > MAX_OFFSET_HOURS || offset_minutes > 59)
		return false;
	sign = (*s == '-') ? -1 : 1;
	m->offset = sign * (offset_hours * 60 + offset_minutes);
	return true;
}

/* Moves a moment to UTC.  False: the year is no longer one of 0001 to 9999. */
static bool
move_to_utc(Moment *m)
{
	int			minutes = m->hour * 60 + m->minute - m->offset;

	m->offset = 0;
	if (minutes < 0)
	{
		minutes += MINUTES_PER_DAY;
		if (--m->day < 1)
		{
			if (--m->month < 1)
			{
				m->month = 12;
				m->year--;
			}
			m->day = days_of_month(m->year, m->month);
		}
	}
	else if (minutes >= MINUTES_PER_DAY)
	{
		minutes -= MINUTES_PER_DAY;
		if (++m->day > days_of_month(m->year, m->month))
		{
			m->day = 1;
			if (++m->month > 12)
			{
				m->month = 1;
				m->year++;
			}
		}
	}
	m->hour = minutes / 60;
	m->minute = minutes % 60;
	return m->year >= 1 && m->year <= 9999;
}

static void
write_date(const Moment *m, char *out)
{
	write_digits(out, 4, m->year);
	out[4] = '-';
	write_digits(out + 5, 2, m->month);
	out[7] = '-';
	write_digits(out + 8, 2, m->day);
}

bool
pi_parse_date(const char *s, int len, char *out)
{
	Moment		m;

	if (!parse_moment(s, len, &m))
		return false;
	write_date(&m, out);
	return true;
}

bool
pi_parse_datetime(const char *s, int len, char *out, int *outlen)
{
	Moment		m;
	char	   *p = out;

	if (!parse_moment(s, len, &m) || !move_to_utc(&m))
		return false;
	write_date(&m, p);
	p += PI_DATE_LEN;
	*p++ = 'T';
	write_digits(p, 2, m.hour);
	p += 2;
	*p++ = ':';
	write_digits(p, 2, m.minute);
	p += 2;
	*p++ = ':';
	write_digits(p, 2, m.second);
	p += 2;
	if (m.millisecond != 0)
	{
		*p++ = '.';
		write_digits(p, 3, m.millisecond);
		p += 3;
	}
	*p++ = 'Z';
	*outlen = p - out;
	return true;
}

static int
compare_zone_names(const void *a, const void *b)
{
	return strcmp(((const ZoneName *) a)->folded, ((const ZoneName *) b)->folded);
}

static void
fold_ascii(char *to, const char *from, int len)
{
	int			i;

	for (i = 0; i < len; i++)
		to[i] = (from[i] >= 'A' && from[i] <= 'Z') ? from[i] + ('a' - 'A') : from[i];
	to[len] = '\0';
}

/*
 * Reads the names that pg_timezone_names shows, once per process; it opens
 * some hundred files.  (Asking pg_tzset() for the one name instead would keep
 * 24 kB per name for ever, and it takes any POSIX specification for a name.)
 *
 * An unreadable time zone directory is an error of class 58.  The table is
 * put in place as the last thing, so that nothing half-read stays.
 */
static void
load_zone_names(void)
{
	pg_time_t	now = (pg_time_t) time(NULL);
	MemoryContext table_context;
	MemoryContext old;
	pg_tzenum  *zones;
	pg_tz	   *zone;
	ZoneName   *table;
	int			n = 0;
	int			max = 1024;

	/* freed with the caller's memory if reading fails half-way */
	table_context = AllocSetContextCreate(CurrentMemoryContext,
										  "profimport time zone names",
										  ALLOCSET_SMALL_SIZES);
	table = MemoryContextAlloc(table_context, max * sizeof(ZoneName));

	zones = pg_tzenumerate_start();
	while ((zone = pg_tzenumerate_next(zones)) != NULL)
	{
		struct pg_tm *tm = pg_localtime(&now, zone);
		const char *name = pg_get_timezone_name(zone);
		int			len;

		if (tm == NULL || name == NULL ||
			(tm->tm_zone != NULL && strlen(tm->tm_zone) > MAX_ABBREVIATION))
			continue;

		old = MemoryContextSwitchTo(table_context);
		if (n == max)
		{
			max *= 2;
			table = repalloc(table, max * sizeof(ZoneName));
		}
		len = strlen(name);
		table[n].name = pstrdup(name);
		table[n].folded = palloc(len + 1);
		fold_ascii(table[n].folded, name, len);
		n++;
		MemoryContextSwitchTo(old);
	}
	pg_tzenumerate_end(zones);

	qsort(table, n, sizeof(ZoneName), compare_zone_names);
	MemoryContextSetParent(table_context, TopMemoryContext);
	zone_names = table;
	nzone_names = n;
}

const char *
pi_timezone_name(const char *s, int len)
{
	char		folded[TZ_STRLEN_MAX + 1];
	ZoneName	wanted;
	const ZoneName *found;

	if (len < 1 || len > TZ_STRLEN_MAX || memchr(s, '\0', len) != NULL)
		return NULL;
	if (zone_names == NULL)
		load_zone_names();

	fold_ascii(folded, s, len);
	wanted.folded = folded;
	found = bsearch(&wanted, zone_names, nzone_names, sizeof(ZoneName),
					compare_zone_names);
	return found ? found->name : NULL;
}
