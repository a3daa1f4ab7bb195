/*-------------------------------------------------------------------------
 *
 * amqp_tls.c
 *		TLS on a socket that is connected already, without waiting.
 *
 * NOTES
 *		rabbitmq-c has a TLS socket of its own, but it makes its socket itself,
 *		does the handshake in one call that no signal ends, and offers no write
 *		that returns when the peer does not read.  OpenSSL does all of that on
 *		a non-blocking socket.  OpenSSL initialises itself, and in a server
 *		built with it, it is there already.
 *
 *		Servers ignore SIGPIPE, so OpenSSL's own socket BIO will do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#ifdef __has_include
#if !__has_include(<openssl/ssl.h>)
#error "OpenSSL's headers are missing (Debian: libssl-dev); \"make WITH_TLS=no\" does without, and without amqps://"
#endif
#endif
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "amqp_internal.h"
#include "storage/latch.h"

struct PiTls
{
	SSL_CTX    *ctx;
	SSL		   *ssl;
	char		host[256];
	char		why[256];
};

/* What OpenSSL's error queue says; what the system said is clearest. */
static const char *
ssl_reason(void)
{
	unsigned long code;
	const char *first = NULL;

	while ((code = ERR_get_error()) != 0)
	{
		const char *reason = ERR_reason_error_string(code);

		if (ERR_GET_LIB(code) == ERR_LIB_SYS)
			return strerror(ERR_GET_REASON(code));
		if (first == NULL)
			first = reason;
	}
	return first ? first : "unknown error";
}

/* A prompt for a pass phrase would wait for a terminal that is not there. */
static int
no_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	return 0;
}

static bool
is_address(const char *host)
{
	unsigned char buf[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, buf) == 1 ||
		inet_pton(AF_INET6, host, buf) == 1;
}

static bool
set_up(PiTls *tls, int fd, const PiAmqpTarget *target,
	   const PiAmqpOptions *options, PiAmqpError *error)
{
	SSL_CTX    *ctx;

	tls->ctx = ctx = SSL_CTX_new(TLS_client_method());
	if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
	{
		pi_amqp_set_error(error, PI_AMQP_TLS, 0,
						  "could not initialize TLS: %s", ssl_reason());
		return false;
	}

	/*
	 * A write may take a part, and come back from another place after our
	 * buffer moved.  Reading ahead saves two system calls a record.
	 */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
#ifdef SSL_OP_NO_RENEGOTIATION
	/* a write that wants to read first could make us spin */
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
#endif
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);

	if (options->tls_ca_file[0] != '\0' &&
		SSL_CTX_load_verify_locations(ctx, options->tls_ca_file, NULL) != 1)
	{
		pi_amqp_set_error(error, PI_AMQP_TLS, 0,
						  "could not load CA file \"%s\": %s",
						  options->tls_ca_file, ssl_reason());
		return false;
	}
	if (options->tls_ca_file[0] == '\0' &&
		SSL_CTX_set_default_verify_paths(ctx) != 1)
	{
		pi_amqp_set_error(error, PI_AMQP_TLS, 0,
						  "could not load the system's CA certificates: %s",
						  ssl_reason());
		return false;
	}
	if (options->tls_cert_file[0] != '\0')
	{
		/* a file may hold both */
		const char *key = options->tls_key_file[0] != '\0' ?
		options->tls_key_file : options->tls_cert_file;

		if (SSL_CTX_use_certificate_chain_file(ctx, options->tls_cert_file) != 1)
		{
			pi_amqp_set_error(error, PI_AMQP_TLS, 0,
							  "could not load certificate file \"%s\": %s",
							  options->tls_cert_file, ssl_reason());
			return false;
		}
		if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		{
			pi_amqp_set_error(error, PI_AMQP_TLS, 0,
							  "could not load private key file \"%s\": %s",
							  key, ssl_reason());
			return false;
		}
	}
	SSL_CTX_set_verify(ctx,
					   options->tls_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
					   NULL);

	tls->ssl = SSL_new(ctx);
	if (tls->ssl == NULL || SSL_set_fd(tls->ssl, fd) != 1)
	{
		pi_amqp_set_error(error, PI_AMQP_TLS, 0,
						  "could not initialize TLS: %s", ssl_reason());
		return false;
	}
	if (is_address(target->host))
	{
		if (options->tls_verify)
			X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl),
										  target->host);
	}
	else
	{
		SSL_set_tlsext_host_name(tls->ssl, target->host);
		if (options->tls_verify)
		{
			SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
			if (SSL_set1_host(tls->ssl, target->host) != 1)
			{
				pi_amqp_set_error(error, PI_AMQP_TLS, 0,
								  "could not initialize TLS: %s", ssl_reason());
				return false;
			}
		}
	}
	SSL_set_connect_state(tls->ssl);
	return true;
}

PiTls *
pi_tls_create(int fd, const PiAmqpTarget *target, const PiAmqpOptions *options,
			  PiAmqpError *error)
{
	PiTls	   *tls = palloc0(sizeof(PiTls));

	ERR_clear_error();
	strlcpy(tls->host, target->host, sizeof(tls->host));
	if (!set_up(tls, fd, target, options, error))
	{
		ERR_clear_error();
		pi_tls_free(tls, false);
		return NULL;
	}
	return tls;
}

int
pi_tls_handshake(PiTls *tls, int *events, PiAmqpError *error)
{
	int			r;
	int			errnum;
	long		verify;

	ERR_clear_error();
	errno = 0;
	r = SSL_do_handshake(tls->ssl);
	errnum = errno;
	if (r == 1)
		return 1;
	switch (SSL_get_error(tls->ssl, r))
	{
		case SSL_ERROR_WANT_READ:
			*events = WL_SOCKET_READABLE;
			return 0;
		case SSL_ERROR_WANT_WRITE:
			*events = WL_SOCKET_WRITEABLE;
			return 0;
		case SSL_ERROR_SSL:
			verify = SSL_get_verify_result(tls->ssl);
			if (verify != X509_V_OK)
				pi_amqp_set_error(error, PI_AMQP_TLS, (int) verify,
								  "certificate of \"%s\" refused: %s", tls->host,
								  X509_verify_cert_error_string(verify));
			else
				pi_amqp_set_error(error, PI_AMQP_TLS, 0,
								  "TLS handshake with \"%s\" failed: %s",
								  tls->host, ssl_reason());
			break;
		default:
			pi_amqp_set_error(error, PI_AMQP_TLS, 0,
							  "TLS handshake with \"%s\" failed: %s", tls->host,
							  errnum ? strerror(errnum) : "peer closed the connection");
			break;
	}
	ERR_clear_error();
	return -1;
}

/* Turns what OpenSSL answered into what recv() or send() would. */
static ssize_t
tls_result(PiTls *tls, int r, int errnum)
{
	unsigned long code;

	switch (SSL_get_error(tls->ssl, r))
	{
		case SSL_ERROR_WANT_READ:
		case SSL_ERROR_WANT_WRITE:
			errno = EAGAIN;
			return -1;
		case SSL_ERROR_ZERO_RETURN:
			return 0;
		case SSL_ERROR_SYSCALL:
			if (errnum == 0)
				return 0;
			errno = errnum;
			return -1;
		default:
			code = ERR_peek_error();
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
			/* brokers do not care to say good-bye; AMQP has its own */
			if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
				ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			{
				ERR_clear_error();
				return 0;
			}
#endif
			(void) code;
			strlcpy(tls->why, ssl_reason(), sizeof(tls->why));
			ERR_clear_error();
			errno = EPROTO;
			return -1;
	}
}

ssize_t
pi_tls_recv(PiTls *tls, void *buf, size_t len)
{
	int			r;

	ERR_clear_error();
	errno = 0;
	r = SSL_read(tls->ssl, buf, (int) Min(len, (size_t) INT_MAX));
	return r > 0 ? r : tls_result(tls, r, errno);
}

ssize_t
pi_tls_send(PiTls *tls, const void *buf, size_t len)
{
	int			r;
	ssize_t		n;

	ERR_clear_error();
	errno = 0;
	r = SSL_write(tls->ssl, buf, (int) Min(len, (size_t) INT_MAX));
	if (r > 0)
		return r;
	n = tls_result(tls, r, errno);
	if (n == 0)
	{
		errno = EPIPE;
		n = -1;
	}
	return n;
}

const char *
pi_tls_why(PiTls *tls)
{
	return tls->why;
}

void
pi_tls_free(PiTls *tls, bool polite)
{
	if (tls->ssl)
	{
		ERR_clear_error();
		if (polite)
			(void) SSL_shutdown(tls->ssl);
		ERR_clear_error();
		SSL_free(tls->ssl);
	}
	if (tls->ctx)
		SSL_CTX_free(tls->ctx);
	pfree(tls);
}

const char *
pi_amqp_tls_advice(const PiAmqpError *error)
{
	switch (error->code)
	{
		case 0:
			return "See profimport.tls_ca_file, profimport.tls_cert_file and profimport.tls_key_file; is it a port for TLS (RabbitMQ's is 5671), and does the broker ask for a client certificate?";
		case X509_V_ERR_CERT_HAS_EXPIRED:
			return "Renew the certificate on the broker; is the clock of this machine right?";
		case X509_V_ERR_CERT_NOT_YET_VALID:
			return "Is the clock of this machine right?";
		case X509_V_ERR_HOSTNAME_MISMATCH:
		case X509_V_ERR_IP_ADDRESS_MISMATCH:
			return "Name the broker in profimport.amqp_url as its certificate does, or give the broker a certificate with that name";
		case X509_V_ERR_CERT_REVOKED:
			return "Give the broker a new certificate";
		case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
			return "Set profimport.tls_ca_file to a file with the certificate of the authority that signed it";
		default:
			return "Give the broker a certificate that OpenSSL takes";
	}
}
