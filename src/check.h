/*-------------------------------------------------------------------------
 *
 * check.h
 *		What the parts of profimport.check() share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_CHECK_H
#define PI_CHECK_H

#include "nodes/execnodes.h"

typedef enum PiFinding
{
	PI_GOOD,
	PI_BAD,
	PI_UNKNOWN					/* could not be judged */
} PiFinding;

typedef struct PiCheck
{
	ReturnSetInfo *rsinfo;
	const char *role;			/* what the workers connect as; NULL: nobody */
} PiCheck;

/* A row of the answer. */
extern void pi_check_report(PiCheck *check, const char *item, PiFinding finding,
							const char *fmt,...) pg_attribute_printf(4, 5);

/* Waits.  The items broker, login, import_queue, result_queue, result_ttl. */
extern void pi_check_broker(PiCheck *check);

#endif							/* PI_CHECK_H */
