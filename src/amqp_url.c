/*-------------------------------------------------------------------------
 *
 * amqp_url.c
 *		Broker URLs: reading them, and showing them without the password.
 *
 * NOTES
 *		What is left out means what RabbitMQ's own clients take it for:
 *		guest, guest, localhost, 5672 (amqps: 5671).  An empty path is virtual
 *		host "/", not the one with the empty name.
 *
 *		Sentences of errors name parts, they never quote them: a password with
 *		an unencoded character in it makes the wrong part of a URL look wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amqp.h"
#include "lib/stringinfo.h"

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decodes [from, to); false with *why set. */
static bool
decode(const char *from, const char *to, char *buf, size_t buflen,
	   const char *part, char **why)
{
	size_t		n = 0;

	while (from < to)
	{
		char		c = *from++;

		if (c == '%')
		{
			int			high = from < to ? hex_digit(from[0]) : -1;
			int			low = from + 1 < to ? hex_digit(from[1]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
			{
				*why = psprintf("The %s has a \"%%\" that is not followed by two hexadecimal digits of a character.",
								part);
				return false;
			}
			c = (char) (high << 4 | low);
			from += 2;
		}
		if (n + 1 >= buflen)
		{
			*why = psprintf("The %s is longer than %d bytes.", part,
							(int) buflen - 1);
			return false;
		}
		buf[n++] = c;
	}
	buf[n] = '\0';
	return true;
}

static bool
parse_port(const char *from, const char *to, PiAmqpTarget *target, char **why)
{
	int			port = 0;

	for (; from < to; from++)
	{
		if (*from < '0' || *from > '9')
			port = 65536;
		else if (port <= 65535)
			port = port * 10 + (*from - '0');
	}
	if (port < 1 || port > 65535)
	{
		*why = pstrdup("The port is not a number from 1 to 65535.");
		return false;
	}
	target->port = port;
	return true;
}

static bool
parse_user(const char *from, const char *to, PiAmqpTarget *target, char **why)
{
	const char *colon = memchr(from, ':', to - from);

	target->password[0] = '\0';
	if (!decode(from, colon ? colon : to, target->user, sizeof(target->user),
				"user name", why))
		return false;
	if (colon &&
		!decode(colon + 1, to, target->password, sizeof(target->password),
				"password", why))
		return false;
	return true;
}

static bool
parse_host(const char *from, const char *to, PiAmqpTarget *target, char **why)
{
	const char *end;

	if (from < to && *from == '[')
	{
		end = memchr(from, ']', to - from);
		if (end == NULL || (end + 1 < to && end[1] != ':'))
		{
			*why = pstrdup("The IPv6 address in brackets is not complete.");
			return false;
		}
		if (!decode(from + 1, end, target->host, sizeof(target->host),
					"host name", why))
			return false;
		end++;
	}
	else
	{
		end = memchr(from, ':', to - from);
		if (end == NULL)
			end = to;
		if (!decode(from, end, target->host, sizeof(target->host),
					"host name", why))
			return false;
	}
	if (target->host[0] == '\0')
		strlcpy(target->host, "localhost", sizeof(target->host));
	for (const char *p = target->host; *p; p++)
	{
		if ((unsigned char) *p <= ' ' || *p == 0x7f)
		{
			*why = pstrdup("The host name has a space or a control character in it.");
			return false;
		}
	}
	return end == to || parse_port(end + 1, to, target, why);
}

bool
pi_amqp_parse_url(const char *url, PiAmqpTarget *target, char **why)
{
	const char *authority;
	const char *end;
	const char *at = NULL;
	const char *p;

	memset(target, 0, sizeof(*target));
	strlcpy(target->user, "guest", sizeof(target->user));
	strlcpy(target->password, "guest", sizeof(target->password));
	strlcpy(target->vhost, "/", sizeof(target->vhost));

	if (pg_strncasecmp(url, "amqp://", 7) == 0)
	{
		target->port = 5672;
		authority = url + 7;
	}
	else if (pg_strncasecmp(url, "amqps://", 8) == 0)
	{
		target->tls = true;
		target->port = 5671;
		authority = url + 8;
	}
	else
	{
		*why = pstrdup("It does not begin with \"amqp://\" or \"amqps://\".");
		return false;
	}

	end = authority + strcspn(authority, "/?#");
	for (p = authority; p < end; p++)
	{
		if (*p == '@')
			at = p;				/* the last one: be lenient with passwords */
	}
	if (at && !parse_user(authority, at, target, why))
		return false;
	if (!parse_host(at ? at + 1 : authority, end, target, why))
		return false;

	if (*end == '/')
	{
		authority = end + 1;
		end = authority + strcspn(authority, "/?#");
		if (*end == '/')
		{
			*why = pstrdup("A \"/\" in the name of the virtual host has to be written as \"%2F\".");
			return false;
		}
		if (end > authority &&
			!decode(authority, end, target->vhost, sizeof(target->vhost),
					"virtual host", why))
			return false;
	}
	if (*end != '\0')
	{
		*why = pstrdup("It has a query part or a fragment, which are not supported.");
		return false;
	}
	return true;
}

static void
append_encoded(StringInfo buf, const char *text)
{
	for (; *text; text++)
	{
		unsigned char c = (unsigned char) *text;

		/* what is harmless in a URL, and all of UTF-8 for the reader's sake */
		if (c >= 0x80 || strchr("-._~!$&'()*;=", c) != NULL ||
			(c >= '0' && c <= '9') ||
			(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
			appendStringInfoChar(buf, c);
		else
			appendStringInfo(buf, "%%%02X", c);
	}
}

void
pi_amqp_describe(const PiAmqpTarget *target, char *buf, size_t buflen)
{
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfoString(&url, target->tls ? "amqps://" : "amqp://");
	append_encoded(&url, target->user);
	appendStringInfo(&url, strchr(target->host, ':') ? "@[%s]:%d/" : "@%s:%d/",
					 target->host, target->port);
	append_encoded(&url, target->vhost);
	strlcpy(buf, url.data, buflen);
	pfree(url.data);
}
