/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The process that consumes: its entry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_WORKER_H
#define PI_WORKER_H

/* Started by the launcher with the number of the worker, from 0. */
extern PGDLLEXPORT void pi_worker_main(Datum main_arg);

#endif							/* PI_WORKER_H */
