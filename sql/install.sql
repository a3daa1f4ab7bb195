-- SPEC section 7: CREATE EXTENSION
DROP EXTENSION IF EXISTS profimport CASCADE;
CREATE EXTENSION profimport;
SELECT extversion, extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = 'profimport';
\pset format unaligned
\pset tuples_only on
-- the tables, their columns, types and defaults
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'profimport'::regnamespace AND c.relname IN ('account', 'database', 'field', 'resource', 'resource_field', 'profile', 'subscription', 'trigger_event', 'import_error') ORDER BY c.relname, a.attnum;
-- their keys
SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'profimport'::regnamespace AND contype = 'p'
	AND conrelid IN ('profimport.account'::regclass, 'profimport.database'::regclass, 'profimport.field'::regclass, 'profimport.resource'::regclass, 'profimport.resource_field'::regclass, 'profimport.profile'::regclass) ORDER BY conrelid::regclass::text;
-- the functions
SELECT oid::regprocedure, pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc WHERE pronamespace = 'profimport'::regnamespace AND proname IN ('import', 'import_batch', 'get_profile', 'retry_error', 'take_trigger_events', 'grant_worker', 'check', 'stat_reset') ORDER BY proname;
-- what they promise the planner: nothing that writes is stable, immutable or parallel safe
SELECT proname, provolatile, proparallel FROM pg_proc WHERE pronamespace = 'profimport'::regnamespace AND proname IN ('import', 'import_batch', 'retry_error', 'take_trigger_events', 'grant_worker') AND (provolatile <> 'v' OR proparallel <> 'u') ORDER BY proname;
-- a comment on every object: schema, relation, column, routine, constraint or trigger of the user's concern
SELECT obj_description('profimport'::regnamespace, 'pg_namespace') IS NOT NULL, obj_description((SELECT oid FROM pg_extension WHERE extname = 'profimport'), 'pg_extension') IS NOT NULL;
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'profimport'::regnamespace AND relkind IN ('r', 'v', 'p', 'm') AND obj_description(oid, 'pg_class') IS NULL;
SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'profimport'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL ORDER BY 1, attnum;
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'profimport'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
-- every table of the contract, and every sequence, is dumped
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'profimport'::regnamespace AND (relkind = 'S' OR relname IN ('account', 'database', 'field', 'resource', 'resource_field', 'profile', 'subscription', 'trigger_event', 'import_error')) AND NOT oid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'profimport');
-- tables and routines belong to the extension and to its owner
SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'profimport'::regnamespace AND relkind IN ('r', 'v', 'S') AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e') AND NOT (relkind = 'S' AND EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'i'));
SELECT DISTINCT relowner = (SELECT extowner FROM pg_extension WHERE extname = 'profimport') FROM pg_class WHERE relnamespace = 'profimport'::regnamespace;
-- it works, drops and comes back
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
SELECT profimport.import('{"account_id": 1, "db_id": 1, "data": {}, "email": "a@x.io"}')->'error';
DROP EXTENSION profimport;
SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'profimport');
CREATE EXTENSION profimport;
SELECT count(*) FROM profimport.profile;
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
SELECT profimport.import('{"account_id": 1, "db_id": 1, "data": {}, "email": "a@x.io"}')->'error';
-- in a schema of its own only
DROP EXTENSION profimport;
\set VERBOSITY terse
CREATE EXTENSION profimport SCHEMA public;
CREATE EXTENSION profimport;
ALTER EXTENSION profimport SET SCHEMA public;
-- UTF8 databases only: a clear error
CREATE DATABASE regress_profimport_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
SELECT current_database() AS here \gset
\c regress_profimport_ascii
CREATE EXTENSION profimport;
\c :here
DROP DATABASE regress_profimport_ascii;
