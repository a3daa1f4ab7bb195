/*-------------------------------------------------------------------------
 *
 * import.c
 *		The SQL functions that import: import(), import_batch(), retry_error().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "engine.h"
#include "journal.h"
#include "settings.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(pi_import);
PG_FUNCTION_INFO_V1(pi_import_batch);
PG_FUNCTION_INFO_V1(pi_retry_error);

static void
set_input(PiInput *in, const char *body, size_t len)
{
	memset(in, 0, sizeof(*in));
	in->body = body;
	in->too_large = len > pi_max_message_bytes();
	in->len = in->too_large ? pi_max_message_bytes() : len;
}

/* What an SQL function leaves to publish: a worker takes it from the table. */
static void
publish(const PiBatchResult *batch, const PiOut * result)
{
	int			n = batch->nevents + (result ? 1 : 0);
	PiOut	   *out;
	char		uuid[33];

	if (n == 0)
		return;
	out = palloc0(sizeof(PiOut) * n);
	pi_journal_new_uuid(uuid);
	for (int i = 0; i < batch->nevents; i++)
	{
		out[i].kind = PI_OUT_EVENT;
		out[i].message_id = psprintf("%s-%d", uuid, i);
		out[i].label = pstrdup(batch->events[i].kind);
		out[i].body = batch->events[i].json;
		out[i].len = strlen(out[i].body);
	}
	if (result)
	{
		out[n - 1] = *result;
		out[n - 1].message_id = psprintf("%s-%d", uuid, n - 1);
	}
	pi_journal_add_outgoing(out, n);
}

/* Imports one message in a subtransaction that is always rolled back. */
static void
dry_run(const PiInput *in, PiBatchResult *batch)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		pi_engine_batch(in, 1, PI_ENGINE_DRY_RUN | PI_ENGINE_NO_ERROR_ROW, NULL, NULL, batch);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		/* whoever catches it ends a subtransaction of its own, not ours */
		MemoryContextSwitchTo(oldcontext);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcontext);
		CurrentResourceOwner = oldowner;
		ReThrowError(edata);
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	if (batch->results[0].outcome == PI_CREATED)
		batch->results[0].profile_id = "";
}

/* import(message jsonb, dry_run bool) → jsonb */
Datum
pi_import(PG_FUNCTION_ARGS)
{
	Jsonb	   *message = PG_GETARG_JSONB_P(0);
	char	   *body = JsonbToCString(NULL, &message->root, VARSIZE(message));
	PiInput		in;
	PiBatchResult batch;

	set_input(&in, body, strlen(body));
	if (PG_GETARG_BOOL(1))
		dry_run(&in, &batch);
	else
	{
		pi_engine_batch(&in, 1, 0, NULL, NULL, &batch);
		pi_count_results_at_commit(batch.results, 1);
		publish(&batch, NULL);
	}
	PG_RETURN_JSONB_P(pi_result_jsonb(&batch.results[0]));
}

/* import_batch(bodies bytea[], properties jsonb[]) → ordinal int, result jsonb, outcome text */
Datum
pi_import_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum	   *bodies;
	bool	   *nulls;
	int			n;
	PiInput    *in;
	PiBatchResult batch;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT,
					  &bodies, &nulls, &n);
	in = palloc(sizeof(PiInput) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			set_input(&in[i], "", 0);
		else
		{
			bytea	   *b = DatumGetByteaPP(bodies[i]);

			set_input(&in[i], VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b));
		}
	}
	if (!PG_ARGISNULL(1))
	{
		Datum	   *properties;
		bool	   *prop_nulls;
		int			nproperties;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT,
						  &properties, &prop_nulls, &nproperties);
		if (nproperties != n)
			ereport(ERROR,
					(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
					 errmsg("bodies and properties must have the same number of elements"),
					 errdetail("There are %d bodies and %d properties.", n, nproperties)));
		for (int i = 0; i < n; i++)
			if (!prop_nulls[i])
				in[i].properties = DatumGetJsonbP(properties[i]);
	}

	pi_engine_batch(in, n, 0, NULL, NULL, &batch);
	pi_count_results_at_commit(batch.results, n);
	publish(&batch, NULL);

	for (int i = 0; i < n; i++)
	{
		Datum		values[3] = {Int32GetDatum(i + 1),
			JsonbPGetDatum(pi_result_jsonb(&batch.results[i])),
		CStringGetTextDatum(pi_outcome_name(batch.results[i].outcome))};
		bool		row_nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, row_nulls);
	}
	return (Datum) 0;
}

/* ---- retry_error ---------------------------------------------------------------- */

/* The correlation id that the first result had; see SPEC.md section 2. */
static char *
correlation_of(Jsonb *headers, const char *feedback_id)
{
	static const char *const keys[] = {"correlation_id", "message_id"};

	for (int i = 0; headers != NULL && JB_ROOT_IS_OBJECT(headers) && i < lengthof(keys); i++)
	{
		JsonbValue *v = getKeyJsonValueFromContainer(&headers->root, keys[i],
													 strlen(keys[i]), NULL);

		if (v != NULL && v->type == jbvString && v->val.string.len > 0)
			return pnstrdup(v->val.string.val, v->val.string.len);
	}
	return feedback_id[0] != '\0' && strlen(feedback_id) <= 255 ? pstrdup(feedback_id) : NULL;
}

/* retry_error(error_id bigint) → jsonb */
Datum
pi_retry_error(PG_FUNCTION_ARGS)
{
	int64		error_id = PG_GETARG_INT64(0);
	Oid			types[2] = {INT8OID, BOOLOID};
	Datum		args[2] = {Int64GetDatum(error_id)};
	MemoryContext oldcontext = CurrentMemoryContext;
	bool		isnull;
	bool		resolved;
	char	   *sqlstate;
	bytea	   *body;
	Jsonb	   *headers = NULL;
	Datum		d;
	PiInput		in;
	PiBatchResult batch;
	PiResult   *r;
	PiOut		out;

	SPI_connect();
	SPI_execute_with_args("SELECT resolved_at IS NOT NULL, sqlstate, body, headers"
						  " FROM profimport.import_error"
						  " WHERE error_id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
						  1, types, args, NULL, false, 1);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("there is no failed message with error_id " INT64_FORMAT, error_id),
				 errhint("See profimport.import_error; rows older than profimport.error_retention are removed.")));
	resolved = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	sqlstate = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (resolved)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the failed message with error_id " INT64_FORMAT " is resolved already", error_id),
				 errhint("To apply its body once more, call profimport.import().")));
	if (sqlstate != NULL && strcmp(sqlstate, "54000") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the body of the failed message with error_id " INT64_FORMAT " was cut", error_id),
				 errdetail("It was longer than profimport.max_message_size."),
				 errhint("Raise the setting and publish the message again.")));
	MemoryContextSwitchTo(oldcontext);
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull);
	body = DatumGetByteaPCopy(d);
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull);
	if (!isnull)
		headers = DatumGetJsonbPCopy(d);

	set_input(&in, VARDATA(body), VARSIZE(body) - VARHDRSZ);
	in.properties = headers;
	pi_engine_batch(&in, 1, PI_ENGINE_NO_ERROR_ROW, NULL, NULL, &batch);
	pi_count_results_at_commit(batch.results, 1);
	r = &batch.results[0];

	args[1] = BoolGetDatum(r->error == 0);
	SPI_execute_with_args("UPDATE profimport.import_error SET retried_at = pg_catalog.now(),"
						  " resolved_at = CASE WHEN $2 THEN pg_catalog.now() END"
						  " WHERE error_id OPERATOR(pg_catalog.=) $1",
						  2, types, args, NULL, false, 0);
	SPI_finish();
	MemoryContextSwitchTo(oldcontext);

	memset(&out, 0, sizeof(out));
	out.kind = PI_OUT_RESULT;
	out.correlation_id = correlation_of(headers, r->feedback_id);
	out.label = pstrdup(pi_outcome_name(r->outcome));
	out.body = pi_result_json(r);
	out.len = strlen(out.body);
	publish(&batch, &out);
	PG_RETURN_JSONB_P(pi_result_jsonb(r));
}
