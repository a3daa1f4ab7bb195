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
SELECT name FROM pg_settings WHERE name LIKE 'profimport.%' AND (short_desc = '' OR short_desc IS NULL OR coalesce(extra_desc, '') = '' OR length(extra_desc) < 20);
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
-- values out of bounds are refused where a file would be refused, too
SELECT v, t.err(format('ALTER SYSTEM SET profimport.%s', v)) FROM unnest(ARRAY['batch_size = 0', 'batch_size = 32768', 'prefetch = -1', 'prefetch = 65536', 'workers = -1', 'result_ttl = -1', 'result_ttl = ''3651d''', 'queue_type = ''stream''', 'batch_bytes = ''16 parsecs''', 'enabled = ''maybe''', 'max_workers = 0',
	'import_queue = ''''', 'result_queue = ''''', 'amqp_url = ''http://localhost/''', 'amqp_url = ''amqp://localhost/?heartbeat=5''', 'amqp_url = ''''', 'amqp_url = ''amqp://localhost:99999/''', 'heartbeat = -1', 'connect_timeout = -1', 'batch_timeout = -1', 'max_message_size = -1']) v;
-- amqp_url: superusers and pg_read_all_settings only
CREATE ROLE regress_profimport_plain;
CREATE ROLE regress_profimport_settings IN ROLE pg_read_all_settings;
SET ROLE regress_profimport_plain;
SHOW profimport.amqp_url;
SELECT setting, boot_val, reset_val FROM pg_settings WHERE name = 'profimport.amqp_url';
SHOW profimport.batch_size;
SET ROLE regress_profimport_settings;
SHOW profimport.amqp_url;
RESET ROLE;
DROP ROLE regress_profimport_plain, regress_profimport_settings;
