/*-------------------------------------------------------------------------
 *
 * errlog.h
 *		The file of failed messages (profimport.error_log_file).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_ERRLOG_H
#define PI_ERRLOG_H

#include "engine.h"

/*
 * Appends a JSON line per failed result of a committed batch: one write(2)
 * in append mode per line, the file opened anew for each call so that
 * rotation is survived.  An unwritable file is one WARNING (until it works
 * again), never an error.
 */
extern void pi_errlog_write(const PiResult *results, int n);

/* Tells the server log of results with error 500: why, and no data. */
extern void pi_errlog_tell(const PiResult *results, int n);

#endif							/* PI_ERRLOG_H */
