-- SPEC section 2: the result, and which failure wins
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1), (2);
INSERT INTO profimport.database VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO profimport.field (account_id, db_id, name, type, required, matching, is_unique) VALUES
	(1, 1, 'n', 'int', false, true, false), (1, 1, 'u', 'string', false, false, true), (1, 1, 'plain', 'string', false, false, false),
	(1, 1, 'aa', 'int', false, false, false), (1, 1, 'b', 'int', false, false, false), (1, 1, 'zzzzzzzzzzzzzzzz', 'int', false, false, false),
	(1, 1, 'o', 'object', false, false, false),
	(1, 2, 'must', 'string', true, false, false);
INSERT INTO profimport.resource (account_id, resource_id, db_ids) VALUES (1, 10, NULL), (1, 11, '{2}'), (2, 20, NULL);
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data) VALUES
	(1, 1, 'p', 'p@x.io', NULL, '{"n": 9223372036854775807, "o": {"a": 1}}'), (1, 1, 'q', 'q@x.io', NULL, '{"u": "taken"}'),
	(1, 1, 'tw1', NULL, '{+10000001}', '{}'), (1, 1, 'tw2', NULL, '{+10000001}', '{}'), (1, 2, 'r', 'r@x.io', NULL, '{"must": "x"}');

--
-- the five keys and no other, on success and on failure
--
SELECT profimport.import('{"account_id": 1, "db_id": 1, "data": {}, "email": "p@x.io"}');
SELECT profimport.import('{"account_id": 1, "db_id": 1, "data": {}, "email": "p@x.io", "feedback_id": "f"}');
SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(profimport.import('{}')) k;
SELECT jsonb_typeof(r->'error'), jsonb_typeof(r->'error_text'), r->'feedback_id', r->'profile_id', r->'matching_field' FROM profimport.import('{}') r;
-- outcome: created, updated, unchanged, failed
SELECT * FROM t.bat('{"email": "new@x.io", "feedback_id": "1"}', '{"email": "new@x.io", "data": {"_fname": "N"}, "feedback_id": "2"}',
	'{"email": "new@x.io", "data": {"_fname": "N"}, "feedback_id": "3"}', '{"email": "new@x.io", "data": {"_fname": 7}, "feedback_id": "4"}');
-- matching_field: the mode, not the field it looked at; also on failure
SELECT m, t.imp(format('{"matching": %s, "feedback_id": "f"}', to_jsonb(m))) FROM unnest(ARRAY['email', 'email_profile', 'email_sub', 'phone', 'phone_sub',
	'email_phone', 'email_phone_sub', 'push_sub', 'profile_id', 'custom', 'custom_sub']) m;		-- 400, the input is missing

--
-- echo of feedback_id
--
SELECT t.imp('{"email": "p@x.io", "feedback_id": "f", "account_id": 9}');			-- 404
SELECT t.imp('{"email": "p@x.io", "feedback_id": "f", "update_only": 1}', 'update_only');
SELECT t.imp('{"email": "p@x.io", "feedback_id": 1, "update_only": 1}');
SELECT t.imp('{"email": "p@x.io", "feedback_id": ["f"]}', 'feedback_id');
SELECT t.imp('{"email": "p@x.io", "feedback_id": null}');

--
-- unknown account and unknown database: the same text, which names neither value
--
SELECT profimport.import('{"account_id": 9, "db_id": 1, "data": {}, "email": "p@x.io"}') = profimport.import('{"account_id": 1, "db_id": 9, "data": {}, "email": "p@x.io"}'),
	profimport.import('{"account_id": 9, "db_id": 1, "data": {}, "email": "p@x.io"}') = profimport.import('{"account_id": 2, "db_id": 2, "data": {}, "email": "p@x.io"}');
-- a text never holds a value of the message
SELECT m, strpos(profimport.import(t.whole(m))->>'error_text', 'zqxj') FROM unnest(ARRAY['{"email": "zqxj"}', '{"matching": "phone", "phone": "zqxj"}', '{"matching": "zqxj"}',
	'{"email": "p@x.io", "data": {"aa": "zqxj"}}', '{"email": "p@x.io", "data": {"u": {"zqxj": 1}}}', '{"matching": "custom", "field_name": "n", "field_value": "zqxj"}',
	'{"matching": "profile_id", "profile_id": "zqxj"}', '{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "zqxj"}]}}',
	'{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "zqxj"}]}}']) m;

--
-- The first failure wins.  Each pair is sent in both orders of the keys.
--
-- (1) the body before (2): \u0000 before a wrong type, depth before a wrong type
SELECT t.body('{"account_id":"x","db_id":1,"data":{"_fname":"\u0000"},"email":"p@x.io"}') NOT LIKE '%(account_id)%';
-- (2) among themselves: matching, types, required keys, inputs
SELECT t.body('{"matching":"nope","account_id":"1","db_id":1,"data":{}}', 'matching');
SELECT t.body('{"data":{},"db_id":1,"account_id":"1","matching":"nope"}', 'matching');
SELECT t.body('{"matching":7,"account_id":"1","db_id":1,"data":{}}', 'matching');
SELECT t.body('{"update_only":1,"db_id":1,"data":{},"email":"p@x.io"}', 'update_only');
SELECT t.body('{"email":"p@x.io","data":{},"db_id":1,"update_only":1}', 'update_only');
SELECT t.body('{"account_id":1,"data":{}}', 'db_id');
SELECT t.body('{"account_id":1,"db_id":1,"email":""}', 'data');
-- (2) before (3)
SELECT t.body('{"account_id":9,"db_id":1,"data":{},"update_only":1,"email":"p@x.io"}', 'update_only');
SELECT t.body('{"email":"p@x.io","update_only":1,"data":{},"db_id":1,"account_id":9}', 'update_only');
SELECT t.body('{"account_id":9,"db_id":1,"data":{}}', 'email');
SELECT t.body('{"account_id":9,"db_id":1,"data":{},"email":"nonsense"}', 'email');
SELECT t.body('{"account_id":9,"db_id":1,"data":{},"matching":"phone","phone":"12"}', 'phone');
SELECT t.body('{"account_id":9,"db_id":1,"data":{},"matching":"nope"}', 'matching');
SELECT t.body('{"account_id":9,"db_id":1,"data":{},"matching":"custom","field_name":"n"}', 'field_value');
SELECT t.body('{"account_id":9,"db_id":1,"data":{},"matching":"custom","field_name":"n","field_value":" "}', 'field_value');
-- (2) before (4), (5)
SELECT t.imp('{"resource_id": 99, "email": ""}', 'email');
SELECT t.imp('{"resource_id": "99", "email": "p@x.io", "data": {"nope": 1}}', 'resource_id');
SELECT t.imp('{"data": {"nope": 1}, "email": " "}', 'email');
-- (3) before (4): the text of the account, which is the same as without resource_id
SELECT profimport.import('{"account_id": 9, "db_id": 1, "data": {}, "email": "p@x.io", "resource_id": 99}') = profimport.import('{"account_id": 9, "db_id": 1, "data": {}, "email": "p@x.io"}');
-- (3) before (5)
SELECT profimport.import('{"account_id": 9, "db_id": 1, "data": {"nope": 1}, "email": "p@x.io"}') = profimport.import('{"account_id": 9, "db_id": 1, "data": {}, "email": "p@x.io"}');
SELECT t.imp('{"account_id": 9, "matching": "custom", "field_name": "nope", "field_value": "1"}');			-- 404
-- (4) before (5): 404, not 400; a resource of another account or closed to the database is unknown
SELECT t.imp('{"resource_id": 99, "email": "p@x.io", "data": {"nope": 1}}', 'resource_id');
SELECT t.imp('{"resource_id": 11, "email": "p@x.io", "data": {"aa": "x"}}', 'resource_id');
SELECT t.imp('{"resource_id": 20, "email": "p@x.io", "data": {"subscriptions": 1}}', 'resource_id');
SELECT t.imp('{"resource_id": 99, "matching": "custom", "field_name": "nope", "field_value": "1"}', 'resource_id');
-- (4) before (6)
SELECT t.imp('{"resource_id": 99, "email": "none@x.io", "update_only": true}', 'resource_id');
SELECT t.imp('{"resource_id": 99, "matching": "phone", "phone": "+10000001"}', 'resource_id');
-- (5) field_name before data
SELECT t.imp('{"matching": "custom", "field_name": "nope", "field_value": "1", "data": {"aa": "x"}}', 'nope');
SELECT t.imp('{"matching": "custom", "field_name": "n", "field_value": "x", "data": {"aa": "x"}}', 'n');
-- (5) data in jsonb key order: shorter names first, then by bytes
SELECT t.body('{"account_id":1,"db_id":1,"email":"p@x.io","data":{"aa":"x","b":"x"}}', 'b');
SELECT t.body('{"account_id":1,"db_id":1,"email":"p@x.io","data":{"b":"x","aa":"x"}}', 'b');
SELECT t.body('{"account_id":1,"db_id":1,"email":"p@x.io","data":{"zz":1,"aa":"x"}}', 'aa');
SELECT t.body('{"account_id":1,"db_id":1,"email":"p@x.io","data":{"aa":"x","zz":1}}', 'aa');
SELECT t.body('{"account_id":1,"db_id":1,"email":"p@x.io","data":{"ab":1,"aa":"x"}}', 'aa');
SELECT t.body('{"account_id":1,"db_id":1,"email":"p@x.io","data":{"phones":"x","email":"x"}}', 'email');
-- (5) a wrong action for the type is of the same rank
SELECT t.imp('{"email": "p@x.io", "data": {"b": {"action": "add", "value": 1}, "aa": "x"}}', 'b');
SELECT t.imp('{"email": "p@x.io", "data": {"b": 1, "aa": {"action": "add", "value": 1}, "zz": 1}}', 'aa');
-- (5) data before subscriptions, wherever the key would stand
SELECT t.imp('{"email": "p@x.io", "data": {"zzzzzzzzzzzzzzzz": "x", "subscriptions": [{"resource_id": 99, "channel": "email", "email": "a@x.io"}]}}', 'zzzzzzzzzzzzzzzz');
SELECT t.imp('{"email": "p@x.io", "data": {"zzzzzzzzzzzzzzzz": "x", "subscriptions": 7}}', 'zzzzzzzzzzzzzzzz');
SELECT t.imp('{"email": "p@x.io", "data": {"aa": "x", "subscriptions": 7}}', 'aa');
-- (5) subscriptions in array order
SELECT t.imp('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 99, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "fax"}]}}', 'resource_id');
SELECT t.imp('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "fax"}, {"resource_id": 99, "channel": "email", "email": "a@x.io"}]}}', 'channel');
-- (5) before (6)
SELECT t.imp('{"email": "none@x.io", "update_only": true, "data": {"aa": "x"}}', 'aa');
SELECT t.imp('{"matching": "phone", "phone": "+10000001", "data": {"nope": "x"}}', 'nope');
SELECT t.imp('{"matching": "profile_id", "profile_id": "none", "data": {"b": {"action": "upsert", "value": 1, "submatch": "a"}}}', 'b');
SELECT t.imp('{"matching": "profile_id", "profile_id": "none", "data": {"subscriptions": [{"resource_id": 99, "channel": "email", "email": "a@x.io"}]}}', 'resource_id');		-- 404 either way, but of the subscription
SELECT t.imp('{"matching": "profile_id", "profile_id": "none", "data": {"subscriptions": [{"resource_id": 10, "channel": "fax", "email": "a@x.io"}]}}', 'channel');
SELECT t.imp('{"matching": "phone", "phone": "+10000001", "data": {"email": null}}', 'email');
-- (5) before (7)
SELECT t.imp('{"db_id": 2, "email": "none@x.io", "data": {"nope": "x"}}', 'nope');
-- (5) before (8)
SELECT t.imp('{"email": "p@x.io", "data": {"email": "q@x.io", "nope": 1}}', 'nope');
-- (6) before (7): 404 before the missing required field or resource_id, 409 before a functional update that would fail
SELECT t.imp('{"db_id": 2, "email": "none@x.io", "update_only": true}');
SELECT t.imp('{"matching": "email_sub", "email": "none@x.io", "update_only": true}');
SELECT t.imp('{"matching": "phone", "phone": "+10000001", "data": {"o": {"action": "upsert", "value": 1, "submatch": "a.b"}}}');
-- (6) before (8)
SELECT t.imp('{"matching": "profile_id", "profile_id": "none", "data": {"email": "q@x.io"}}');						-- 404
SELECT t.imp('{"matching": "phone", "phone": "+10000001", "data": {"email": "q@x.io"}}') = t.imp('{"matching": "phone", "phone": "+10000001"}');	-- 409 of the match
-- (7) before (8)
SELECT t.imp('{"db_id": 2, "email": "none@x.io", "data": {"email": "r@x.io"}}', 'must');
SELECT t.imp('{"email": "p@x.io", "data": {"email": "q@x.io", "n": {"action": "incr", "value": 1}}}', 'n');
SELECT t.imp('{"email": "p@x.io", "data": {"u": "taken", "o": {"action": "upsert", "value": 1, "submatch": "a.b"}}}', 'o');
SELECT t.imp('{"matching": "email_sub", "email": "none@x.io", "data": {"email": "q@x.io"}}', 'resource_id');
-- (8) alone
SELECT t.imp('{"email": "p@x.io", "data": {"email": "q@x.io"}}', 'email');
SELECT t.imp('{"email": "p@x.io", "data": {"u": "taken"}}', 'u');

--
-- A failed message writes nothing and does not affect its neighbours
--
SELECT * FROM t.bat('{"email": "n1@x.io", "data": {"b": 1}}', '{"email": "n2@x.io", "data": {"b": 1, "aa": "x"}}', '{"email": "p@x.io", "data": {"b": 5, "email": "q@x.io"}}',
	'{"email": "n3@x.io", "data": {"b": 3}}');
SELECT id, email, data FROM t.profiles WHERE db_id = 1;

--
-- What is kept of a failure: the body as received, what could be read of it
--
TRUNCATE profimport.import_error;
SELECT count(*) FROM profimport.import_batch(ARRAY['{"account_id": 1 , "db_id": 7, "data": {}, "email": "p@x.io", "feedback_id": "f"}'::bytea, '\xff00'::bytea, '{"account_id": "1", "db_id": 2}'::bytea],
	ARRAY['{"message_id": "m1", "headers": {"h": 1}}', NULL, '{}']::jsonb[]);
SELECT error, error_text <> '', sqlstate, feedback_id, account_id, db_id, headers, retried_at, resolved_at
FROM profimport.import_error ORDER BY error_id;
SELECT body = '{"account_id": 1 , "db_id": 7, "data": {}, "email": "p@x.io", "feedback_id": "f"}'::bytea FROM profimport.import_error ORDER BY error_id LIMIT 1;
-- the text is the one of the result
SELECT e.error_text = (profimport.import('{"account_id": 1, "db_id": 7, "data": {}, "email": "p@x.io"}', true)->>'error_text') FROM profimport.import_error e ORDER BY error_id LIMIT 1;
-- of import(): the message as text
TRUNCATE profimport.import_error;
SELECT profimport.import('{"feedback_id": "f", "db_id": 3}')->'error';
SELECT convert_from(body, 'UTF8')::jsonb, headers, feedback_id, account_id, db_id FROM profimport.import_error;
