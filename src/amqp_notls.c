/*-------------------------------------------------------------------------
 *
 * amqp_notls.c
 *		In the place of amqp_tls.c when profimport is built without OpenSSL.
 *
 * NOTES
 *		"make WITH_TLS=no".  An amqps:// URL is refused when it comes to
 *		connecting, so no other function here is ever reached.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amqp_internal.h"

PiTls *
pi_tls_create(int fd, const PiAmqpTarget *target, const PiAmqpOptions *options,
			  PiAmqpError *error)
{
	pi_amqp_set_error(error, PI_AMQP_TLS, 0,
					  "amqps:// is not supported by this build of profimport, which is without TLS");
	return NULL;
}

int
pi_tls_handshake(PiTls *tls, int *events, PiAmqpError *error)
{
	return -1;
}

ssize_t
pi_tls_recv(PiTls *tls, void *buf, size_t len)
{
	errno = EPROTO;
	return -1;
}

ssize_t
pi_tls_send(PiTls *tls, const void *buf, size_t len)
{
	errno = EPROTO;
	return -1;
}

const char *
pi_tls_why(PiTls *tls)
{
	return "no TLS";
}

void
pi_tls_free(PiTls *tls, bool polite)
{
}
