/*-------------------------------------------------------------------------
 *
 * extension.c
 *		Is the extension in this database, in a version that this library can
 *		serve?
 *
 * NOTES
 *		A schema of the right name is no proof: pg_extension is asked.  The
 *		library is replaced before ALTER EXTENSION UPDATE runs, so the SQL
 *		objects of every version listed here must work with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "compat.h"
#include "engine.h"
#include "settings.h"
#include "shmem.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

static const char *const served_versions[] = {"1.0.0", PI_VERSION};

static char *
look_up(Oid *owner)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	*owner = InvalidOid;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("profimport"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		d = heap_getattr(tuple, Anum_pg_extension_extversion,
									 RelationGetDescr(rel), &isnull);

		version = TextDatumGetCString(d);
		*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

char *
pi_extension_version(void)
{
	Oid			owner;

	return look_up(&owner);
}

bool
pi_extension_serves(const char *version)
{
	for (int i = 0; i < lengthof(served_versions); i++)
		if (strcmp(version, served_versions[i]) == 0)
			return true;
	return false;
}

/*
 * Each is told once, by one of the workers; check() says it whenever it is
 * asked.
 */
static bool
is_first_to_tell(bool *told)
{
	bool		first;

	if (pi_my_slot == NULL)
		return false;
	SpinLockAcquire(&pi_shared->mutex);
	first = !*told;
	*told = true;
	SpinLockRelease(&pi_shared->mutex);
	return first;
}

static void
tell_of_unknown_objects(const char *version)
{
	if (is_first_to_tell(&pi_shared->told_of_unknown_objects))
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"profimport\" has version %s, which its library (%s) does not serve",
						version, PI_VERSION),
				 errdetail("Messages wait in the queue."),
				 errhint("Install the library of that version and restart the server.")));
}

static void
tell_of_older_objects(const char *version)
{
	if (is_first_to_tell(&pi_shared->told_of_older_objects))
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"profimport\" has version %s, its library %s",
						version, PI_VERSION),
				 errdetail("The import works; what the newer version adds is missing."),
				 errhint("Run ALTER EXTENSION profimport UPDATE in database \"%s\".",
						 pi_database)));
}

bool
pi_extension_usable(const char **reason, Oid *owner)
{
	char	   *version = look_up(owner);

	*reason = NULL;
	if (version == NULL)
	{
		*reason = "extension \"profimport\" is not installed in this database";
		return false;
	}
	if (!pi_extension_serves(version))
	{
		*reason = psprintf("extension \"profimport\" has version %s, which its library (%s) does not serve",
						   version, PI_VERSION);
		tell_of_unknown_objects(version);
		return false;
	}
	if (strcmp(version, PI_VERSION) != 0)
		tell_of_older_objects(version);
	return true;
}
