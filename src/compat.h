/*-------------------------------------------------------------------------
 *
 * compat.h
 *		Every condition on a PostgreSQL version, 13 to 18.
 *
 * The code is written for the present major version; what older ones lack is
 * supplied here.  Include it right after postgres.h (and fmgr.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_COMPAT_H
#define PI_COMPAT_H

#if PG_VERSION_NUM < 130000
#error "profimport needs PostgreSQL 13 or later"
#endif

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"
#include "utils/resowner.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

/* names and numbers of a catalog's indexes are in the catalog's header since 14 */
#if PG_VERSION_NUM < 140000
#include "catalog/indexing.h"
#endif

/* varlena macros moved out of postgres.h in 16 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#endif

#if PG_VERSION_NUM >= 140000
#include "common/cryptohash.h"
#endif
#include "common/sha2.h"

/*
 * 18 shows name and version of a module in pg_get_loaded_modules().  The
 * version comes from the control file, by way of the compiler's command line.
 */
#if PG_VERSION_NUM >= 180000
#ifdef PI_VERSION
#define PI_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "profimport", .version = PI_VERSION)
#else
#define PI_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "profimport")
#endif
#else
#define PI_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* 18 made this a prefix and dropped the suffix form */
#if PG_VERSION_NUM >= 180000
#define PI_NORETURN pg_noreturn
#else
#define PI_NORETURN __attribute__((noreturn))
#endif

/* Before 15 shared memory is requested right in _PG_init(). */
#if PG_VERSION_NUM >= 150000
#define PI_HAVE_SHMEM_REQUEST_HOOK 1
#endif

#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* Wait events of extensions have names since 17. */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name) ((uint32) PG_WAIT_EXTENSION)
#endif

/*
 * A wait set that lives until it is freed: 17 replaced the memory context by
 * a resource owner.
 */
#if PG_VERSION_NUM >= 170000
#define pi_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#else
#define pi_create_wait_event_set(nevents) \
	CreateWaitEventSet(TopMemoryContext, nevents)
#endif

/* Without the flag string keys were the default. */
#if PG_VERSION_NUM < 140000
#include "utils/hsearch.h"
#define HASH_STRINGS 0
#endif

/* A random number in [0, 1). */
static inline double
pi_random_double(void)
{
#if PG_VERSION_NUM >= 150000
	return pg_prng_double(&pg_global_prng_state);
#else
	return (double) random() / ((double) MAX_RANDOM_VALUE + 1);
#endif
}

/*
 * Set-returning functions in materialize mode: core's helper is there since
 * 15.1.  Before 15 the caller made the tuplestore himself.
 */
#if PG_VERSION_NUM < 150001
#define MAT_SRF_USE_EXPECTED_DESC	0x01
#define MAT_SRF_BLESS				0x02

static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext oldcontext;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		!(rsinfo->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	oldcontext = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (flags & MAT_SRF_USE_EXPECTED_DESC)
		rsinfo->setDesc = CreateTupleDescCopy(rsinfo->expectedDesc);
	else if (get_call_result_type(fcinfo, NULL, &rsinfo->setDesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (flags & MAT_SRF_BLESS)
		BlessTupleDesc(rsinfo->setDesc);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult =
		tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
							  false, work_mem);
	MemoryContextSwitchTo(oldcontext);
}
#endif

static inline ReturnSetInfo *
pi_init_srf(FunctionCallInfo fcinfo)
{
	InitMaterializedSRF(fcinfo, 0);
	return (ReturnSetInfo *) fcinfo->resultinfo;
}

#if PG_VERSION_NUM < 140000
static inline Numeric
int64_to_numeric(int64 value)
{
	return DatumGetNumeric(DirectFunctionCall1(int8_numeric,
											   Int64GetDatum(value)));
}
#endif

/*
 * SHA-256 in pieces.  13 has a context without allocation, later versions
 * one that may be OpenSSL's; errors of the latter are as good as impossible.
 *
 * OpenSSL's is accounted to the current resource owner, and core does not
 * test that there is one.  A worker makes digests outside of transactions
 * too, where there is none; they get an owner that lives as long as it.
 */
#if PG_VERSION_NUM >= 140000
typedef pg_cryptohash_ctx PiServerSha256;

static inline PiServerSha256 *
pi_server_sha256_begin(void)
{
	static ResourceOwner lasting = NULL;
	ResourceOwner current = CurrentResourceOwner;
	PiServerSha256   *ctx;

	if (current == NULL)
	{
		if (lasting == NULL)
			lasting = ResourceOwnerCreate(NULL, "profimport digests");
		CurrentResourceOwner = lasting;
	}
	ctx = pg_cryptohash_create(PG_SHA256);
	CurrentResourceOwner = current;

	if (ctx == NULL || pg_cryptohash_init(ctx) < 0)
		elog(ERROR, "could not start a SHA-256 digest");
	return ctx;
}

static inline void
pi_server_sha256_add(PiServerSha256 *ctx, const void *data, size_t len)
{
	if (pg_cryptohash_update(ctx, (const uint8 *) data, len) < 0)
		elog(ERROR, "could not add to a SHA-256 digest");
}

/* Also frees the context. */
static inline void
pi_server_sha256_end(PiServerSha256 *ctx, uint8 *digest)
{
	if (pg_cryptohash_final(ctx, digest, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not finish a SHA-256 digest");
	pg_cryptohash_free(ctx);
}
#else
typedef pg_sha256_ctx PiServerSha256;

static inline PiServerSha256 *
pi_server_sha256_begin(void)
{
	PiServerSha256   *ctx = (PiServerSha256 *) palloc(sizeof(PiServerSha256));

	pg_sha256_init(ctx);
	return ctx;
}

static inline void
pi_server_sha256_add(PiServerSha256 *ctx, const void *data, size_t len)
{
	pg_sha256_update(ctx, (const uint8 *) data, len);
}

static inline void
pi_server_sha256_end(PiServerSha256 *ctx, uint8 *digest)
{
	pg_sha256_final(ctx, digest);
	pfree(ctx);
}
#endif

#endif							/* PI_COMPAT_H */
