/*-------------------------------------------------------------------------
 *
 * engine.h
 *		The domain: from the bytes of a message to a profile and a result.
 *
 * This is the seam between the SQL functions import() and import_batch() and
 * the worker on one side, and the rules of the domain on the other.  It knows
 * no AMQP.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_ENGINE_H
#define PI_ENGINE_H

#include "utils/jsonb.h"

typedef enum PiOutcome
{
	PI_CREATED,
	PI_UPDATED,
	PI_UNCHANGED,
	PI_FAILED
} PiOutcome;

#define PI_NUM_OUTCOMES 4

typedef struct PiInput
{
	const char *body;
	size_t		len;			/* bytes present in "body" */
	bool		too_large;		/* the message was longer; body is its first
								 * max_message_size bytes */
	Jsonb	   *properties;		/* AMQP properties for import_error.headers,
								 * or NULL */
} PiInput;

typedef struct PiResult
{
	int			error;			/* 0, 400, 404, 409 or 500 */
	const char *error_text;		/* never NULL */
	const char *feedback_id;	/* never NULL */
	const char *matching_field; /* never NULL */
	const char *profile_id;		/* never NULL */
	PiOutcome	outcome;
	char		sqlstate[6];	/* "" unless error is 500 */
	/* for the error log, 0 and "" if the message did not tell */
	int			account_id;
	int			db_id;
	const char *matching;
} PiResult;

/* One trigger event for profimport.trigger_queue (only when that is set). */
typedef struct PiEvent
{
	int			ordinal;		/* index of the message in the batch, from 0 */
	const char *kind;
	char	   *json;			/* the row as a JSON object */
} PiEvent;

typedef struct PiBatchResult
{
	PiResult   *results;		/* as many as inputs, same order */
	PiEvent    *events;			/* for trigger_queue; else none */
	int			nevents;
	int			trigger_events; /* events made, wherever they went */
	int			failed;
} PiBatchResult;

#define PI_ENGINE_DRY_RUN		0x01	/* roll back, write and count nothing */
#define PI_ENGINE_NO_ERROR_ROW	0x02	/* do not add to import_error */

/* Called between messages, so that the worker can service heartbeats. */
typedef void (*PiTick) (void *arg);

/*
 * Imports a batch inside the current transaction (READ COMMITTED).  One bad
 * message never affects another: a permanent failure is isolated with
 * subtransactions and becomes a result.  A transient error (SPEC.md section
 * 2), and one of class 42 or 3F that every message of the batch meets, is
 * raised, and the caller's transaction must be aborted.  Results live in the
 * memory context that is current at the call.
 */
extern void pi_engine_batch(const PiInput *inputs, int n, int flags,
							PiTick tick, void *tick_arg, PiBatchResult *out);

/*
 * The result of a message that is answered without being imported (code 500
 * for a message that kills its worker or always times out): reads only
 * feedback_id and the like from the body, and adds the import_error row.
 */
extern void pi_engine_give_up(const PiInput *input, const char *sqlstate,
							  const char *error_text, PiResult *out);

/* The result document as it goes over AMQP: compact, keys in SPEC order. */
extern char *pi_result_json(const PiResult *result);

/* The same as a jsonb datum, for the SQL functions. */
extern Jsonb *pi_result_jsonb(const PiResult *result);

extern const char *pi_outcome_name(PiOutcome outcome);

/* SPEC.md section 2: retried and never a result. */
extern bool pi_sqlstate_is_transient(int sqlerrcode);

/* Classes 42 and 3F. */
extern bool pi_sqlstate_is_setup(int sqlerrcode);

/*
 * True if the extension is present in this database with SQL objects that
 * this library can serve.  Needs a transaction.  *reason says why not.  *owner
 * is who created it, if it is there.
 */
extern bool pi_extension_usable(const char **reason, Oid *owner);

/* Was the error raised by a function of a user, in the text it likes? */
extern bool pi_raised_by_user(const ErrorData *edata);

/* The version of the SQL objects, NULL if there are none. */
extern char *pi_extension_version(void);
extern bool pi_extension_serves(const char *version);

#endif							/* PI_ENGINE_H */
