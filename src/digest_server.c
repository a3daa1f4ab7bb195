/*-------------------------------------------------------------------------
 *
 * digest_server.c
 *		SHA-256 in pieces, by the server's library: "make WITH_TLS=no".
 *
 * IDENTIFICATION
 *		src/digest_server.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "digest.h"

PiSha256 *
pi_sha256_begin(void)
{
	return (PiSha256 *) pi_server_sha256_begin();
}

void
pi_sha256_add(PiSha256 *ctx, const void *data, size_t len)
{
	pi_server_sha256_add((PiServerSha256 *) ctx, data, len);
}

void
pi_sha256_end(PiSha256 *ctx, uint8 *digest)
{
	pi_server_sha256_end((PiServerSha256 *) ctx, digest);
}
