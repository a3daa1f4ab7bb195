/*-------------------------------------------------------------------------
 *
 * errlog.c
 *		The file of failed messages (profimport.error_log_file).
 *
 * NOTES
 *		The file is for people and for log shippers.  It is written after the
 *		commit and not flushed: what must not be lost is in
 *		profimport.import_error.
 *
 *		A line is one write() in append mode, so lines of several workers do
 *		not mix.  The file is opened for each batch that had a failure, which
 *		survives rotation by renaming, and with O_NONBLOCK, so that a named
 *		pipe without a reader is an error and not a worker that hangs.
 *
 *		feedback_id is whatever a producer sent.  Nothing in it may end the
 *		line or move the cursor of a terminal: control characters, C1 ones
 *		and Unicode's line separators too, are written as \u escapes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat.h"
#include "errlog.h"
#include "lib/stringinfo.h"
#include "postmaster/syslogger.h"
#include "settings.h"
#include "shmem.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

/* The path of the last warning; "" when the last write worked. */
static char warned_path[MAXPGPATH] = "";

/*
 * Causes of error 500 the server log was told of.  Each is told again after a
 * while; if there are more, the oldest is forgotten.
 */
#define TOLD_CAUSES 16
#define TELL_AGAIN_MS 60000

typedef struct Told
{
	char		text[256];
	TimestampTz at;				/* 0: free */
} Told;

static Told told[TOLD_CAUSES];

/* A write was cut short: the next line must not be glued to its rest. */
static bool torn = false;

/* Appends a JSON string. */
static void
append_string(StringInfo buf, const char *s)
{
	const unsigned char *p = (const unsigned char *) s;

	appendStringInfoChar(buf, '"');
	for (; *p; p++)
	{
		if (*p == '"' || *p == '\\')
		{
			appendStringInfoChar(buf, '\\');
			appendStringInfoChar(buf, *p);
		}
		else if (*p < 0x20 || *p == 0x7f)
			appendStringInfo(buf, "\\u%04x", *p);
		else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
		{
			/* U+0080 to U+009F */
			appendStringInfo(buf, "\\u%04x", p[1]);
			p++;
		}
		else if (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
		{
			/* U+2028 and U+2029 */
			appendStringInfo(buf, "\\u20%02x", p[2] - 0x80);
			p += 2;
		}
		else
			appendStringInfoChar(buf, *p);
	}
	appendStringInfoChar(buf, '"');
}

/* A member whose value is null if the message did not tell it. */
static void
append_known_string(StringInfo buf, const char *key, const char *value)
{
	appendStringInfo(buf, ", \"%s\": ", key);
	if (value != NULL && *value != '\0')
		append_string(buf, value);
	else
		appendStringInfoString(buf, "null");
}

static void
append_known_int(StringInfo buf, const char *key, int value)
{
	if (value > 0)
		appendStringInfo(buf, ", \"%s\": %d", key, value);
	else
		appendStringInfo(buf, ", \"%s\": null", key);
}

/* Milliseconds and UTC, whatever log_timezone says: made for machines. */
static void
append_time(StringInfo buf, TimestampTz t)
{
	pg_time_t	seconds = timestamptz_to_time_t(t);
	int			ms = (int) ((t % USECS_PER_SEC) / 1000);
	struct pg_tm *tm = pg_gmtime(&seconds);

	appendStringInfo(buf, "\"time\": \"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"",
					 tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday,
					 tm->tm_hour, tm->tm_min, tm->tm_sec, ms);
}

static void
append_line(StringInfo buf, const PiResult *r, TimestampTz now)
{
	appendStringInfoChar(buf, '{');
	append_time(buf, now);
	appendStringInfo(buf, ", \"error\": %d", r->error);
	appendStringInfoString(buf, ", \"error_text\": ");
	append_string(buf, r->error_text);
	append_known_string(buf, "feedback_id", r->feedback_id);
	append_known_int(buf, "account_id", r->account_id);
	append_known_int(buf, "db_id", r->db_id);
	append_known_string(buf, "matching", r->matching);
	appendStringInfoString(buf, "}\n");
}

static void
warn(const char *path, const char *what)
{
	int			save_errno = errno;

	if (strcmp(path, warned_path) == 0)
		return;
	strlcpy(warned_path, path, sizeof(warned_path));

	errno = save_errno;
	ereport(WARNING,
			(errcode_for_file_access(),
			 errmsg("could not %s profimport.error_log_file \"%s\": %m",
					what, path),
			 errdetail("Failed messages are still kept in table profimport.import_error.")));
}

/*
 * Opens the file with the permissions the server's own log files have; like
 * the log collector, it has to set aside the server's umask for that.
 */
static int
open_file(const char *path)
{
	int			flags = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY;
	mode_t		mode = Log_file_mode | S_IWUSR;
	mode_t		old_umask;
	int			fd;

	old_umask = umask(~mode & (S_IRWXU | S_IRWXG | S_IRWXO));
	fd = BasicOpenFilePerm(path, flags, mode);
	umask(old_umask);

	return fd;
}

void
pi_errlog_write(const PiResult *results, int n)
{
	char		path[MAXPGPATH];
	StringInfoData buf;
	TimestampTz now;
	bool		good = true;
	int			fd;
	int			i;

	for (i = 0; i < n && results[i].error == 0; i++)
		;
	if (i == n || pi_error_log_file[0] == '\0')
		return;

	/* the server's working directory is the data directory */
	if (is_absolute_path(pi_error_log_file))
		strlcpy(path, pi_error_log_file, sizeof(path));
	else
		snprintf(path, sizeof(path), "%s/%s", Log_directory, pi_error_log_file);

	fd = open_file(path);
	if (fd < 0 && errno == ENOENT && !is_absolute_path(pi_error_log_file))
	{
		/* the reason of a failure here is told by the second attempt */
		(void) MakePGDirectory(Log_directory);
		fd = open_file(path);
	}
	if (fd < 0)
	{
		warn(path, "open");
		return;
	}

	now = GetCurrentTimestamp();
	initStringInfo(&buf);
	for (; i < n && good; i++)
	{
		ssize_t		written;

		if (results[i].error == 0)
			continue;

		resetStringInfo(&buf);
		if (torn)
			appendStringInfoChar(&buf, '\n');
		append_line(&buf, &results[i], now);

		errno = 0;
		written = write(fd, buf.data, buf.len);
		good = written == buf.len;
		if (good)
			torn = false;
		else
		{
			/* a short count without a reason is a full disk */
			if (errno == 0)
				errno = ENOSPC;
			if (written > 0)
				torn = true;
			warn(path, "write to");
		}
	}
	pfree(buf.data);
	close(fd);

	if (good && strcmp(path, warned_path) == 0)
		ereport(LOG,
				(errmsg("profimport.error_log_file \"%s\" is written again",
						path)));
	if (good)
		warned_path[0] = '\0';
}

/* True if this cause was not told lately; then it is noted. */
static bool
is_news(const char *text, TimestampTz now)
{
	Told	   *entry = &told[0];

	for (int i = 0; i < TOLD_CAUSES; i++)
	{
		if (told[i].at != 0 &&
			strncmp(told[i].text, text, sizeof(told[i].text) - 1) == 0)
		{
			if (!TimestampDifferenceExceeds(told[i].at, now, TELL_AGAIN_MS))
				return false;
			entry = &told[i];
			break;
		}
		if (told[i].at < entry->at)
			entry = &told[i];
	}
	strlcpy(entry->text, text, sizeof(entry->text));
	entry->at = now;
	return true;
}

/* What only the operator can mend; other failures are the producers'. */
void
pi_errlog_tell(const PiResult *results, int n)
{
	TimestampTz now = 0;

	for (int i = 0; i < n; i++)
	{
		const PiResult *r = &results[i];

		int			len = strlen(r->error_text);

		if (r->error != 500)
			continue;
		/* it is a sentence */
		if (len > 0 && r->error_text[len - 1] == '.')
			len--;
		if (now == 0)
			now = GetCurrentTimestamp();
		if (!is_news(r->error_text, now))
			continue;
		ereport(LOG,
				(strlen(r->sqlstate) == 5 ?
				 errcode(MAKE_SQLSTATE(r->sqlstate[0], r->sqlstate[1], r->sqlstate[2],
									   r->sqlstate[3], r->sqlstate[4])) : 0,
				 errmsg("profimport worker %d answered a message with error 500: %.*s",
						pi_my_worker + 1, len, r->error_text),
				 errdetail("This is logged at most once a minute for each cause."),
				 errhint("The message is kept in profimport.import_error.  When the cause is mended, SELECT profimport.retry_error(error_id) imports it.")));
	}
}
