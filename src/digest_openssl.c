/*-------------------------------------------------------------------------
 *
 * digest_openssl.c
 *		SHA-256 in pieces, by OpenSSL.
 *
 * NOTES
 *		The server's own interface allocates a context and looks the algorithm
 *		up for every digest, which costs several times what a short message
 *		costs to hash.  Here the algorithm is looked up once in a process, and
 *		a context is used again.  A PiSha256 is OpenSSL's context.
 *
 * IDENTIFICATION
 *		src/digest_openssl.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "digest.h"

static const EVP_MD *algorithm = NULL;
static EVP_MD_CTX *spare = NULL;

static void
failed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not compute a SHA-256 digest")));
}

PiSha256 *
pi_sha256_begin(void)
{
	EVP_MD_CTX *ctx = spare;

	if (algorithm == NULL)
	{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
		algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
#else
		algorithm = EVP_sha256();
#endif
	}
	spare = NULL;
	if (ctx == NULL)
		ctx = EVP_MD_CTX_new();
	if (algorithm == NULL || ctx == NULL ||
		EVP_DigestInit_ex(ctx, algorithm, NULL) != 1)
		failed();
	return (PiSha256 *) ctx;
}

void
pi_sha256_add(PiSha256 *ctx, const void *data, size_t len)
{
	if (EVP_DigestUpdate((EVP_MD_CTX *) ctx, data, len) != 1)
		failed();
}

void
pi_sha256_end(PiSha256 *ctx, uint8 *digest)
{
	unsigned int len = 0;

	if (EVP_DigestFinal_ex((EVP_MD_CTX *) ctx, digest, &len) != 1 ||
		len != PI_SHA256_LEN)
		failed();
	if (spare == NULL)
		spare = (EVP_MD_CTX *) ctx;
	else
		EVP_MD_CTX_free((EVP_MD_CTX *) ctx);
}
