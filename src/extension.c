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
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "engine.h"

static const char *const served_versions[] = {"1.0.0"};

bool
pi_extension_usable(const char **reason)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

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
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	*reason = NULL;
	if (version == NULL)
	{
		*reason = "extension \"profimport\" is not installed in this database";
		return false;
	}
	for (int i = 0; i < lengthof(served_versions); i++)
		if (strcmp(version, served_versions[i]) == 0)
			return true;
	*reason = psprintf("extension \"profimport\" has version %s, which this library does not serve",
					   version);
	return false;
}
