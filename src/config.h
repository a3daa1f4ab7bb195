/*-------------------------------------------------------------------------
 *
 * config.h
 *		Accounts, databases, fields and resources, cached in each process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_CONFIG_H
#define PI_CONFIG_H

#include "convert.h"

typedef struct PiResource
{
	int			resource_id;
	bool		open;			/* to the database it was looked up for */
	char	  **cats;
	int			ncats;
	PiFieldDef *fields;			/* in jsonb key order */
	int			nfields;
} PiResource;

typedef struct PiDatabase
{
	int			account_id;		/* hash key */
	int			db_id;
	bool		exists;
	PiFieldDef *fields;			/* declared ones, in jsonb key order */
	int			nfields;
	int			nrequired;
	int			nmatching;
	int			nunique;
	PiResource *resources;		/* all of the account, by resource_id */
	int			nresources;
	bool		has_resources;	/* one of them is open to this database */
} PiDatabase;

/*
 * To be called before the cache is used in a statement, holding the locks
 * that keep the configuration from changing (see store.h).  Drops what has
 * become stale.  Pointers handed out before are then invalid.
 */
extern void pi_config_refresh(void);

/*
 * The database as configured; ->exists tells an unknown one.  Valid until
 * the next pi_config_refresh().
 */
extern const PiDatabase *pi_config_database(int account_id, int db_id);

/* The standard or declared field of that name, or NULL. */
extern const PiFieldDef *pi_config_field(const PiDatabase *db, const char *name, int namelen);

/* Only declared ones. */
extern const PiFieldDef *pi_declared_field(const PiFieldDef *fields, int nfields,
										   const char *name, int namelen);

/* The resource, if it exists and is open to the database; else NULL. */
extern const PiResource *pi_config_resource(const PiDatabase *db, int resource_id);

/*
 * Is this a session that loads the output of pg_dump?  Such output switches
 * check_function_bodies off.
 */
extern bool pi_restoring(void);

/*
 * The owner of the extension's tables, as whom configuration and keys are
 * read and written.
 */
extern Oid pi_owner(void);

#endif							/* PI_CONFIG_H */
