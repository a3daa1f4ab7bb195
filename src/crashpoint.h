/*-------------------------------------------------------------------------
 *
 * crashpoint.h
 *		Named points at which a test build can be killed or stopped.
 *
 * Built with -DPROFIMPORT_CRASHPOINTS only; otherwise there is nothing of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_CRASHPOINT_H
#define PI_CRASHPOINT_H

#ifdef PROFIMPORT_CRASHPOINTS

/* Defines profimport.crash_point; from _PG_init(). */
extern void pi_crashpoint_init(void);

extern void pi_crashpoint(const char *name);
extern void pi_crashpoint_body(const char *body, size_t len);

#define PI_CRASHPOINT_INIT() pi_crashpoint_init()
#define PI_CRASHPOINT(name) pi_crashpoint(name)
#define PI_CRASHPOINT_BODY(body, len) pi_crashpoint_body(body, len)

#else

#define PI_CRASHPOINT_INIT() ((void) 0)
#define PI_CRASHPOINT(name) ((void) 0)
#define PI_CRASHPOINT_BODY(body, len) ((void) 0)

#endif							/* PROFIMPORT_CRASHPOINTS */

#endif							/* PI_CRASHPOINT_H */
