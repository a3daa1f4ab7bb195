/*-------------------------------------------------------------------------
 *
 * settings.c
 *		All settings (profimport.*), SPEC.md section 8.
 *
 * NOTES
 *		A check hook sees one setting, never a combination: the order in which
 *		settings are read is undefined.  Combinations are judged where they
 *		are used (launcher.c, broker.c, check.c).
 *
 *		Nothing here may put the password of amqp_url into a message.  The
 *		message the server makes up when a check hook only says "no" quotes
 *		the value, hence the hook of amqp_url always brings its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "amqp.h"
#include "compat.h"
#include "parser/scansup.h"
#include "settings.h"

/* AMQP's short strings, queue names among them, have a one-byte length. */
#define MAX_QUEUE_NAME	255

/* The longest time to live RabbitMQ takes, and the bound of other ages. */
#define TEN_YEARS_S		(3650 * 24 * 3600)

bool		pi_enabled = true;
char	   *pi_database = NULL;
char	   *pi_role = NULL;
int			pi_workers = 1;
int			pi_max_workers = 8;
char	   *pi_amqp_url = NULL;
char	   *pi_amqp_password_file = NULL;
char	   *pi_tls_ca_file = NULL;
char	   *pi_tls_cert_file = NULL;
char	   *pi_tls_key_file = NULL;
bool		pi_tls_verify = true;
char	   *pi_import_queue = NULL;
char	   *pi_result_queue = NULL;
int			pi_result_ttl = 24 * 3600;
bool		pi_declare_queues = true;
int			pi_queue_type = PI_QUEUE_CLASSIC;
int			pi_batch_size = 500;
int			pi_batch_bytes = 16 * 1024;
int			pi_batch_delay = 0;
int			pi_prefetch = 0;
int			pi_max_message_size = 1024;
int			pi_batch_timeout = 15 * 1000;
int			pi_heartbeat = 60;
int			pi_connect_timeout = 5 * 1000;
int			pi_reconnect_delay_max = 30 * 1000;
int			pi_dedup_window = 10 * 60;
bool		pi_trigger_events = true;
char	   *pi_trigger_queue = NULL;
int			pi_trigger_retention = 7 * 24 * 3600;
int			pi_error_retention = 30 * 24 * 3600;
char	   *pi_error_log_file = NULL;

static const struct config_enum_entry queue_type_options[] = {
	{"classic", PI_QUEUE_CLASSIC, false},
	{"quorum", PI_QUEUE_QUORUM, false},
	{NULL, 0, false}
};

/*
 * Every URL of the list must parse.  The list is split here and in broker.c
 * by pi_next_url().
 */
static bool
check_amqp_url(char **newval, void **extra, GucSource source)
{
	const char *rest = *newval;
	char	   *url;
	int			n = 0;

	while ((url = pi_next_url(&rest)) != NULL)
	{
		PiAmqpTarget target;
		char	   *why = NULL;
		bool		good;

		n++;
		good = pi_amqp_parse_url(url, &target, &why);
		explicit_bzero(&target, sizeof(target));
		pfree(url);
		if (!good)
		{
			GUC_check_errmsg("invalid value for parameter \"%s\"",
							 "profimport.amqp_url");
			GUC_check_errdetail("URL number %d of the list: %s", n, why);
			return false;
		}
	}

	if (n == 0)
	{
		GUC_check_errmsg("invalid value for parameter \"%s\"",
						 "profimport.amqp_url");
		GUC_check_errdetail("It names no broker.");
		return false;
	}

	return true;
}

static bool
check_optional_queue(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) > MAX_QUEUE_NAME)
	{
		GUC_check_errdetail("The name of a queue has at most %d bytes.",
							MAX_QUEUE_NAME);
		return false;
	}
	return true;
}

static bool
check_queue(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0')
	{
		GUC_check_errdetail("The name of a queue must not be empty.");
		return false;
	}
	return check_optional_queue(newval, extra, source);
}

/* A longer name would not be found: no truncation happens at login. */
static bool
check_optional_name(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) >= NAMEDATALEN)
	{
		GUC_check_errdetail("A name has at most %d bytes.", NAMEDATALEN - 1);
		return false;
	}
	return true;
}

static bool
check_name(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0')
	{
		GUC_check_errdetail("The name must not be empty.");
		return false;
	}
	return check_optional_name(newval, extra, source);
}

static bool
check_path(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) >= MAXPGPATH)
	{
		GUC_check_errdetail("A path has at most %d bytes.", MAXPGPATH - 1);
		return false;
	}
	return true;
}

static void
define_bool(const char *name, const char *short_desc, const char *long_desc,
			bool *variable)
{
	DefineCustomBoolVariable(name, short_desc, long_desc, variable, *variable,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_int(const char *name, const char *short_desc, const char *long_desc,
		   int *variable, int min, int max, int flags)
{
	DefineCustomIntVariable(name, short_desc, long_desc, variable, *variable,
							min, max, PGC_SIGHUP, flags, NULL, NULL, NULL);
}

static void
define_string(const char *name, const char *short_desc, const char *long_desc,
			  char **variable, const char *boot, int flags,
			  GucStringCheckHook check)
{
	DefineCustomStringVariable(name, short_desc, long_desc, variable, boot,
							   PGC_SIGHUP, flags, check, NULL, NULL);
}

static void
define_processes(void)
{
	/*
	 * These two are fixed at server start.  A setting of that kind cannot be
	 * defined in a running session (the attempt would be FATAL), and a
	 * session that loads the library late has no workers to mislead; there
	 * they follow the configuration file.
	 */
	GucContext	fixed = PGC_SIGHUP;

	if (process_shared_preload_libraries_in_progress)
		fixed = PGC_POSTMASTER;

	DefineCustomStringVariable("profimport.database",
							   "Database in which the extension lives.",
							   "The workers serve this database and no other.",
							   &pi_database, "postgres",
							   fixed, 0, check_name, NULL, NULL);
	DefineCustomIntVariable("profimport.max_workers",
							"Upper bound of profimport.workers.",
							"Sizes a little shared memory; reserves no process slots.",
							&pi_max_workers, pi_max_workers,
							1, PI_MAX_WORKERS_LIMIT,
							fixed, 0, NULL, NULL, NULL);
	define_bool("profimport.enabled",
				"Imports messages.",
				"When off, the workers leave the broker and the database, and wait.",
				&pi_enabled);
	define_string("profimport.role",
				  "Role the workers connect as.",
				  "It needs LOGIN and what profimport.grant_worker() grants. "
				  "If empty, the owner of the extension is used.",
				  &pi_role, "", 0, check_optional_name);
	define_int("profimport.workers",
			   "Number of workers that consume the import queue.",
			   "With more than one, the order of a producer's messages is kept only if it waits "
			   "for each result. At most profimport.max_workers are started. Each takes one of "
			   "max_worker_processes, and one process more keeps them running.",
			   &pi_workers, 0, PI_MAX_WORKERS_LIMIT, 0);
}

static void
define_broker(void)
{
	/*
	 * GUC_LIST_INPUT lets ALTER SYSTEM take several strings; it does not
	 * quote them, so the value is the plain comma-separated list.
	 */
	define_string("profimport.amqp_url",
				  "URLs of the broker, separated by commas.",
				  "amqp://user:password@host:port/vhost, or amqps:// for TLS; they are tried in turn. "
				  "User, password and virtual host are percent-encoded (a comma is %2C). The server "
				  "log shows a changed value: put the password into profimport.amqp_password_file.",
				  &pi_amqp_url, "amqp://guest:guest@localhost:5672/%2F",
				  GUC_SUPERUSER_ONLY | GUC_LIST_INPUT, check_amqp_url);
	define_string("profimport.amqp_password_file",
				  "File whose first line is the password for the broker.",
				  "It replaces the password of profimport.amqp_url, is read at each connect, and must "
				  "be a regular file that group and others cannot access. Relative to the data directory.",
				  &pi_amqp_password_file, "", 0, check_path);
	define_string("profimport.tls_ca_file",
				  "File of the certificate authorities trusted for amqps:// URLs.",
				  "PEM; if empty, the authorities of the system are trusted. Relative to the data directory.",
				  &pi_tls_ca_file, "", 0, check_path);
	define_string("profimport.tls_cert_file",
				  "File of the certificate shown to the broker.",
				  "PEM; if empty, none is shown. Needs profimport.tls_key_file.",
				  &pi_tls_cert_file, "", 0, check_path);
	define_string("profimport.tls_key_file",
				  "File of the private key of profimport.tls_cert_file.",
				  "PEM, without pass phrase.",
				  &pi_tls_key_file, "", 0, check_path);
	define_bool("profimport.tls_verify",
				"Verifies the certificate and the host name of the broker.",
				"When off, amqps:// encrypts but does not protect against an impostor.",
				&pi_tls_verify);
	define_int("profimport.heartbeat",
			   "Interval of the heartbeats asked of the broker.",
			   "A peer that was silent for two intervals is taken for dead. "
			   "The broker may lower it. 0 asks for none.",
			   &pi_heartbeat, 0, 3600, GUC_UNIT_S);
	define_int("profimport.connect_timeout",
			   "Longest time to connect and log in to the broker.",
			   "Resolving a name or a TLS handshake may hold up a server shutdown for so long.",
			   &pi_connect_timeout, 100, 5 * 60 * 1000, GUC_UNIT_MS);
	define_int("profimport.reconnect_delay_max",
			   "Longest delay between attempts to reconnect.",
			   "The delay starts at a tenth of a second, doubles, and varies by a quarter.",
			   &pi_reconnect_delay_max, 100, 60 * 60 * 1000, GUC_UNIT_MS);
}

static void
define_queues(void)
{
	define_string("profimport.import_queue",
				  "Queue from which messages are imported.",
				  "At most 255 bytes.",
				  &pi_import_queue, "database_import", 0, check_queue);
	define_string("profimport.result_queue",
				  "Queue to which results are sent.",
				  "At most 255 bytes; not the import queue.",
				  &pi_result_queue, "database_import_result", 0, check_queue);
	define_int("profimport.result_ttl",
			   "How long a result waits in its queue before the broker drops it.",
			   "Given to the queue if it is created here, and to every result. 0: for ever.",
			   &pi_result_ttl, 0, TEN_YEARS_S, GUC_UNIT_S);
	define_bool("profimport.declare_queues",
				"Creates queues that are missing.",
				"Durable ones, again if they vanish. When off, a missing queue is an error that is retried. "
				"Existing queues are never altered.",
				&pi_declare_queues);
	DefineCustomEnumVariable("profimport.queue_type",
							 "Type of the queues created.",
							 "A quorum queue does not lose acknowledgements when the broker dies; a classic one may.",
							 &pi_queue_type, PI_QUEUE_CLASSIC, queue_type_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_batches(void)
{
	define_int("profimport.batch_size",
			   "Most messages imported in one transaction.",
			   "A batch ends earlier when the queue is drained.",
			   &pi_batch_size, 1, 32767, 0);
	define_int("profimport.batch_bytes",
			   "Most bytes of message bodies imported in one transaction.",
			   "A single message is imported whatever its size.",
			   &pi_batch_bytes, 1, 64 * 1024, GUC_UNIT_KB);
	define_int("profimport.batch_delay",
			   "How long to wait for more messages once the queue is drained.",
			   "0 imports at once what is there.",
			   &pi_batch_delay, 0, 60 * 1000, GUC_UNIT_MS);
	define_int("profimport.prefetch",
			   "Most deliveries the broker sends ahead of acknowledgement, for each worker.",
			   "0: twice profimport.batch_size.",
			   &pi_prefetch, 0, PI_MAX_PREFETCH, 0);
	define_int("profimport.max_message_size",
			   "Size up to which a message is imported.",
			   "A larger one is answered with error 400.",
			   &pi_max_message_size, 1, 16 * 1024, GUC_UNIT_KB);
	define_int("profimport.batch_timeout",
			   "Longest time a batch may run.",
			   "It is then cancelled and retried in smaller parts. Keep it well below the heartbeat and "
			   "the broker's limit for acknowledgements.",
			   &pi_batch_timeout, 10, 10 * 60 * 1000, GUC_UNIT_MS);
	define_int("profimport.dedup_window",
			   "How long a repeat of a message is recognised by its identity.",
			   "By message_id, and by message_id or feedback_id for messages that a broker delivers again "
			   "after it died. 0 turns this off; what PostgreSQL committed and did not acknowledge is "
			   "recognised in any case.",
			   &pi_dedup_window, 0, 365 * 24 * 3600, GUC_UNIT_S);
}

static void
define_output(void)
{
	define_bool("profimport.trigger_events",
				"Records what imports changed.",
				"In profimport.trigger_event, or in the queue named by profimport.trigger_queue.",
				&pi_trigger_events);
	define_string("profimport.trigger_queue",
				  "Queue to which trigger events are sent instead of the table.",
				  "If empty, they are kept in profimport.trigger_event.",
				  &pi_trigger_queue, "", 0, check_optional_queue);
	define_int("profimport.trigger_retention",
			   "Age at which rows of profimport.trigger_event are removed.",
			   "0 keeps them.",
			   &pi_trigger_retention, 0, TEN_YEARS_S, GUC_UNIT_S);
	define_int("profimport.error_retention",
			   "Age at which rows of profimport.import_error are removed.",
			   "0 keeps them.",
			   &pi_error_retention, 0, TEN_YEARS_S, GUC_UNIT_S);
	define_string("profimport.error_log_file",
				  "File to which a line of JSON is appended for each failed message.",
				  "Relative to log_directory. If empty, no file is written.",
				  &pi_error_log_file, "job_server.log", 0, check_path);
}

void
pi_settings_init(void)
{
	define_processes();
	define_broker();
	define_queues();
	define_batches();
	define_output();

	MarkGUCPrefixReserved("profimport");
}

int
pi_effective_prefetch(void)
{
	if (pi_prefetch > 0)
		return pi_prefetch;
	return Min(2 * pi_batch_size, PI_MAX_PREFETCH);
}

size_t
pi_max_message_bytes(void)
{
	return (size_t) pi_max_message_size * 1024;
}

int
pi_configured_workers(void)
{
	return Min(pi_workers, pi_max_workers);
}

char *
pi_next_url(const char **rest)
{
	const char *start = *rest;
	const char *end;

	while (*start == ',' || scanner_isspace(*start))
		start++;
	if (*start == '\0')
	{
		*rest = start;
		return NULL;
	}

	end = start + strcspn(start, ",");
	*rest = end;
	while (end > start && scanner_isspace(end[-1]))
		end--;

	return pnstrdup(start, end - start);
}
