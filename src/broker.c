/*-------------------------------------------------------------------------
 *
 * broker.c
 *		The broker as the settings name it: URLs, password file, TLS.
 *
 * NOTES
 *		No text made here holds the password, or anything else of the password
 *		file or of a URL that did not parse.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"
#include "compat.h"
#include "settings.h"
#include "storage/fd.h"

int
pi_broker_count(void)
{
	const char *rest = pi_amqp_url;
	char	   *url;
	int			n = 0;

	while ((url = pi_next_url(&rest)) != NULL)
	{
		explicit_bzero(url, strlen(url));
		pfree(url);
		n++;
	}
	return Max(n, 1);
}

static bool fail(PiAmqpError *error, const char *fmt,...) pg_attribute_printf(2, 3);

static bool
fail(PiAmqpError *error, const char *fmt,...)
{
	int			save_errno = errno;
	va_list		args;

	error->kind = PI_AMQP_BAD_URL;
	error->code = 0;
	errno = save_errno;
	va_start(args, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, args);
	va_end(args);
	return false;
}

/*
 * The first line of profimport.amqp_password_file.  The rule on permissions
 * is libpq's for its own password file.
 */
static bool
read_password(char *password, size_t size, PiAmqpError *error)
{
	const char *path = pi_amqp_password_file;
	char		buf[1024 + 2];
	struct stat st;
	ssize_t		len;
	size_t		line;
	int			fd;

	/* O_NONBLOCK: a named pipe must not hang the worker */
	fd = BasicOpenFile(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fail(error, "could not open profimport.amqp_password_file \"%s\": %m",
					path);
	if (fstat(fd, &st) < 0)
	{
		int			save_errno = errno;

		close(fd);
		errno = save_errno;
		return fail(error, "could not stat profimport.amqp_password_file \"%s\": %m",
					path);
	}
	if (!S_ISREG(st.st_mode))
	{
		close(fd);
		return fail(error, "profimport.amqp_password_file \"%s\" is not a regular file",
					path);
	}
	if (st.st_mode & (S_IRWXG | S_IRWXO))
	{
		close(fd);
		return fail(error, "profimport.amqp_password_file \"%s\" can be accessed by group or others; "
					"its mode must be 0600 or stricter", path);
	}

	len = read(fd, buf, sizeof(buf));
	if (len < 0)
	{
		int			save_errno = errno;

		close(fd);
		errno = save_errno;
		return fail(error, "could not read profimport.amqp_password_file \"%s\": %m",
					path);
	}
	close(fd);

	for (line = 0; line < (size_t) len; line++)
		if (buf[line] == '\n' || buf[line] == '\0')
			break;
	if (line > 0 && line < (size_t) len && buf[line - 1] == '\r')
		line--;

	if (line > 0 && line < size)
	{
		memcpy(password, buf, line);
		password[line] = '\0';
	}
	explicit_bzero(buf, sizeof(buf));

	if (line == 0)
		return fail(error, "the first line of profimport.amqp_password_file \"%s\" is empty",
					path);
	if (line >= size)
		return fail(error, "the first line of profimport.amqp_password_file \"%s\" is too long",
					path);
	return true;
}

bool
pi_broker_target(int i, PiAmqpTarget *target, PiAmqpError *error)
{
	const char *rest = pi_amqp_url;
	int			n = i % pi_broker_count();
	char	   *url;
	char	   *why = NULL;
	bool		good;

	memset(error, 0, sizeof(*error));

	while ((url = pi_next_url(&rest)) != NULL && n-- > 0)
	{
		explicit_bzero(url, strlen(url));
		pfree(url);
	}
	if (url == NULL)
		return fail(error, "profimport.amqp_url is empty");

	good = pi_amqp_parse_url(url, target, &why);
	explicit_bzero(url, strlen(url));
	pfree(url);
	if (!good)
		return fail(error, "profimport.amqp_url cannot be used: %s", why);

	if (pi_amqp_password_file[0] != '\0')
		return read_password(target->password, sizeof(target->password), error);
	return true;
}

void
pi_broker_options(PiAmqpOptions *options, const char *connection_name)
{
	memset(options, 0, sizeof(*options));
	options->tls_ca_file = pi_tls_ca_file;
	options->tls_cert_file = pi_tls_cert_file;
	options->tls_key_file = pi_tls_key_file;
	options->tls_verify = pi_tls_verify;
	options->heartbeat = pi_heartbeat;
	options->connect_timeout = pi_connect_timeout;
	options->connection_name = connection_name;
}

const char *
pi_broker_conflict(void)
{
	if (strcmp(pi_import_queue, pi_result_queue) == 0)
		return "profimport.result_queue is profimport.import_queue: "
			"results would be imported";
	if (strcmp(pi_import_queue, pi_trigger_queue) == 0)
		return "profimport.trigger_queue is profimport.import_queue: "
			"trigger events would be imported";
	return NULL;
}
