/*-------------------------------------------------------------------------
 *
 * store.h
 *		The SQL of the domain: every statement by which profiles and what
 *		belongs to them are read and written; those that search are find.c.
 *
 * Callers are connected to SPI.  Results live in the caller's current memory
 * context.  Values are those of the configured form (convert.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_STORE_H
#define PI_STORE_H

#include "storage/itemptr.h"

#include "compat.h"
#include "config.h"

/* A profile as read.  ctid and xmin name the very version that was seen. */
typedef struct PiProfile
{
	char	   *profile_id;
	ItemPointerData ctid;
	TransactionId xmin;
	char	   *email;			/* NULL: unset */
	bool		has_phones;
	JsonbValue	phones;			/* array of strings */
	Jsonb	   *data;
} PiProfile;

typedef struct PiSubscription
{
	int64		subscription_no;	/* 0: not stored yet */
	ItemPointerData ctid;
	TransactionId xmin;
	int			resource_id;
	char	   *channel;
	char	   *contact;		/* NULL for telegram_bot */
	char	   *provider;		/* push only */
	Jsonb	   *cc_data;		/* telegram_bot only */
	char	   *contact_key;	/* see pi_contact_key_of() */
	int			status;
	int			priority;
	Jsonb	   *custom_fields;
	char	  **cats;
	int			ncats;
} PiSubscription;

/*
 * Opens a batch: locks the tables against changes of the configuration that
 * depend on the data, refreshes the configuration, sees to index plans until
 * pi_store_end() with the value returned (or the end of the transaction).
 */
extern int	pi_store_begin(void);
extern void pi_store_end(int nestlevel);

/* In the open batch: the index on contacts is that of 1.0.0. */
extern bool pi_objects_of_1_0;

extern void pi_insert_profile(const PiDatabase *db, const char *profile_id, const char *email,
							  const JsonbValue *phones, Jsonb *data);

/* False: the version read is no longer the newest; nothing was written. */
extern bool pi_update_profile(const PiProfile *old, const char *email,
							  const JsonbValue *phones, Jsonb *data);

/* Keeps a profile from being deleted until we commit; false: it is gone. */
extern bool pi_lock_profile(int account_id, int db_id, const char *profile_id);

/* Raises the permanent error for a row that a trigger of the user took away. */
PI_NORETURN extern void pi_row_was_swallowed(const char *table);

/* All subscriptions of a profile, by number. */
extern int	pi_load_subscriptions(const PiDatabase *db, const char *profile_id, PiSubscription **subs);
extern void pi_insert_subscription(const PiDatabase *db, const char *profile_id, PiSubscription *sub);
extern bool pi_update_subscription(const PiSubscription *sub);

/* Keys of a stored profile and of a stored subscription, as the owner. */
extern void pi_write_profile_keys(bool insert, int account_id, int db_id, const char *profile_id,
								  const char *name, bool is_unique, const char *key);
extern void pi_write_subscription_keys(bool insert, int account_id, int db_id, const char *profile_id,
									   int64 subscription_no, int resource_id,
									   const char *name, const char *key);

/* Subscriptions go with their profile: deleted, or moved to its new key. */
extern void pi_delete_subscriptions(int account_id, int db_id, const char *profile_id);
extern void pi_move_subscriptions(int account_id, int db_id, const char *profile_id,
								  int new_account_id, int new_db_id, const char *new_profile_id);

/*
 * A text that is equal for equal contacts of a channel; that which index
 * subscription_contact_key has a digest of.
 */
extern char *pi_contact_key_of(const char *channel, const char *contact,
							   const char *provider, Jsonb *cc_data);
extern char *pi_contact_key_1_0(const char *channel, const char *contact_key);

/*
 * To be asked by a row trigger: does it fire for a statement of the engine
 * itself (and not of a trigger within it), whose values are checked already?
 */
extern bool pi_fired_by_engine(void);

#endif							/* PI_STORE_H */
