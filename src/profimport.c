/*-------------------------------------------------------------------------
 *
 * profimport.c
 *		What happens when the library is loaded.
 *
 * NOTES
 *		Loaded from shared_preload_libraries, the library reserves shared
 *		memory and registers the launcher.  Loaded later, by the first call of
 *		one of its functions, it only has its settings: everything but the
 *		workers and their statistics works, so that CREATE EXTENSION, a
 *		restore and import() do not depend on a server restart.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "crashpoint.h"
#include "launcher.h"
#include "settings.h"
#include "shmem.h"

PI_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	PI_CRASHPOINT_INIT();
	pi_settings_init();

	if (!process_shared_preload_libraries_in_progress)
		return;

	pi_shmem_init();
	pi_launcher_register();
}
