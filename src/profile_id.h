/*-------------------------------------------------------------------------
 *
 * profile_id.h
 *		New profile ids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_PROFILE_ID_H
#define PI_PROFILE_ID_H

#define PI_PROFILE_ID_LEN 24

/* Writes PI_PROFILE_ID_LEN digits and a zero. */
extern void pi_make_profile_id(char *buf);

#endif							/* PI_PROFILE_ID_H */
