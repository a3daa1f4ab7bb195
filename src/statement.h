/*-------------------------------------------------------------------------
 *
 * statement.h
 *		A kept statement of the domain: run, and what it returns.
 *
 * Callers are connected to SPI.  What is read lives in the caller's current
 * memory context, the rows themselves in SPI_tuptable.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_STATEMENT_H
#define PI_STATEMENT_H

#include "executor/spi.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

/* Operators, written so that no search_path has a say. */
#define EQ " OPERATOR(pg_catalog.=) "
#define NE " OPERATOR(pg_catalog.<>) "
#define CAT " OPERATOR(pg_catalog.||) "

/* The statements have the database as $2 and the account as $3. */
#define OF_DATABASE(alias) " AND " alias ".db_id" EQ "$2 AND " alias ".account_id" EQ "$3"

/* Prepared when it first runs. */
typedef struct PiStatement
{
	const char *sql;
	int			nargs;
	Oid			types[13];
	SPIPlanPtr	plan;
} PiStatement;

/*
 * Runs a statement, at most "limit" rows (0: all), with the snapshot given or
 * with that of the transaction.  Leaves CurrentMemoryContext as it was, which
 * SPI does not.
 */
extern void pi_run_with_snapshot(PiStatement *st, Datum *args, const char *nulls,
								 long limit, Snapshot snapshot);
extern void pi_run(PiStatement *st, Datum *args, const char *nulls, long limit);

/* A column (from 1) of a row (from 0) of the result; NULL for an SQL null. */
extern Datum pi_column(int row, int col, bool *isnull);
extern char *pi_column_text(int row, int col);
extern Jsonb *pi_column_jsonb(int row, int col);

/* Columns ctid and xmin, next to each other. */
extern void pi_column_version(int row, int col, ItemPointer ctid, TransactionId *xmin);

/* text[] from C strings, and from and to a JsonbValue array of strings. */
extern Datum pi_cstrings_to_array(char **strings, int n);
extern Datum pi_texts_to_array(const JsonbValue *strings);
/*
 * For a statement that takes the elements by subscript: expanded, so that it
 * need not walk from the first one each time.
 */
extern Datum pi_subscripted_array(Datum *elems, bool *nulls, int n, Oid type);
extern void pi_array_to_texts(Datum array, JsonbValue *strings);

#endif							/* PI_STATEMENT_H */
