-- SPEC section 8: the settings, with t/regress.conf as configuration file
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
-- every one, and no other: default (in the unit), unit, kind, when it may change
SELECT name, CASE WHEN boot_val = '' THEN '''''' ELSE boot_val END, coalesce(unit, '-'), vartype, context FROM pg_settings WHERE name LIKE 'profimport.%' ORDER BY name COLLATE "C";
-- where SPEC gives bounds
SELECT name, min_val, max_val FROM pg_settings WHERE name IN ('profimport.batch_size', 'profimport.prefetch', 'profimport.result_ttl', 'profimport.workers') ORDER BY name COLLATE "C";
SELECT enumvals FROM pg_settings WHERE name = 'profimport.queue_type';
-- sane bounds elsewhere: nothing negative, nothing that overflows milliseconds or bytes
SELECT name, min_val, max_val FROM pg_settings WHERE name LIKE 'profimport.%' AND vartype = 'integer' AND (min_val::bigint < 0 OR max_val::bigint < boot_val::bigint);
-- short and long descriptions; one category
SELECT name FROM pg_settings WHERE name LIKE 'profimport.%' AND (short_desc = '' OR short_desc IS NULL OR coalesce(extra_desc, '') = '');
-- SHOW, in readable units (those of t/regress.conf left out)
SHOW profimport.result_ttl;
SHOW profimport.batch_bytes;
SHOW profimport.batch_delay;
SHOW profimport.max_message_size;
SHOW profimport.batch_timeout;
SHOW profimport.heartbeat;
SHOW profimport.connect_timeout;
SHOW profimport.reconnect_delay_max;
SHOW profimport.dedup_window;
SHOW profimport.trigger_retention;
SHOW profimport.error_retention;
SHOW profimport.error_log_file;
SHOW profimport.amqp_url;
-- without a unit: seconds for result_ttl, *_retention, dedup_window, heartbeat; milliseconds for other times; kB for sizes
SELECT unit, string_agg(name, ' ' ORDER BY name COLLATE "C") FROM pg_settings WHERE name LIKE 'profimport.%' AND unit IS NOT NULL GROUP BY unit ORDER BY unit;
-- none can be changed in a session
SELECT name, t.err(format('SET %s = %L', name, setting)) FROM pg_settings WHERE name LIKE 'profimport.%' ORDER BY name COLLATE "C";
-- the prefix is reserved
SELECT t.err('SET profimport.no_such_setting = 1') IN (CASE WHEN current_setting('server_version_num')::int >= 150000 THEN '42602' ELSE 'ok' END);
-- values out of bounds or senseless are refused (22023)
\set VERBOSITY sqlstate
ALTER SYSTEM SET profimport.batch_size = 0;
ALTER SYSTEM SET profimport.batch_size = 32768;
ALTER SYSTEM SET profimport.prefetch = -1;
ALTER SYSTEM SET profimport.prefetch = 65536;
ALTER SYSTEM SET profimport.workers = -1;
ALTER SYSTEM SET profimport.result_ttl = -1;
ALTER SYSTEM SET profimport.result_ttl = '3651d';
ALTER SYSTEM SET profimport.queue_type = 'stream';
ALTER SYSTEM SET profimport.batch_bytes = '16 parsecs';
ALTER SYSTEM SET profimport.enabled = 'maybe';
ALTER SYSTEM SET profimport.max_workers = 0;
ALTER SYSTEM SET profimport.import_queue = '';
ALTER SYSTEM SET profimport.result_queue = '';
ALTER SYSTEM SET profimport.amqp_url = 'http://localhost/';
ALTER SYSTEM SET profimport.amqp_url = 'amqp://localhost/?heartbeat=5';
ALTER SYSTEM SET profimport.amqp_url = '';
ALTER SYSTEM SET profimport.amqp_url = 'amqp://localhost:99999/';
ALTER SYSTEM SET profimport.heartbeat = -1;
ALTER SYSTEM SET profimport.connect_timeout = -1;
ALTER SYSTEM SET profimport.batch_timeout = -1;
ALTER SYSTEM SET profimport.max_message_size = -1;
-- and sensible ones are not
ALTER SYSTEM SET profimport.result_ttl = '3650d';
ALTER SYSTEM SET profimport.result_ttl = 0;
ALTER SYSTEM SET profimport.batch_size = 32767;
ALTER SYSTEM SET profimport.prefetch = 65535;
ALTER SYSTEM SET profimport.workers = 0;
ALTER SYSTEM SET profimport.queue_type = 'quorum';
ALTER SYSTEM SET profimport.amqp_url = 'amqp://u:p%40@a.example:5673/vh,amqps://[::1]/%2F, amqp://c';
ALTER SYSTEM SET profimport.amqp_url = 'amqp://localhost';
ALTER SYSTEM SET profimport.trigger_queue = 'q';
ALTER SYSTEM SET profimport.error_log_file = '';
ALTER SYSTEM SET profimport.dedup_window = 0;
ALTER SYSTEM SET profimport.trigger_retention = 0;
ALTER SYSTEM SET profimport.error_retention = 0;
ALTER SYSTEM SET profimport.batch_delay = '20ms';
ALTER SYSTEM SET profimport.role = 'nobody';
ALTER SYSTEM RESET profimport.result_ttl;
ALTER SYSTEM RESET profimport.batch_size;
ALTER SYSTEM RESET profimport.prefetch;
ALTER SYSTEM RESET profimport.workers;
ALTER SYSTEM RESET profimport.queue_type;
ALTER SYSTEM RESET profimport.amqp_url;
ALTER SYSTEM RESET profimport.trigger_queue;
ALTER SYSTEM RESET profimport.error_log_file;
ALTER SYSTEM RESET profimport.dedup_window;
ALTER SYSTEM RESET profimport.trigger_retention;
ALTER SYSTEM RESET profimport.error_retention;
ALTER SYSTEM RESET profimport.batch_delay;
ALTER SYSTEM RESET profimport.role;
ALTER SYSTEM RESET profimport.max_workers;
ALTER SYSTEM RESET profimport.import_queue;
ALTER SYSTEM RESET profimport.result_queue;
ALTER SYSTEM RESET profimport.heartbeat;
ALTER SYSTEM RESET profimport.connect_timeout;
ALTER SYSTEM RESET profimport.batch_timeout;
ALTER SYSTEM RESET profimport.max_message_size;
ALTER SYSTEM RESET profimport.enabled;
ALTER SYSTEM RESET profimport.batch_bytes;
\set VERBOSITY terse
-- amqp_url: superusers and pg_read_all_settings only
CREATE ROLE regress_profimport_plain;
CREATE ROLE regress_profimport_settings IN ROLE pg_read_all_settings;
GRANT USAGE ON SCHEMA t TO regress_profimport_plain;
SET ROLE regress_profimport_plain;
SELECT t.err('SHOW profimport.amqp_url');
SELECT setting, boot_val, reset_val FROM pg_settings WHERE name = 'profimport.amqp_url';
SHOW profimport.batch_size;
SET ROLE regress_profimport_settings;
SHOW profimport.amqp_url;
RESET ROLE;
DROP OWNED BY regress_profimport_plain;
DROP ROLE regress_profimport_plain, regress_profimport_settings;
