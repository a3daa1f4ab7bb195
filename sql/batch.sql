-- SPEC sections 2 and 7: import_batch, isolation of what fails, permanent and transient failures
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'n', 'int'), (1, 1, 's', 'string');
INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 10);
CREATE FUNCTION t.b(VARIADIC patches text[]) RETURNS bytea[] LANGUAGE sql AS
$$ SELECT array_agg(convert_to(t.whole(p)::text, 'UTF8') ORDER BY n) FROM unnest(patches) WITH ORDINALITY u (p, n) $$;

-- one row per body, in order, ordinal from 1
SELECT ordinal, t.show(result), outcome FROM profimport.import_batch(t.b('{"email": "a@x.io", "feedback_id": "1"}', '{"email": "b@x.io", "feedback_id": "2"}', '{"email": "A@x.io", "feedback_id": "3", "data": {"n": 1}}', '{"email": "a@x.io", "feedback_id": "4", "data": {"n": 1}}'));
SELECT count(*) FROM profimport.import_batch('{}');
SELECT count(*) FROM profimport.import_batch('{}', '{}');
SELECT count(*) FROM profimport.import_batch('{}', NULL);
SELECT pg_typeof(ordinal), pg_typeof(result), pg_typeof(outcome) FROM profimport.import_batch(t.b('{"email": "a@x.io"}'));
-- the rows can be asked for in any way
SELECT outcome FROM profimport.import_batch(t.b('{"email": "a@x.io"}', '{"email": "new@x.io"}', '{}')) ORDER BY ordinal DESC LIMIT 2;
SELECT outcome, count(*) FROM profimport.import_batch((SELECT array_agg(convert_to(t.whole(format('{"email": "many%s@x.io"}', i % 700))::text, 'UTF8') ORDER BY i) FROM generate_series(1, 1400) i)) GROUP BY 1 ORDER BY 1;
-- a NULL body is a bad body like any other
SELECT ordinal, t.show(result), outcome FROM profimport.import_batch(t.b('{"email": "a@x.io"}') || ARRAY[NULL]::bytea[] || t.b('{"email": "b@x.io"}'));
-- one bad body never affects another
SELECT ordinal, t.show(result), outcome FROM profimport.import_batch(ARRAY['\x'::bytea] || t.b('{"email": "a@x.io", "data": {"n": 2}}') || ARRAY['\xff'::bytea, '[1]'] || t.b('{"email": "a@x.io", "data": {"n": {"action": "incr", "value": 1}}}', '{"email": "nope"}', '{"account_id": 9, "email": "a@x.io"}',
	'{"email": "a@x.io", "data": {"n": {"action": "incr", "value": 1}}}') || ARRAY[convert_to(repeat('[', 2000000), 'UTF8')] || t.b('{"email": "b@x.io", "data": {"email": "a@x.io"}}', '{"email": "a@x.io", "data": {"n": {"action": "incr", "value": 1}}}'));
SELECT data FROM profimport.profile WHERE email = 'a@x.io';
-- properties go with the error
TRUNCATE profimport.import_error;
SELECT count(*) FROM profimport.import_batch(ARRAY['1', '{"feedback_id": "f"}', '2']::bytea[], ARRAY['{"message_id": "m", "headers": {"x": [1, null]}}', NULL, '{}']::jsonb[]);
SELECT convert_from(body, 'UTF8'), error, feedback_id, headers FROM profimport.import_error ORDER BY error_id;

--
-- a user's trigger or constraint that fails: 500 with SQLSTATE and name, no data; the neighbours pass
--
CREATE FUNCTION t.user_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.data->>'s' ~ '^raise ' THEN
		RAISE EXCEPTION 'secret %', NEW.email USING ERRCODE = substr(NEW.data->>'s', 7);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER user_rule BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION t.user_rule();
ALTER TABLE profimport.profile ADD CONSTRAINT user_check CHECK (data->>'s' IS DISTINCT FROM 'forbidden');
CREATE UNIQUE INDEX user_unique ON profimport.profile ((data->>'_city'));
CREATE FUNCTION t.five(r jsonb, VARIADIC words text[]) RETURNS text LANGUAGE sql AS
$$ SELECT concat_ws(' ', r->>'error', nullif(t.pid(r->>'profile_id'), ''), (SELECT string_agg(w, ' ') FROM unnest(words) w WHERE strpos(r->>'error_text', w) > 0), CASE WHEN r->>'error_text' ~ 'secret|@|zqxj|forbidden' THEN 'DATA IN ' || (r->>'error_text') END) $$;
SELECT ordinal, outcome, t.five(result, 'P0001', 'user_rule') FROM profimport.import_batch(t.b('{"email": "u1@x.io"}', '{"email": "u2@x.io", "data": {"s": "raise P0001"}}', '{"email": "u3@x.io"}', '{"email": "u1@x.io", "data": {"s": "raise P0001"}}', '{"email": "u1@x.io", "data": {"s": "fine"}}'));
SELECT ordinal, outcome, t.five(result, '23514', 'user_check') FROM profimport.import_batch(t.b('{"email": "u2@x.io", "data": {"s": "forbidden"}}', '{"email": "u1@x.io", "data": {"s": "forbidden"}}', '{"email": "u3@x.io", "data": {"_city": "zqxj"}}'));
SELECT ordinal, outcome, t.five(result, '23505', 'user_unique') FROM profimport.import_batch(t.b('{"email": "u2@x.io", "data": {"_city": "zqxj"}}', '{"email": "u1@x.io", "data": {"_city": "zqxj"}}', '{"email": "u4@x.io"}'));
SELECT s, t.five(profimport.import(t.whole(format('{"email": "u2@x.io", "feedback_id": "f", "data": {"s": "raise %s"}}', s))), s, 'user_rule') FROM unnest(ARRAY['P0001', '22012', '23000', '23505', '54000', '55000', '0A000', 'XX000', 'P0004', '28000']) s;
SELECT email, data FROM t.profiles WHERE email ~ '^u' ORDER BY email;
SELECT DISTINCT error, sqlstate, feedback_id FROM profimport.import_error WHERE error = 500 AND feedback_id IS NOT NULL AND feedback_id <> '' ORDER BY 2;
-- the shape of the result stays
SELECT profimport.import(t.whole('{"email": "u2@x.io", "feedback_id": "f", "data": {"s": "raise 22012"}}')) - 'error_text';
-- several in one batch, on the same profile and on others
SELECT ordinal, outcome FROM profimport.import_batch(t.b('{"email": "u5@x.io", "data": {"s": "raise 22012"}}', '{"email": "u5@x.io", "data": {"s": "raise 22012"}}', '{"email": "u6@x.io"}', '{"email": "u6@x.io", "data": {"n": 1}}', '{"email": "u7@x.io", "data": {"s": "raise 22012"}}'));
-- a trigger that swallows the row: nothing was written, so it is no success, and nothing that time would mend
CREATE FUNCTION t.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.data->>'s' = 'swallow' THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER a_swallow BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION t.swallow();
TRUNCATE profimport.trigger_event;
SELECT ordinal, outcome, result->'error', result->>'profile_id' <> '' FROM profimport.import_batch(t.b('{"email": "sw1@x.io"}', '{"email": "sw2@x.io", "data": {"s": "swallow"}}', '{"email": "sw1@x.io", "data": {"s": "swallow"}}', '{"email": "sw3@x.io"}'));
SELECT profimport.import(t.whole('{"email": "sw1@x.io", "data": {"s": "swallow"}}'))->'error', profimport.import(t.whole('{"email": "sw2@x.io", "data": {"s": "swallow"}}'))->'error';
SELECT kind, changes FROM profimport.trigger_event ORDER BY event_id;
DROP TRIGGER a_swallow ON profimport.profile;
-- a trigger that deletes the profile again: no subscription is left without one
CREATE FUNCTION t.gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.data->>'s' = 'gone' THEN DELETE FROM profimport.profile WHERE profile_id = NEW.profile_id; END IF; RETURN NULL; END $$;
CREATE TRIGGER gone AFTER INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION t.gone();
SELECT count(*) FROM profimport.import_batch(t.b('{"email": "gone@x.io", "data": {"s": "gone", "subscriptions": [{"resource_id": 10, "channel": "email", "email": "gone@x.io"}]}}'));
SELECT count(*) FROM profimport.subscription s WHERE NOT EXISTS (SELECT FROM profimport.profile p WHERE p.account_id = s.account_id AND p.db_id = s.db_id AND p.profile_id = s.profile_id);
DROP TRIGGER gone ON profimport.profile;

--
-- transient: raised, nothing is written, no error row
--
TRUNCATE profimport.import_error;
SELECT t.state() AS before \gset
SELECT s, t.err(format($$SELECT * FROM profimport.import_batch(t.b('{"email": "tr1@x.io"}', '{"email": "tr2@x.io", "data": {"s": "raise %s"}}', '{"email": "tr3@x.io"}'))$$, s)) FROM unnest(ARRAY['08006', '40001', '40P01', '53200', '53100', '57P01', '58030', '58P01', '55P03', '25006']) s;
SELECT t.state() = :'before', (SELECT count(*) FROM profimport.import_error);
SELECT s, t.err(format($$SELECT profimport.import(t.whole('{"email": "tr2@x.io", "data": {"s": "raise %s"}}'))$$, s)) FROM unnest(ARRAY['08006', '40001', '53200', '57P01', '58030', '55P03', '25006']) s;
SELECT t.state() = :'before', (SELECT count(*) FROM profimport.import_error);
-- classes 42 and 3F: raised when every message fails so, a 500 when others pass
SELECT s, t.err(format($$SELECT * FROM profimport.import_batch(t.b('{"email": "tr1@x.io", "data": {"s": "raise %s"}}', '{"email": "tr2@x.io", "data": {"s": "raise %s"}}'))$$, s, s)) FROM unnest(ARRAY['42501', '42P01', '3F000']) s;
SELECT s, ordinal, outcome, t.five(result, s, 'user_rule') FROM unnest(ARRAY['42501', '42P01', '3F000']) s, profimport.import_batch(t.b('{"email": "a@x.io"}', format('{"email": "tr2@x.io", "data": {"s": "raise %s"}}', s), '{"email": "b@x.io"}'));
SELECT s, t.err(format($$SELECT profimport.import(t.whole('{"email": "tr2@x.io", "data": {"s": "raise %s"}}'))$$, s)) FROM unnest(ARRAY['42501', '42P01', '3F000']) s;
SELECT count(*) FROM profimport.profile WHERE email ~ '^tr';
DROP TRIGGER user_rule ON profimport.profile;
ALTER TABLE profimport.profile DROP CONSTRAINT user_check;
DROP INDEX profimport.user_unique;

--
-- READ COMMITTED only: 0A000
--
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.err($$SELECT profimport.import('{}')$$), t.err($$SELECT profimport.import('{}', true)$$), t.err($$SELECT profimport.import_batch('{}')$$) IN ('ok', '0A000'), t.err($$SELECT * FROM profimport.import_batch(ARRAY['{}'::bytea])$$);
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT t.err($$SELECT profimport.import('{}')$$);
ROLLBACK;
BEGIN ISOLATION LEVEL READ UNCOMMITTED;
SELECT t.err($$SELECT profimport.import('{}')$$);
ROLLBACK;
-- a read-only transaction is transient (25006)
BEGIN READ ONLY;
SELECT t.err($$SELECT profimport.import('{"account_id": 1, "db_id": 1, "data": {}, "email": "ro@x.io"}')$$);
ROLLBACK;

--
-- inside a transaction and a savepoint, like any function
--
BEGIN;
SELECT t.imp('{"email": "tx1@x.io"}');
SAVEPOINT s;
SELECT t.imp('{"email": "tx2@x.io"}');
ROLLBACK TO s;
SELECT t.imp('{"email": "tx2@x.io", "update_only": true}');
SELECT t.imp('{"email": "tx1@x.io", "update_only": true}');
COMMIT;
SELECT email FROM profimport.profile WHERE email ~ '^tx';
-- many subtransactions of many failures
SELECT outcome, result->'error', count(*) FROM profimport.import_batch((SELECT array_agg(convert_to(CASE WHEN i % 2 = 0 THEN 'x' ELSE t.whole(format('{"email": "half%s@x.io"}', i))::text END, 'UTF8') ORDER BY i) FROM generate_series(1, 1000) i)) GROUP BY 1, 2 ORDER BY 1;
