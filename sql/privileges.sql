-- SPEC section 7: who may do what; names are pinned
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
INSERT INTO profimport.field (account_id, db_id, name, type, matching) VALUES (1, 1, 'n', 'int', true), (1, 1, 'tg', 'tags', true);
INSERT INTO profimport.resource (account_id, resource_id, categories) VALUES (1, 10, '{news}');
INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, 'p', 'p@x.io');
CREATE ROLE regress_profimport_nobody;
CREATE ROLE regress_profimport_monitor IN ROLE pg_monitor;
CREATE ROLE regress_profimport_worker;
GRANT USAGE ON SCHEMA t TO PUBLIC;

--
-- nothing is granted to PUBLIC: neither the schema, nor a relation, sequence, column, routine
--
SELECT has_schema_privilege('regress_profimport_nobody', 'profimport', 'USAGE'), has_schema_privilege('regress_profimport_nobody', 'profimport', 'CREATE');
SELECT oid::regclass, a.privilege_type FROM pg_class, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) a WHERE relnamespace = 'profimport'::regnamespace AND relkind IN ('r', 'v', 'm', 'S', 'p', 'f') AND a.grantee = 0;
SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'profimport'::regnamespace AND attacl IS NOT NULL;
SELECT oid::regprocedure FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE pronamespace = 'profimport'::regnamespace AND a.grantee = 0;
SET ROLE regress_profimport_nobody;
SELECT s, t.err(s) FROM unnest(ARRAY['SELECT * FROM profimport.profile', 'SELECT * FROM profimport.subscription', 'SELECT * FROM profimport.account', 'SELECT * FROM profimport.import_error', 'SELECT * FROM profimport.stat_worker', 'SELECT * FROM profimport.stat_minute', 'SELECT * FROM profimport.status',
	'SELECT profimport.import(''{}'')', 'SELECT profimport.import_batch(''{}'')', 'SELECT profimport.get_profile(1, 1, ''p'')', 'SELECT profimport.retry_error(1)', 'SELECT profimport.take_trigger_events(1)', 'SELECT profimport.grant_worker(''regress_profimport_nobody'')', 'SELECT profimport.check()', 'SELECT profimport.stat_reset()',
	'SHOW profimport.amqp_url']) s;
RESET ROLE;

-- the way into the schema alone opens nothing: every relation, sequence and function
GRANT USAGE ON SCHEMA profimport TO regress_profimport_nobody;
CREATE TABLE t.attempts AS
	SELECT format('SELECT * FROM profimport.%I', relname) AS s FROM pg_class WHERE relnamespace = 'profimport'::regnamespace AND relkind IN ('r', 'v', 'S')
	UNION ALL SELECT format('DELETE FROM profimport.%I', relname) FROM pg_class WHERE relnamespace = 'profimport'::regnamespace AND relkind = 'r'
	UNION ALL SELECT format('SELECT nextval(%L)', 'profimport.' || relname) FROM pg_class WHERE relnamespace = 'profimport'::regnamespace AND relkind = 'S'
	UNION ALL SELECT CASE WHEN prorettype = 'trigger'::regtype THEN format('CREATE TEMP TABLE x (a int); CREATE TRIGGER x BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION profimport.%I()', proname)
		ELSE format('SELECT profimport.%I(%s)', proname, (SELECT string_agg(format('%L::%s', CASE WHEN a::regtype::text IN ('integer', 'bigint', 'boolean') THEN '1' WHEN a::regtype::text IN ('text', 'name') THEN 'x' ELSE '{}' END, format_type(a, NULL)), ', ') FROM unnest(proargtypes) a)) END
		FROM pg_proc WHERE pronamespace = 'profimport'::regnamespace;
GRANT SELECT ON t.attempts TO PUBLIC;
SET ROLE regress_profimport_nobody;
SELECT count(*) > 60 AS many, count(*) FILTER (WHERE t.err(s) <> '42501') AS allowed FROM t.attempts;
SELECT s, t.err(s) FROM t.attempts WHERE t.err(s) <> '42501';
RESET ROLE;
REVOKE USAGE ON SCHEMA profimport FROM regress_profimport_nobody;

--
-- the views are readable to pg_monitor, profile data is not
--
SET ROLE regress_profimport_monitor;
SELECT s, t.err(s) FROM unnest(ARRAY['SELECT * FROM profimport.stat_worker', 'SELECT * FROM profimport.stat_result', 'SELECT * FROM profimport.stat_minute', 'SELECT * FROM profimport.status', 'SHOW profimport.amqp_url']) s;
SELECT s, t.err(s) FROM unnest(ARRAY['SELECT * FROM profimport.profile', 'SELECT * FROM profimport.subscription', 'SELECT * FROM profimport.trigger_event', 'SELECT * FROM profimport.import_error', 'SELECT * FROM profimport.account', 'SELECT profimport.import(''{}'')', 'SELECT profimport.get_profile(1, 1, ''p'')', 'SELECT profimport.retry_error(1)', 'SELECT profimport.stat_reset()', 'SELECT profimport.grant_worker(''regress_profimport_monitor'')']) s;
RESET ROLE;

--
-- grant_worker: what the worker needs, nothing more
--
SELECT profimport.grant_worker('regress_profimport_worker');
SELECT profimport.grant_worker('regress_profimport_worker');				-- again
SELECT t.err($$SELECT profimport.grant_worker('regress_profimport_none')$$);	-- no such role
SELECT t.err($$SELECT profimport.grant_worker('public')$$);	-- nor this, which GRANT would take for everybody
SET ROLE regress_profimport_worker;
SELECT outcome, result - 'profile_id' FROM profimport.import_batch(ARRAY['{"account_id":1,"db_id":1,"data":{"n":1,"tg":"a"},"email":"p@x.io"}', '{"account_id":1,"db_id":1,"data":{"subscriptions":[{"resource_id":10,"channel":"email","email":"w@x.io","cats":["news"]}]},"email":"w@x.io"}',
	'{"account_id":1,"db_id":1,"data":{"subscriptions":[{"resource_id":10,"channel":"email","email":"w@x.io","status":1}]},"email":"w@x.io"}', '{"account_id":1,"db_id":1,"data":{"n":null,"tg":"b"},"email":"p@x.io"}']::bytea[]);
SELECT count(*) FROM profimport.import_batch(ARRAY['x']::bytea[]);
RESET ROLE;
SELECT error, count(*) FROM profimport.import_error GROUP BY 1;
-- no more: no configuration, no definition, no granting on, no superuser's ways
SELECT c, p FROM unnest(ARRAY['account', 'database', 'field', 'resource', 'resource_field']) c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p WHERE has_table_privilege('regress_profimport_worker', 'profimport.' || c, p);
SELECT oid::regclass, p FROM pg_class, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER', 'SELECT WITH GRANT OPTION']) p WHERE relnamespace = 'profimport'::regnamespace AND relkind = 'r' AND has_table_privilege('regress_profimport_worker', oid, p);
SELECT has_schema_privilege('regress_profimport_worker', 'profimport', 'CREATE'), has_function_privilege('regress_profimport_worker', 'profimport.grant_worker(name)', 'EXECUTE'), has_function_privilege('regress_profimport_worker', 'profimport.stat_reset()', 'EXECUTE'), has_table_privilege('regress_profimport_worker', 'profimport.profile', 'DELETE');

--
-- security definer functions, if any, pin their search_path
--
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'profimport'::regnamespace AND prosecdef AND NOT coalesce(array_to_string(proconfig, ',') ~ 'search_path', false);

--
-- a hostile search_path: nothing of it is ever called
--
CREATE SCHEMA regress_evil;
CREATE FUNCTION regress_evil.hit(what text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hostile % was called', what; END $$;
DO $$
DECLARE
	r record;
BEGIN
	-- every operator and cast-free function the code may be tempted to use, on the types it uses
	FOR r IN SELECT DISTINCT o.oprname, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r FROM pg_operator o
		WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft <> 0 AND o.oprname IN ('=', '<>', '<', '>', '<=', '>=', '||', '->', '->>', '#>', '@>', '<@', '&&', '?', '+', '-', '~', '!~')
		AND o.oprleft::regtype::text IN ('integer', 'bigint', 'text', 'jsonb', 'text[]', 'anyarray', 'integer[]', 'boolean', 'timestamp with time zone', 'name', 'bytea', 'interval') AND o.oprleft::regtype::text NOT LIKE 'any%' AND o.oprright::regtype::text NOT LIKE 'any%'
	LOOP
		IF to_regprocedure(format('regress_evil.op(%s, %s)', r.l, r.r)) IS NULL THEN
			EXECUTE format('CREATE FUNCTION regress_evil.op(%s, %s) RETURNS boolean LANGUAGE sql AS $f$ SELECT regress_evil.hit(%L) $f$', r.l, r.r, concat_ws(' ', r.l, r.r));
		END IF;
		EXECUTE format('CREATE OPERATOR regress_evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = regress_evil.op)', r.oprname, r.l, r.r);
	END LOOP;
END $$;
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT format('CREATE FUNCTION regress_evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM regress_evil.hit(%L); END $f$', proname, pg_get_function_identity_arguments(oid), CASE WHEN proretset THEN 'SETOF ' ELSE '' END || format_type(prorettype, NULL), proname) AS command
		FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proargmodes IS NULL AND provariadic = 0 AND proname IN ('lower', 'upper', 'btrim', 'length', 'octet_length', 'jsonb_typeof', 'jsonb_set', 'now', 'clock_timestamp', 'to_jsonb', 'jsonb_array_elements', 'jsonb_array_length',
	'array_length', 'cardinality', 'unnest', 'md5', 'sha256', 'hashtext', 'hashtextextended', 'pg_advisory_xact_lock', 'nextval', 'pg_notify', 'convert_from', 'convert_to', 'encode', 'decode', 'current_setting', 'array_position', 'array_remove', 'generate_series', 'concat_ws', 'replace', 'split_part', 'string_to_array', 'quote_literal', 'jsonb_strip_nulls')
	AND prorettype NOT IN ('anyelement'::regtype, 'anyarray'::regtype) AND NOT EXISTS (SELECT FROM unnest(proargtypes) a WHERE a IN ('anyelement'::regtype, 'anyarray'::regtype, 'anycompatible'::regtype, 'anycompatiblearray'::regtype, 'internal'::regtype))
	LOOP
		EXECUTE r.command;
	END LOOP;
END $$;
SELECT count(*) > 30 FROM pg_proc WHERE pronamespace = 'regress_evil'::regnamespace;
SELECT count(*) > 50 FROM pg_operator WHERE oprnamespace = 'regress_evil'::regnamespace;
CREATE TABLE regress_evil.profile (x int);
CREATE TABLE regress_evil.account (x int);
CREATE TABLE regress_evil.field (x int);
CREATE FUNCTION t.hostile(patch text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m jsonb := t.whole(patch);
	r jsonb;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'regress_evil, pg_temp, pg_catalog', true);
	r := profimport.import(m);
	PERFORM pg_catalog.set_config('search_path', 'public', true);
	RETURN t.show(r);
END $$;
SELECT t.hostile('{"email": "h@x.io", "data": {"n": 1, "tg": "a,b", "phones": "+10000001", "_tz": "utc", "subscriptions": [{"resource_id": 10, "channel": "email", "email": "h2@x.io", "cats": ["news"]}]}}');
SELECT t.hostile('{"email": "H@x.io", "data": {"n": {"action": "incr", "value": 1}, "tg": {"action": "add", "value": "c"}, "_bdate": "2001-01-01", "subscriptions": [{"resource_id": 10, "channel": "email", "email": "h2@x.io", "status": 1}]}}');
SELECT t.hostile(m) FROM unnest(ARRAY['{"matching": "phone", "phone": "+10000001"}', '{"matching": "custom", "field_name": "n", "field_value": 2}', '{"matching": "custom", "field_name": "tg", "field_value": "a,c"}', '{"matching": "email_sub", "email": "h2@x.io"}', '{"matching": "email_phone", "email": "h2@x.io", "phone": "+10000001"}',
	'{"matching": "profile_id", "profile_id": "p"}', '{"matching": "profile_id", "profile_id": "none"}', '{"data": {"nope": 1}, "email": "h@x.io"}', '{"matching": "email_profile", "email": "h@x.io", "data": {"email": "p@x.io"}}', '{"matching": "custom_sub", "field_name": "x", "field_value": "1"}', '{"matching": "push_sub", "provider": "i", "subscription_id": "t", "resource_id": 10}']) m;
-- direct SQL, configuration, the other functions and the views
SET search_path = regress_evil, pg_temp, pg_catalog;
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data) VALUES (1, 1, 'd', 'd@x.io', '{"+1 0000009"}', '{"n": "7", "tg": "x,y"}');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'd', 10, 'sms', '+1 0000009');
UPDATE profimport.profile SET data = '{"n": 8}';
UPDATE profimport.subscription SET status = 3;
INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, 'hu', 'string', true);
UPDATE profimport.field SET matching = false;
UPDATE profimport.resource SET categories = '{news,more}', db_ids = '{1}';
INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 'rf', 'int');
UPDATE profimport.resource_field SET matching = true;
SELECT pg_catalog.length(profimport.get_profile(1, 1, 'd')::pg_catalog.text) OPERATOR(pg_catalog.>) 0;
SELECT pg_catalog.count(*) FROM profimport.take_trigger_events(1);
SELECT pg_catalog.count(*) FROM profimport.stat_worker;
SELECT pg_catalog.count(*) FROM profimport.status;
SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 FROM profimport.stat_result;
SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 FROM profimport.check();
SELECT profimport.stat_reset();
SELECT profimport.grant_worker('regress_profimport_worker');
DELETE FROM profimport.resource_field;
DELETE FROM profimport.profile;
RESET search_path;
DROP SCHEMA regress_evil CASCADE;

--
-- what the owner grants is enough: DML on the tables keeps matching right without rights on anything behind them
--
GRANT USAGE ON SCHEMA profimport TO regress_profimport_nobody;
GRANT SELECT, INSERT, UPDATE, DELETE ON profimport.profile, profimport.subscription TO regress_profimport_nobody;
GRANT SELECT, INSERT, UPDATE, DELETE ON profimport.account, profimport.database, profimport.field TO regress_profimport_nobody;
SET ROLE regress_profimport_nobody;
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data) VALUES (1, 1, 'g', 'g@x.io', '{"+1 0000009"}', '{"n": "7"}');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'g', 10, 'sms', '+1 0000009');
UPDATE profimport.profile SET email = 'g2@x.io', data = '{"n": 8}' WHERE profile_id = 'g';
UPDATE profimport.subscription SET status = 1 WHERE profile_id = 'g';
INSERT INTO profimport.field (account_id, db_id, name, type, matching) VALUES (1, 1, 'granted', 'int', true);
UPDATE profimport.field SET matching = true WHERE name = 'n';
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, email) VALUES (1, 1, 'G2@x.io')$$), t.err($$UPDATE profimport.field SET type = 'string' WHERE name = 'n'$$);
RESET ROLE;
SELECT t.imp('{"email": "g2@x.io", "update_only": true}'), t.imp('{"matching": "custom", "field_name": "n", "field_value": 8}'), t.imp('{"matching": "phone_sub", "phone": "+10000009"}');
SET ROLE regress_profimport_nobody;
DELETE FROM profimport.profile WHERE profile_id = 'g';
RESET ROLE;
SELECT t.imp('{"email": "g2@x.io", "update_only": true}');

--
-- and back: revoking is plain SQL
--
DROP OWNED BY regress_profimport_nobody;
DROP OWNED BY regress_profimport_worker;
DROP ROLE regress_profimport_nobody, regress_profimport_monitor, regress_profimport_worker;
