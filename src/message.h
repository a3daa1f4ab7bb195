/*-------------------------------------------------------------------------
 *
 * message.h
 *		The keys of a message: types, defaults, inputs of the matching mode
 *		(SPEC.md section 1, and the inputs of section 3).
 *
 * Pure functions on the tree that body.c read; no SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_MESSAGE_H
#define PI_MESSAGE_H

#include "utils/jsonb.h"

typedef enum PiMode
{
	PI_MATCH_EMAIL,
	PI_MATCH_EMAIL_PROFILE,
	PI_MATCH_EMAIL_SUB,
	PI_MATCH_PHONE,
	PI_MATCH_PHONE_SUB,
	PI_MATCH_EMAIL_PHONE,
	PI_MATCH_EMAIL_PHONE_SUB,
	PI_MATCH_PUSH_SUB,
	PI_MATCH_PROFILE_ID,
	PI_MATCH_CUSTOM,
	PI_MATCH_CUSTOM_SUB
} PiMode;

/* What a mode looks at, and what it needs. */
typedef struct PiModeInfo
{
	const char *name;
	bool		uses_email;
	bool		uses_phone;
	bool		profile_half;	/* looks at fields of profiles */
	bool		sub_half;		/* looks at subscriptions */
	bool		creates;		/* no match: create (else 404) */
	bool		creates_sub;	/* ... with a subscription to resource_id */
} PiModeInfo;

extern const PiModeInfo pi_modes[];

typedef struct PiMessage
{
	int			account_id;
	int			db_id;
	PiMode		mode;
	const JsonbValue *data;		/* object */
	char	   *email;			/* normalised; NULL: not given or not used */
	char	   *phone;			/* normalised; NULL: not given or not used */
	char	   *profile_id;
	const JsonbValue *field_name;	/* string */
	const JsonbValue *field_value;	/* string or number */
	char	   *provider;
	char	   *subscription_id;
	int			resource_id;	/* 0: not given */
	char	   *feedback_id;	/* never NULL */
	bool		update_only;
	bool		skip_triggers;
	bool		skip_invalid_subscriptions;
} PiMessage;

/*
 * What a result echoes of a message, good or bad: feedback_id ("" if none)
 * and the mode's name ("" if unknown).  root NULL: the body is no object.
 */
extern void pi_message_echo(const JsonbValue *root, const char **feedback_id,
							const char **matching);

/*
 * account_id and db_id as far as a message tells them, for the error log;
 * 0 if it does not.
 */
extern void pi_message_place(const JsonbValue *root, int *account_id, int *db_id);

/*
 * Step 2 of the order of failures.  False: *error_text is the sentence, the
 * code is 400.
 */
extern bool pi_message_read(const JsonbValue *root, PiMessage *msg,
							char **error_text);

/* "1" and the like: an id of account, database or resource; 0 if it is none. */
extern int	pi_json_id(const JsonbValue *v);

/* A palloc'd name for an error text, cut at 255 bytes. */
extern char *pi_show_name(const char *name, int len);

#endif							/* PI_MESSAGE_H */
