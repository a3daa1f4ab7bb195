-- SPEC section 7: profile and subscription written with ordinary SQL
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1), (2);
INSERT INTO profimport.database VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO profimport.field (account_id, db_id, name, type, options, required, matching, is_unique) VALUES
	(1, 1, 's', 'string', NULL, false, true, false), (1, 1, 'n', 'int', NULL, false, true, false), (1, 1, 'fl', 'float', NULL, false, false, false), (1, 1, 'bo', 'bool', NULL, false, false, false), (1, 1, 'd', 'date', NULL, false, false, false),
	(1, 1, 'dt', 'datetime', NULL, false, false, false), (1, 1, 'li', 'list', '{red}', false, false, false), (1, 1, 'ip', 'ip', NULL, false, false, false), (1, 1, 'tg', 'tags', NULL, false, true, false), (1, 1, 'o', 'object', NULL, false, false, false),
	(1, 1, 'ao', 'arr_object', NULL, false, false, false), (1, 1, 'u', 'string', NULL, false, false, true), (1, 2, 'must', 'int', NULL, true, false, false);
INSERT INTO profimport.resource (account_id, resource_id, db_ids, categories) VALUES (1, 10, NULL, '{news}'), (1, 12, '{2}', '{}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, required, matching) VALUES (1, 10, 'n', 'int', false, true), (1, 12, 'must', 'int', true, false);

--
-- INSERT: values are normalised as on import
--
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data) VALUES (1, 1, 'p', E' P@x.io\t', '{"+1 (000) 00-01",+10000001,+10000002}',
	'{"s": "x", "n": "12", "fl": "1.50", "bo": "TRUE", "d": "2001-12-31T10:00", "dt": "2001-12-31 10:00+03:00", "li": "red", "ip": "2001:DB8::1", "tg": "b, a,b", "o": {"x": 1}, "ao": [{"y": 1}], "_sex": "w", "_status": "invalid", "_tz": "europe/moscow", "_postal_code": 5, "_bdate": "2001-01-01"}');
SELECT email, phones, data FROM profimport.profile WHERE profile_id = 'p';
-- defaults: a generated id of 24 lower-case hex digits, time-ordered; timestamps
INSERT INTO profimport.profile (account_id, db_id) SELECT 1, 1 FROM generate_series(1, 500);
INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, DEFAULT, NULL);
SELECT count(*), count(DISTINCT profile_id), bool_and(profile_id ~ '^[0-9a-f]{24}$'), bool_and(created_at = updated_at AND created_at <= clock_timestamp()), bool_and(email IS NULL AND data = '{}') FROM profimport.profile WHERE profile_id <> 'p';
SELECT max(profile_id) AS newest FROM profimport.profile WHERE profile_id <> 'p' \gset
SELECT profimport.import(t.whole('{"email": "later@x.io", "skip_triggers": true}'))->>'profile_id' > :'newest';
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id) VALUES (1, 1, NULL)$$) IN ('ok', '23502');
DELETE FROM profimport.profile WHERE profile_id <> 'p';
-- given ids and timestamps are kept
INSERT INTO profimport.profile (account_id, db_id, profile_id, created_at, updated_at) VALUES (1, 1, 'any id', '2001-01-01 00:00Z', '2002-02-02 00:00Z');
SELECT profile_id, created_at AT TIME ZONE 'UTC', updated_at AT TIME ZONE 'UTC' FROM profimport.profile WHERE profile_id = 'any id';
-- values are checked: 23514 names the culprit
SELECT c, t.err(format('INSERT INTO profimport.profile (account_id, db_id, %s) VALUES (1, 1, %s)', c, v), c) FROM (VALUES ('email', $$''$$), ('email', $$'x'$$), ('email', $$'x@y@z'$$), ('email', $$'x y@z'$$), ('phones', $$'{x}'$$), ('phones', $$'{+10000001,""}'$$), ('phones', $$'{NULL}'$$), ('phones', $$'{+1}'$$), ('profile_id', $$''$$)) v (c, v);
SELECT f, t.err(format('INSERT INTO profimport.profile (account_id, db_id, data) VALUES (1, 1, %L)', format('{"%s": %s}', f, v)), f)
FROM (VALUES ('s', '1'), ('n', '1.5'), ('n', '{"action": "incr", "value": 1}'), ('fl', '"NaN"'), ('bo', '1'), ('d', '"x"'), ('dt', '"x"'), ('li', '"blue"'), ('ip', '"x"'), ('tg', '["a,b"]'), ('o', '[]'), ('ao', '{}'), ('_sex', '3'), ('_tz', '"x"'), ('_status', '7'), ('nope', '1'), ('profile_id', '"x"')) v (f, v);
-- email, phones and subscriptions have no place in data
SELECT f, t.err(format('INSERT INTO profimport.profile (account_id, db_id, data) VALUES (1, 1, %L)', format('{"%s": %s}', f, v))) FROM (VALUES ('email', '"x@y"'), ('phones', '[]'), ('subscriptions', '[]')) v (f, v);
SELECT v, t.err(format('INSERT INTO profimport.profile (account_id, db_id, data) VALUES (1, 1, %s)', v)) FROM unnest(ARRAY[$$'[]'$$, $$'1'$$, $$'"x"'$$, $$'null'$$]) v;
-- required
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id) VALUES (1, 2)$$, 'must');
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES (1, 2, 'm', '{"must": 1}')$$);
SELECT t.err($$UPDATE profimport.profile SET data = '{}' WHERE profile_id = 'm'$$, 'must');
-- unknown account, database
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id) VALUES (3, 1)$$), t.err($$INSERT INTO profimport.profile (account_id, db_id) VALUES (2, 2)$$);
-- unique: 23505
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, email) VALUES (1, 1, 'p@X.io')$$), t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id) VALUES (1, 1, 'p')$$);
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES (1, 1, 'u1', '{"u": "k"}')$$), t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES (1, 1, 'u2', '{"u": "k"}')$$);
SELECT t.err($$UPDATE profimport.profile SET email = 'P@X.IO' WHERE profile_id = 'u1'$$), t.err($$UPDATE profimport.profile SET data = '{"u": "k"}' WHERE profile_id = 'p'$$);
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (2, 1, 'other', 'p@x.io')$$);		-- another account
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES (1, 1, 'u3', '{"u": "k3"}'), (1, 1, 'u4', '{"u": "k3"}')$$);

--
-- matching is right straight after
--
SELECT t.imp('{"email": "p@x.io", "update_only": true}'), t.imp('{"matching": "phone", "phone": "+10000002", "update_only": true}'), t.imp('{"matching": "custom", "field_name": "n", "field_value": 12, "update_only": true}'), t.imp('{"matching": "custom", "field_name": "tg", "field_value": "a,b", "update_only": true}');
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id) VALUES (1, 1, 'p2')$$);
UPDATE profimport.profile SET email = 'p2@x.io', phones = '{+10000005}', data = data || '{"n": 13, "tg": "c"}' WHERE profile_id = 'p';
SELECT email, phones, data->'n', data->'tg', data->'s' FROM profimport.profile WHERE profile_id = 'p';
SELECT t.imp('{"email": "p@x.io", "update_only": true}'), t.imp('{"matching": "phone", "phone": "+10000002", "update_only": true}'), t.imp('{"matching": "custom", "field_name": "n", "field_value": 12, "update_only": true}'), t.imp('{"matching": "custom", "field_name": "tg", "field_value": "a", "update_only": true}');
SELECT t.imp('{"email": "p2@x.io", "update_only": true}'), t.imp('{"matching": "phone", "phone": "+10000005", "update_only": true}'), t.imp('{"matching": "custom", "field_name": "n", "field_value": 13, "update_only": true}'), t.imp('{"matching": "custom", "field_name": "tg", "field_value": "c", "update_only": true}');
-- email cannot be unset, no more than on import; the rest can
SELECT t.err($$UPDATE profimport.profile SET email = NULL WHERE profile_id = 'p'$$, 'email');
UPDATE profimport.profile SET email = 'p3@x.io', phones = NULL, data = '{}' WHERE profile_id = 'p';
SELECT email, phones, data FROM profimport.profile WHERE profile_id = 'p';
SELECT t.imp('{"email": "p2@x.io", "update_only": true}'), t.imp('{"matching": "phone", "phone": "+10000005", "update_only": true}'), t.imp('{"matching": "custom", "field_name": "n", "field_value": 13, "update_only": true}'), t.imp('{"matching": "custom", "field_name": "tg", "field_value": "c", "update_only": true}');
-- a value given up is free
INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, 'ea', 'ea@x.io'), (1, 1, 'eb', 'eb@x.io');
UPDATE profimport.profile SET email = 'ec@x.io' WHERE profile_id = 'ea';
UPDATE profimport.profile SET email = 'ea@x.io' WHERE profile_id = 'eb';
SELECT t.imp('{"email": "ea@x.io", "update_only": true}'), t.imp('{"email": "eb@x.io", "update_only": true}');

--
-- updated_at is set by an UPDATE that changed something
--
UPDATE profimport.profile SET data = '{"s": "1"}', updated_at = '2001-01-01' WHERE profile_id = 'p';
SELECT updated_at > now() - interval '1 hour' FROM profimport.profile WHERE profile_id = 'p';
SELECT updated_at AS was FROM profimport.profile WHERE profile_id = 'p' \gset
UPDATE profimport.profile SET data = data || '{"s": "1"}', email = email WHERE profile_id = 'p';
SELECT updated_at = :'was' FROM profimport.profile WHERE profile_id = 'p';
UPDATE profimport.profile SET data = '{"n": 1}' WHERE profile_id = 'p';
SELECT updated_at > :'was', created_at < updated_at FROM profimport.profile WHERE profile_id = 'p';

--
-- subscriptions
--
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'p', 10, 'email', ' S@x.io '), (1, 1, 'p', 10, 'sms', '+1 (000) 00-09');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, provider, status, priority, custom_fields, cats, created_at, updated_at) VALUES (1, 1, 'p', 10, 'push', 'tok', 'ios', 3, 4, '{"n": "5"}', '{news}', '2001-01-01 00:00Z', '2002-02-02 00:00Z');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, cc_data) VALUES (1, 1, 'p', 10, 'telegram_bot', '{"id": 1}');
SELECT resource_id, channel, contact, provider, cc_data, status, priority, custom_fields, cats FROM profimport.subscription ORDER BY subscription_no;
SELECT bool_and(subscription_no > 0), count(DISTINCT subscription_no) FROM profimport.subscription;
SELECT created_at AT TIME ZONE 'UTC', updated_at AT TIME ZONE 'UTC' FROM profimport.subscription WHERE channel = 'push';
SELECT t.imp('{"email": "s@X.io", "update_only": true}'), t.imp('{"matching": "phone_sub", "phone": "+10000009"}'), t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "tok"}'), t.imp('{"matching": "custom_sub", "field_name": "n", "field_value": 5}');
-- an import knows the row again
SELECT * FROM t.bat('{"email": "s@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io"}, {"resource_id": 10, "channel": "telegram_bot", "cc_data": {"id": 1}}]}}');
-- checked: 23514; the same contact twice on one profile: 23505
SELECT c, v, t.err(format('INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, %s) VALUES (1, 1, ''p'', 10, %s)', c, v)) FROM (VALUES ('contact', $$'email', 'x'$$), ('contact', $$'email', NULL$$), ('contact', $$'sms', 's@x.io'$$), ('contact', $$'fax', '+10000001'$$), ('contact', $$'push', 'tok2'$$), ('provider', $$'push', 'ios'$$),
	('contact', $$'telegram_bot', 'x'$$), ('contact, status', $$'email', 'n@x.io', 7$$), ('contact, status', $$'email', 'n@x.io', -1$$), ('contact, custom_fields', $$'email', 'n@x.io', '{"nope": 1}'$$), ('contact, custom_fields', $$'email', 'n@x.io', '{"n": "x"}'$$), ('contact, custom_fields', $$'email', 'n@x.io', '[]'$$), ('contact, cats', $$'email', 'n@x.io', '{nope}'$$)) v (c, v);
SELECT t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'p', 10, 'email', 's@X.io')$$), t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, provider) VALUES (1, 1, 'p', 10, 'push', 'tok', 'ios')$$),
	t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, cc_data) VALUES (1, 1, 'p', 10, 'telegram_bot', '{"id": 1}')$$);
SELECT t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'none', 10, 'email', 'n@x.io')$$) AS no_profile, t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'p', 99, 'email', 'n@x.io')$$) AS no_resource,
	t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'p', 12, 'email', 'n@x.io')$$) AS closed, t.err($$INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 2, 'm', 12, 'email', 'n@x.io')$$, 'must') AS required;
-- an UPDATE
UPDATE profimport.subscription SET contact = 'S2@x.io', status = 1 WHERE channel = 'email';
SELECT contact, status, updated_at > created_at FROM profimport.subscription WHERE channel = 'email';
SELECT t.imp('{"email": "s@x.io", "update_only": true}'), t.imp('{"email": "s2@x.io", "update_only": true}');
SELECT updated_at AS was FROM profimport.subscription WHERE channel = 'email' \gset
UPDATE profimport.subscription SET contact = 'S2@x.io', status = 1 WHERE channel = 'email';
SELECT updated_at = :'was' FROM profimport.subscription WHERE channel = 'email';
BEGIN;
UPDATE profimport.subscription SET cats = '{news,news}' WHERE channel = 'push';
SELECT cats FROM profimport.subscription WHERE channel = 'push';	-- without repeats
ROLLBACK;
SELECT t.err($$UPDATE profimport.subscription SET status = 9$$), t.err($$UPDATE profimport.subscription SET contact = 'x' WHERE channel = 'email'$$), t.err($$UPDATE profimport.subscription SET cats = '{nope}'$$);
UPDATE profimport.subscription SET custom_fields = '{"n": 6}' WHERE channel = 'push';
SELECT t.imp('{"matching": "custom_sub", "field_name": "n", "field_value": 5}'), t.imp('{"matching": "custom_sub", "field_name": "n", "field_value": 6}');
-- a DELETE
DELETE FROM profimport.subscription WHERE channel = 'email';
SELECT t.imp('{"email": "s2@x.io", "update_only": true}');

--
-- subscriptions go with their profile, and so does everything that matched it
--
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data) VALUES (1, 1, 'gone', 'gone@x.io', '{+10000077}', '{"s": "gone", "u": "gone"}');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'gone', 10, 'email', 'gone2@x.io');
DELETE FROM profimport.profile WHERE profile_id = 'gone';
SELECT count(*) FROM profimport.subscription WHERE profile_id = 'gone';
SELECT t.imp(m || ', "update_only": true}') FROM unnest(ARRAY['{"email": "gone@x.io"', '{"email": "gone2@x.io"', '{"matching": "phone", "phone": "+10000077"', '{"matching": "custom", "field_name": "s", "field_value": "gone"', '{"matching": "custom", "field_name": "u", "field_value": "gone"', '{"matching": "profile_id", "profile_id": "gone"']) m;
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, email, data) VALUES (1, 1, 'again', 'gone@x.io', '{"u": "gone"}')$$);
-- another profile_id: the subscriptions follow
UPDATE profimport.profile SET profile_id = 'renamed' WHERE profile_id = 'p' AND account_id = 1;
SELECT count(*) FROM profimport.subscription WHERE profile_id = 'renamed';
SELECT t.imp('{"matching": "phone_sub", "phone": "+10000009"}'), t.imp('{"matching": "profile_id", "profile_id": "p"}');

--
-- COPY
--
COPY profimport.profile (account_id, db_id, profile_id, email, phones, data) FROM stdin;
1	1	k1	 K1@x.io 	{"+1 0000021"}	{"n": "21", "tg": "k,l"}
1	1	k2	\N	\N	{}
\.
COPY profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, status) FROM stdin;
1	1	k2	10	email	K2@x.io	1
\.
SELECT profile_id, email, phones, data FROM profimport.profile WHERE profile_id IN ('k1', 'k2') ORDER BY 1;
SELECT t.imp('{"email": "k1@x.io", "update_only": true}'), t.imp('{"email": "k2@x.io", "update_only": true}'), t.imp('{"matching": "custom", "field_name": "tg", "field_value": "l,k", "update_only": true}'), t.imp('{"matching": "phone", "phone": "+10000021", "update_only": true}');
\set VERBOSITY sqlstate
COPY profimport.profile (account_id, db_id, email) FROM stdin;
1	1	k3@x.io
1	1	k3
\.
COPY profimport.profile (account_id, db_id, email) FROM stdin;
1	1	k3@x.io
1	1	K3@x.io
\.
\set VERBOSITY terse
SELECT count(*) FROM profimport.profile WHERE email = 'k3@x.io';

--
-- no trigger events of all this (imports above changed nothing)
--
SELECT count(*) FROM profimport.trigger_event;

--
-- TRUNCATE ... CASCADE
--
TRUNCATE profimport.profile CASCADE;
SELECT (SELECT count(*) FROM profimport.profile), (SELECT count(*) FROM profimport.subscription);
SELECT t.imp(m || ', "update_only": true}') FROM unnest(ARRAY['{"email": "k1@x.io"', '{"email": "k2@x.io"', '{"matching": "phone", "phone": "+10000021"', '{"matching": "custom", "field_name": "n", "field_value": 21', '{"matching": "custom", "field_name": "tg", "field_value": "l"']) m;
SELECT t.err($$INSERT INTO profimport.profile (account_id, db_id, profile_id, email, data) VALUES (1, 1, 'k1', 'k1@x.io', '{"u": "gone"}')$$);
-- TRUNCATE subscription alone
SELECT t.imp('{"email": "k1@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "only@x.io"}]}}');
TRUNCATE profimport.subscription;
SELECT t.imp('{"email": "only@x.io", "update_only": true}'), t.imp('{"email": "k1@x.io", "update_only": true}');

--
-- a trigger that runs after the check may change a row, but not to what the check would have changed or refused
--
CREATE TABLE t.late (email text, phones text[], data jsonb);
CREATE FUNCTION t.late() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	l t.late;
BEGIN
	SELECT * INTO l FROM t.late;
	NEW.email := coalesce(l.email, NEW.email);
	NEW.phones := coalesce(l.phones, NEW.phones);
	NEW.data := NEW.data || coalesce(l.data, '{}');
	RETURN NEW;
END $$;
CREATE FUNCTION t.late_sub() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.custom_fields := '{"n": "77"}'; RETURN NEW; END $$;
INSERT INTO profimport.profile (account_id, db_id, profile_id) VALUES (1, 1, 'overtaken');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'overtaken', 10, 'sms', '+10000055');
CREATE TRIGGER zzz_late BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION t.late();
CREATE TRIGGER zzz_late BEFORE INSERT OR UPDATE ON profimport.subscription FOR EACH ROW EXECUTE FUNCTION t.late_sub();
CREATE FUNCTION t.with_late(e text, p text[], d jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	s text;
	m text;
BEGIN
	DELETE FROM t.late;
	INSERT INTO t.late VALUES (e, p, d);
	s := t.err($q$INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, 'late', 'late@x.io')$q$);
	DELETE FROM profimport.profile WHERE profile_id = 'late';
	m := profimport.import('{"account_id": 1, "db_id": 1, "email": "late@x.io", "data": {}}') ->> 'error_text';
	DELETE FROM profimport.profile WHERE lower(email) LIKE '%late%';
	RETURN s || ' ' || m;
END $$;
SELECT t.with_late(NULL, NULL, NULL) AS nothing, t.with_late('late2@x.io', '{+10000077}', '{"n": 77, "_sex": 2}') AS normalised;
SELECT t.with_late(' late@x.io', NULL, NULL) AS email, t.with_late('late', NULL, NULL) AS no_email, t.with_late(NULL, '{+1 0000077}', NULL) AS phones, t.with_late(NULL, NULL, '{"n": "77"}') AS data, t.with_late(NULL, NULL, '{"nope": 1}') AS undeclared;
\set VERBOSITY default
UPDATE profimport.profile SET data = data || '{"n": 1}' WHERE profile_id = 'overtaken';
UPDATE t.late SET data = '{"n": "77"}';
UPDATE profimport.profile SET data = data || '{"n": 1}' WHERE profile_id = 'overtaken';
UPDATE profimport.subscription SET status = 2 WHERE profile_id = 'overtaken';
\set VERBOSITY terse
DROP TRIGGER zzz_late ON profimport.profile;
DROP TRIGGER zzz_late ON profimport.subscription;

--
-- columns that a user has added are left alone; a table with other columns is none of ours
--
ALTER TABLE profimport.subscription ADD COLUMN mine text DEFAULT 'd', ADD COLUMN more int;
ALTER TABLE profimport.profile ADD COLUMN mine text NOT NULL DEFAULT 'd', ADD COLUMN dropped int;
ALTER TABLE profimport.profile DROP COLUMN dropped;
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, data, mine) VALUES (1, 1, 'added', ' added@x.io', '{"n": "3"}', 'm') RETURNING email, data, mine;
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, more) VALUES (1, 1, 'added', 10, 'sms', '+1 0000044', 4) RETURNING contact, mine, more;
SELECT t.imp('{"email": "added@x.io", "data": {"n": 4, "subscriptions": [{"resource_id": 10, "channel": "sms", "phone": "+10000044", "status": 1}]}}');
SELECT p.data, p.mine, s.status, s.mine, s.more FROM profimport.profile p JOIN profimport.subscription s USING (profile_id) WHERE profile_id = 'added';
ALTER TABLE profimport.subscription DROP COLUMN mine, DROP COLUMN more;
ALTER TABLE profimport.profile DROP COLUMN mine;
CREATE TABLE t.wide (account_id int, db_id int, profile_id int);
CREATE TRIGGER wide BEFORE INSERT ON t.wide FOR EACH ROW EXECUTE FUNCTION profimport.profile_check();
SELECT t.err('INSERT INTO t.wide VALUES (1, 1, 1)');
