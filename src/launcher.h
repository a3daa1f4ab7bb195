/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		The process that keeps as many workers running as the settings ask for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_LAUNCHER_H
#define PI_LAUNCHER_H

/*
 * What the launcher starts: "profimport" and this function, with the number
 * of the worker (from 0) as argument.  It calls pi_slot_attach() first.
 */
#define PI_LIBRARY_NAME "profimport"
#define PI_WORKER_FUNCTION "pi_worker_main"

/* From _PG_init when preloading. */
extern void pi_launcher_register(void);

extern PGDLLEXPORT void pi_launcher_main(Datum main_arg);

#endif							/* PI_LAUNCHER_H */
