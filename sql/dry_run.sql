-- SPEC section 7: import(message, dry_run); every t.imp of every other test watches it as well
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, 'n', 'int', false), (1, 1, 'u', 'string', true);
INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 10);
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, data) VALUES (1, 1, 'p', 'p@x.io', '{"n": 1}'), (1, 1, 'q', 'q@x.io', '{"u": "k"}');
SELECT t.state() AS before, (SELECT sum(messages) FROM profimport.stat_result) AS counted \gset
CREATE FUNCTION t.dry(patch text, culprit text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$ SELECT t.show(profimport.import(t.whole(patch), true), culprit) $$;
SELECT t.dry('{"email": "new@x.io", "feedback_id": "f"}');						-- would create: profile_id ""
SELECT t.dry('{"email": "new@x.io"}');
SELECT t.dry('{"matching": "email_sub", "email": "new@x.io", "resource_id": 10}');
SELECT t.dry('{"email": "p@x.io", "data": {"n": 2}}');							-- would update
SELECT t.dry('{"email": "p@x.io", "data": {"n": 1}}');							-- unchanged
SELECT t.dry('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io"}]}}');
SELECT t.dry('{"email": "p@x.io", "data": {"n": "x"}}', 'n');
SELECT t.dry('{"account_id": 2, "email": "p@x.io"}');
SELECT t.dry('{"email": "none@x.io", "update_only": true}');
SELECT t.dry('{"email": "p@x.io", "data": {"email": "q@x.io"}}', 'email');		-- uniqueness too
SELECT t.dry('{"email": "p@x.io", "data": {"u": "k"}}', 'u');
SELECT t.dry('{"email": "new@x.io", "data": {"u": "k"}}', 'u');
SELECT t.dry('{"email": "p@x.io", "data": {"n": {"action": "incr", "value": 9223372036854775807}}}', 'n');
SELECT profimport.import('{}', true) - 'error_text';
-- nothing written, logged or counted
SELECT t.state() = :'before', (SELECT count(*) FROM profimport.import_error), (SELECT sum(messages) FROM profimport.stat_result) IS NOT DISTINCT FROM nullif(:'counted', '')::numeric;
-- a user's trigger that fails is a 500 in the dry run as well
CREATE FUNCTION t.user_rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '22012'; END $$;
CREATE TRIGGER user_rule BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION t.user_rule();
SELECT profimport.import(t.whole('{"email": "p@x.io", "data": {"n": 5}}'), true) = profimport.import(t.whole('{"email": "p@x.io", "data": {"n": 5}}')), profimport.import(t.whole('{"email": "p@x.io", "data": {"n": 5}}'), true)->'error';
DROP TRIGGER user_rule ON profimport.profile;
-- dry_run by name, false by default
SELECT t.show(profimport.import(message => t.whole('{"email": "p@x.io"}'), dry_run => true));
SELECT profimport.import(t.whole('{"email": "p@x.io"}'), false) = profimport.import(t.whole('{"email": "p@x.io"}'));
SELECT profimport.import(NULL), profimport.import(NULL, true);
