/*-------------------------------------------------------------------------
 *
 * digest.h
 *		SHA-256 in pieces.
 *
 * With OpenSSL, which the build needs for TLS anyway, digest_openssl.c; else
 * digest_server.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_DIGEST_H
#define PI_DIGEST_H

#define PI_SHA256_LEN 32

typedef struct PiSha256 PiSha256;

extern PiSha256 *pi_sha256_begin(void);
extern void pi_sha256_add(PiSha256 *ctx, const void *data, size_t len);

/* Also frees the context. */
extern void pi_sha256_end(PiSha256 *ctx, uint8 *digest);

#endif							/* PI_DIGEST_H */
