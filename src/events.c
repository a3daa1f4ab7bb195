/*-------------------------------------------------------------------------
 *
 * events.c
 *		What an import leaves besides profiles: rows of trigger_event and
 *		import_error.
 *
 * IDENTIFICATION
 *		src/events.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "compat.h"
#include "events.h"
#include "statement.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/*
 * Subscripts, and not unnest() of each array: that costs a function scan per
 * array to set up, and to run.
 */
static PiStatement insert_events = {
	"INSERT INTO profimport.trigger_event (event_id, kind, account_id, db_id, profile_id,"
	" subscription_no, resource_id, channel, changes, feedback_id)"
	" SELECT $1[i], $2[i], $3[i], $4[i], $5[i], $6[i], $7[i], $8[i], $9[i], $10[i]"
	" FROM pg_catalog.generate_series(1, pg_catalog.cardinality($1)) i",
	10, {INT8ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID,
	INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID}
};

static PiStatement insert_error = {
	"INSERT INTO profimport.import_error (error, error_text, sqlstate, feedback_id,"
	" account_id, db_id, body, headers) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	8, {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, BYTEAOID, JSONBOID}
};

void
pi_insert_events(const PiEventRow *events, int n)
{
	Datum	   *col[10];
	bool	   *no_sub = palloc(sizeof(bool) * n);
	Datum		args[10];

	for (int c = 0; c < 10; c++)
		col[c] = palloc0(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		const PiEventRow *e = &events[i];

		no_sub[i] = e->subscription_no == 0;
		col[0][i] = Int64GetDatum(e->event_id);
		col[1][i] = CStringGetTextDatum(e->kind);
		col[2][i] = Int32GetDatum(e->account_id);
		col[3][i] = Int32GetDatum(e->db_id);
		col[4][i] = CStringGetTextDatum(e->profile_id);
		col[5][i] = Int64GetDatum(e->subscription_no);
		col[6][i] = Int32GetDatum(e->resource_id);
		col[7][i] = no_sub[i] ? (Datum) 0 : CStringGetTextDatum(e->channel);
		col[8][i] = JsonbPGetDatum(e->changes);
		col[9][i] = CStringGetTextDatum(e->feedback_id);
	}
	args[0] = pi_subscripted_array(col[0], NULL, n, INT8OID);
	args[1] = pi_subscripted_array(col[1], NULL, n, TEXTOID);
	args[2] = pi_subscripted_array(col[2], NULL, n, INT4OID);
	args[3] = pi_subscripted_array(col[3], NULL, n, INT4OID);
	args[4] = pi_subscripted_array(col[4], NULL, n, TEXTOID);
	args[5] = pi_subscripted_array(col[5], no_sub, n, INT8OID);
	args[6] = pi_subscripted_array(col[6], no_sub, n, INT4OID);
	args[7] = pi_subscripted_array(col[7], no_sub, n, TEXTOID);
	args[8] = pi_subscripted_array(col[8], NULL, n, JSONBOID);
	args[9] = pi_subscripted_array(col[9], NULL, n, TEXTOID);
	pi_run(&insert_events, args, NULL, 0);
}

void
pi_number_events(PiEventRow *events, int n)
{
	Oid			nsp = get_namespace_oid("profimport", false);
	Oid			sequence = get_relname_relid("trigger_event_event_id_seq", nsp);

	for (int i = 0; i < n; i++)
		events[i].event_id = nextval_internal(sequence, false);
}

void
pi_insert_error(int error, const char *error_text, const char *sqlstate,
				const char *feedback_id, int account_id, int db_id,
				const char *body, size_t len, Jsonb *headers)
{
	Datum		args[8] = {Int32GetDatum(error), CStringGetTextDatum(error_text)};
	char		nulls[9] = "        ";

	if (sqlstate[0] != '\0')
		args[2] = CStringGetTextDatum(sqlstate);
	else
		nulls[2] = 'n';
	args[3] = CStringGetTextDatum(feedback_id);
	args[4] = Int32GetDatum(account_id);
	if (account_id == 0)
		nulls[4] = 'n';
	args[5] = Int32GetDatum(db_id);
	if (db_id == 0)
		nulls[5] = 'n';
	args[6] = PointerGetDatum(cstring_to_text_with_len(body, len));
	if (headers)
		args[7] = JsonbPGetDatum(headers);
	else
		nulls[7] = 'n';
	pi_run(&insert_error, args, nulls, 0);
}
