-- SPEC section 7: retry_error
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
SELECT results_pending AS pending FROM profimport.status \gset
CREATE FUNCTION t.fail(patch text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM * FROM profimport.import_batch(ARRAY[convert_to(t.whole(patch)::text, 'UTF8')], ARRAY['{"message_id": "m", "correlation_id": "c"}'::jsonb]);
	RETURN max(error_id) FROM profimport.import_error;
END $$;
CREATE FUNCTION t.retry(id bigint, culprit text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$ SELECT t.show(profimport.retry_error(id), culprit) $$;
SELECT t.fail('{"email": "a@x.io", "feedback_id": "f", "data": {"n": 1}}') AS id \gset
-- it still fails: retried_at, no second row, not resolved
SELECT t.retry(:id, 'n');
SELECT count(*), bool_and(retried_at >= occurred_at), bool_and(resolved_at IS NULL) FROM profimport.import_error;
SELECT retried_at AS first FROM profimport.import_error \gset
SELECT t.retry(:id, 'n');
SELECT count(*), bool_and(retried_at > :'first'), bool_and(resolved_at IS NULL) FROM profimport.import_error;
-- mended: resolved_at
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'n', 'int');
SELECT t.retry(:id);
SELECT count(*), bool_and(retried_at > :'first'), bool_and(resolved_at >= retried_at OR resolved_at = retried_at) FROM profimport.import_error;
SELECT id, email, data FROM t.profiles;
SELECT feedback_id, kind FROM t.events;
-- resolved, unknown, NULL: an error, and nothing is written
SELECT t.err(format('SELECT profimport.retry_error(%s)', :id)) NOT IN ('ok', 'XX000'), t.err('SELECT profimport.retry_error(-1)') NOT IN ('ok', 'XX000'), t.err('SELECT profimport.retry_error(9223372036854775807)') NOT IN ('ok', 'XX000');
SELECT profimport.retry_error(NULL);
SELECT count(*) FROM profimport.import_error;
-- a cut body cannot be imported
SELECT count(*) FROM profimport.import_batch(ARRAY[convert_to(rpad('{"account_id":1,"db_id":1,"data":{},"email":"cut@x.io"}', 1048577), 'UTF8')]);
SELECT t.err(format('SELECT profimport.retry_error(%s)', max(error_id))) NOT IN ('ok', 'XX000') FROM profimport.import_error;
SELECT count(*) FROM profimport.profile WHERE email = 'cut@x.io';
-- bytes that are no text are tried like any other
SELECT count(*) FROM profimport.import_batch(ARRAY['\xff00'::bytea]);
SELECT t.retry(max(error_id)) FROM profimport.import_error;
-- the failure may be another one than before
SELECT t.fail('{"account_id": 2, "email": "a@x.io", "data": {"z": 1}}') AS id \gset
SELECT error FROM profimport.import_error WHERE error_id = :id;
INSERT INTO profimport.account VALUES (2);
INSERT INTO profimport.database VALUES (2, 1);
SELECT t.retry(:id, 'z');
SELECT count(*) FROM profimport.import_error WHERE resolved_at IS NULL;
-- in a transaction that is rolled back it was not tried
BEGIN;
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (2, 1, 'z', 'int');
SELECT t.retry(:id);
ROLLBACK;
SELECT resolved_at IS NULL FROM profimport.import_error WHERE error_id = :id;
-- READ COMMITTED only, as import()
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.err(format('SELECT profimport.retry_error(%s)', :id));
ROLLBACK;
-- the results of the five retries that were not rolled back wait to be published, those of import() do not
SELECT results_pending - :pending FROM profimport.status;
-- status counts the unresolved
SELECT errors_unresolved = (SELECT count(*) FROM profimport.import_error WHERE resolved_at IS NULL) FROM profimport.status;
