-- SPEC section 7: the views and check(), no worker configured
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
-- the columns
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.stat_worker'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.stat_result'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.status'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.stat_minute'::regclass AND attnum > 0 ORDER BY attnum;
-- no row without traffic
SELECT count(*) FROM profimport.stat_minute;
-- a row per configured worker: none
SELECT count(*) FROM profimport.stat_worker;
-- one row
SELECT enabled, workers_configured, workers_running, workers_connected, queue_messages, queue_consumers, results_pending >= 0, errors_unresolved, (oldest_pending_result IS NULL) = (results_pending = 0), messages_per_second FROM profimport.status;
-- check(): all the items, each with what to do
SELECT array_agg(item ORDER BY item) @> '{preloaded,database,workers,max_worker_processes,role,privileges,broker,login,import_queue,result_queue,result_ttl}' FROM profimport.check();
SELECT item FROM profimport.check() WHERE item IS NULL OR coalesce(detail, '') = '' AND NOT ok;
SELECT item, ok FROM profimport.check() WHERE item IN ('preloaded', 'database', 'max_worker_processes') ORDER BY item;
-- stat_result counts what import() and import_batch() did, dry runs not; stat_reset zeroes
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
SELECT profimport.stat_reset();
SELECT count(*) FROM profimport.stat_result WHERE messages <> 0;
SELECT profimport.import('{}', true)->'error', profimport.import(t.whole('{"email": "a@x.io"}'), true)->'error';
SELECT count(*) FROM profimport.stat_result WHERE messages <> 0;
SELECT t.bat('{"email": "a@x.io"}', '{"email": "a@x.io"}', '{"email": "a@x.io", "data": {"_fname": "A"}}', '{"email": "b@x.io"}', '{"email": "c@x.io", "update_only": true}');
SELECT profimport.import('{}')->'error', profimport.import(t.whole('{"email": "b@x.io", "data": {"_fname": "B"}}'))->'error', profimport.import(t.whole('{"email": "b@x.io", "data": {"email": "a@x.io"}}'))->'error';
SELECT error, outcome, messages FROM profimport.stat_result WHERE messages <> 0 ORDER BY error, outcome;
SELECT profimport.stat_reset();
SELECT count(*) FROM profimport.stat_result WHERE messages <> 0;
-- errors_unresolved follows import_error
SELECT errors_unresolved FROM profimport.status;
DELETE FROM profimport.import_error;
SELECT errors_unresolved FROM profimport.status;
