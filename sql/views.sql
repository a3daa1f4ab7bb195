-- SPEC section 7: the views and check(), no worker configured
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
-- the columns
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.stat_worker'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.stat_result'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'profimport.status'::regclass AND attnum > 0 ORDER BY attnum;
-- a row per configured worker: none
SELECT count(*) FROM profimport.stat_worker;
-- one row
SELECT enabled, workers_configured, workers_running, workers_connected, queue_messages, queue_consumers, results_pending, errors_unresolved, oldest_pending_result FROM profimport.status;
-- check(): all the items, each with what to do
SELECT array_agg(item ORDER BY item) @> '{preloaded,database,workers,max_worker_processes,role,privileges,broker,login,import_queue,result_queue,result_ttl}' FROM profimport.check();
SELECT item FROM profimport.check() WHERE item IS NULL OR coalesce(detail, '') = '' AND NOT ok;
SELECT item, ok FROM profimport.check() WHERE item IN ('preloaded', 'database', 'max_worker_processes') ORDER BY item;
-- stat_result counts import()? dry runs never; stat_reset zeroes
SELECT profimport.stat_reset();
SELECT count(*) FILTER (WHERE messages <> 0) FROM profimport.stat_result;
-- errors_unresolved follows import_error
SELECT profimport.import('{}')->'error', profimport.import('{}')->'error';
SELECT errors_unresolved FROM profimport.status;
DELETE FROM profimport.import_error;
SELECT errors_unresolved FROM profimport.status;
