-- SPEC section 1: the message
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1), (100), (2147483647);
INSERT INTO profimport.database VALUES (1, 1), (1, 100), (1, 2147483647), (100, 1), (2147483647, 1);
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'o', 'object');
INSERT INTO profimport.profile (account_id, db_id, profile_id) VALUES (1, 1, 'p'), (1, 100, 'p'), (1, 2147483647, 'p'), (100, 1, 'p'), (2147483647, 1, 'p');

-- m(patch): a message that finds p and changes nothing; m(patch, key): without that key
CREATE FUNCTION t.m(patch text, culprit text DEFAULT NULL) RETURNS text LANGUAGE sql AS
$$ SELECT t.imp((jsonb '{"matching": "profile_id", "profile_id": "p"}' || patch::jsonb)::text, culprit) $$;

-- the example of the format, on no profile (404) and on an existing one
SELECT t.raw('{"account_id":1,"data":{"_fname":"John","_lname":"Doe"},"db_id":1,"email":"example@example.com","feedback_id":"abcdefghijklmnqrstuvwxyz","update_only":true}');
INSERT INTO profimport.profile (account_id, db_id, email) VALUES (1, 1, 'example@example.com');
SELECT t.raw('{"account_id":1,"data":{"_fname":"John","_lname":"Doe"},"db_id":1,"email":"example@example.com","feedback_id":"abcdefghijklmnqrstuvwxyz","update_only":true}');

--
-- account_id: int 1 ... 2147483647, required
--
SELECT t.m('{}');
SELECT t.raw('{"db_id": 1, "data": {}, "matching": "profile_id", "profile_id": "p"}', 'account_id');	-- required
SELECT t.m('{"account_id": null}', 'account_id');		-- null for a required key: 400
SELECT t.m('{"account_id": "1"}', 'account_id');		-- "1" is not an int
SELECT t.m('{"account_id": 1.0}', 'account_id');		-- 1.0 is not an int
SELECT t.m('{"account_id": 1.5}', 'account_id');
SELECT t.m('{"account_id": true}', 'account_id');
SELECT t.m('{"account_id": [1]}', 'account_id');
SELECT t.m('{"account_id": {}}', 'account_id');
SELECT t.m('{"account_id": 0}', 'account_id');			-- range
SELECT t.m('{"account_id": -0}', 'account_id');
SELECT t.m('{"account_id": -1}', 'account_id');
SELECT t.m('{"account_id": 2147483648}', 'account_id');
SELECT t.m('{"account_id": 4294967297}', 'account_id');
SELECT t.m('{"account_id": 18446744073709551617}', 'account_id');
SELECT t.m('{"account_id": 1e100}', 'account_id');
SELECT t.m('{"account_id": 2147483647}');				-- the largest
SELECT t.m('{"account_id": 1e2}');						-- 1e2 is 100
SELECT t.m('{"account_id": 10e-1}');					-- jsonb prints 1.0: not an int
SELECT t.m('{"account_id": 2}');						-- 404, not 400

--
-- db_id: the same
--
SELECT t.raw('{"account_id": 1, "data": {}, "matching": "profile_id", "profile_id": "p"}', 'db_id');
SELECT t.m('{"db_id": null}', 'db_id');
SELECT t.m('{"db_id": "1"}', 'db_id');
SELECT t.m('{"db_id": 1.0}', 'db_id');
SELECT t.m('{"db_id": false}', 'db_id');
SELECT t.m('{"db_id": []}', 'db_id');
SELECT t.m('{"db_id": {"a": 1}}', 'db_id');
SELECT t.m('{"db_id": 0}', 'db_id');
SELECT t.m('{"db_id": -2147483648}', 'db_id');
SELECT t.m('{"db_id": 2147483648}', 'db_id');
SELECT t.m('{"db_id": 2147483647}');
SELECT t.m('{"db_id": 1e2}');
SELECT t.m('{"db_id": 2}');								-- 404

--
-- data: object, required, may be {}
--
SELECT t.raw('{"account_id": 1, "db_id": 1, "matching": "profile_id", "profile_id": "p"}', 'data');
SELECT t.m('{"data": null}', 'data');
SELECT t.m('{"data": []}', 'data');
SELECT t.m('{"data": "{}"}', 'data');
SELECT t.m('{"data": 1}', 'data');
SELECT t.m('{"data": true}', 'data');
SELECT t.m('{"data": {}}');

--
-- matching: string, default "email"; matching_field is "" if it is not known
--
SELECT t.m('{"matching": 1}', 'matching');
SELECT t.m('{"matching": true}', 'matching');
SELECT t.m('{"matching": {}}', 'matching');
SELECT t.m('{"matching": ["email"]}', 'matching');
SELECT t.m('{"matching": ""}', 'matching');
SELECT t.m('{"matching": "Email"}', 'matching');
SELECT t.m('{"matching": "email "}', 'matching');
SELECT t.m('{"matching": "emails"}', 'matching');
SELECT t.m('{"matching": "profile"}', 'matching');
SELECT t.m('{"matching": null}', 'email');				-- as absent: "email", whose input is missing
SELECT t.m('{"matching": null, "email": "example@example.com"}');
SELECT t.raw('{"account_id": 1, "db_id": 1, "data": {}, "email": "example@example.com"}');

--
-- the strings: wrong type is a 400 also for keys the mode does not use, null is absence
--
SELECT k, v, t.m(format('{%s: %s}', to_jsonb(k), v), k)
FROM unnest(ARRAY['email', 'phone', 'field_name', 'provider', 'subscription_id', 'feedback_id']) WITH ORDINALITY k (k, a),
	unnest(ARRAY['1', 'true', '[]', '{}', 'null', '""', '"x"']) WITH ORDINALITY v (v, b)
ORDER BY a, b;
SELECT t.m('{"profile_id": 1}', 'profile_id');
SELECT t.m('{"profile_id": null}', 'profile_id');		-- the mode's own input
SELECT t.raw('{"account_id": 1, "db_id": 1, "data": {}, "email": "example@example.com", "profile_id": 1}', 'profile_id');
SELECT t.raw('{"account_id": 1, "db_id": 1, "data": {}, "email": "example@example.com", "profile_id": null}');
SELECT t.raw('{"account_id": 1, "db_id": 1, "data": {}, "email": "example@example.com", "profile_id": ""}');

--
-- field_value: int or string
--
SELECT v, t.m(format('{"field_value": %s}', v), 'field_value')
FROM unnest(ARRAY['1', '-1', '0', '1e2', '123456789012345678901234567890', '"x"', '""', 'null',	-- good
	'1.0', '1.5', 'true', '[]', '{}']) WITH ORDINALITY v (v, b)									-- 400
ORDER BY b;

--
-- resource_id: int, same range; unknown: 404 whenever given
--
SELECT v, t.m(format('{"resource_id": %s}', v), 'resource_id')
FROM unnest(ARRAY['null',													-- good
	'"1"', '1.0', '0', '-1', '2147483648', 'true', '[]', '{}',				-- 400
	'1', '2147483647']) WITH ORDINALITY v (v, b)							-- 404
ORDER BY b;

--
-- the bools
--
SELECT k, v, t.m(format('{%s: %s}', to_jsonb(k), v), k)
FROM unnest(ARRAY['update_only', 'skip_triggers', 'skip_invalid_subscriptions']) WITH ORDINALITY k (k, a),
	unnest(ARRAY['true', 'false', 'null', '"true"', '1', '0', '""', '[]', '{}']) WITH ORDINALITY v (v, b)
ORDER BY a, b;

--
-- feedback_id: echoed as it is
--
SELECT t.m('{"feedback_id": "abc"}');
SELECT t.m('{"feedback_id": " \t\"quoted\" \\ / тест 😀 \u00e9\u0001 "}');
SELECT t.m('{"feedback_id": ""}');
SELECT length(profimport.import(('{"account_id": 1, "db_id": 1, "data": {}, "matching": "profile_id", "profile_id": "p", "feedback_id": "' || repeat('ю', 100000) || '"}')::jsonb)->>'feedback_id');

--
-- unknown extra keys are ignored; keys are case-sensitive
--
SELECT t.m('{"detect_geo": true, "Account_id": "x", "MATCHING": 5, "": null, "subscriptions": 7, "error": 1}');
SELECT t.raw('{"Account_id": 1, "db_id": 1, "data": {}, "matching": "profile_id", "profile_id": "p"}', 'account_id');

--
-- of a duplicated key the last one counts
--
SELECT t.body('{"account_id":"x","account_id":1,"db_id":1,"data":7,"data":{},"matching":"nope","matching":"profile_id","profile_id":"p","feedback_id":"a","feedback_id":"b"}');
SELECT t.body('{"account_id":1,"account_id":"x","db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"a","feedback_id":"b"}', 'account_id');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","matching":"nope","profile_id":"p","feedback_id":"a","feedback_id":7}', 'matching');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":1,"_fname":"A"},"matching":"profile_id","profile_id":"p"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":"B","_fname":1},"matching":"profile_id","profile_id":"p"}', '_fname');
SELECT t.stored('_fname');

--
-- not JSON, not an object: 400, nothing to echo
--
SELECT b, t.body(b) FROM unnest(ARRAY['', ' ', 'null', 'true', '1', '"x"', '[]', '[{}]', '{', '}', '{]', '{}{}', '{} x', '{"a":1,}', '{,}', '{"a"}',
	'{''a'':1}', '{a:1}', '{"account_id":01}', '{"account_id":+1}', '{"account_id":.5}', '{"account_id":NaN}', '{"a":"\x"}',
	'{"a":"\u12"}', '{"a":"', '{"a":tru}', '{"a":"' || chr(10) || '"}', '/**/{}', chr(65279) || '{}', '{"feedback_id":"x"', '{"feedback_id":"x"}]']) b;
-- an object it is, though: the keys are missing, and "matching" is absent, hence email
SELECT t.body('{}', 'account_id');
SELECT t.body(E' \n\t\r{ } \n', 'account_id');
SELECT t.body(E'\n\t\r {"account_id":1,\n"db_id":1 ,\t"data": { } ,"matching":"profile_id","profile_id":"p"}\r\n');
-- half of a surrogate pair is JSON that cannot be stored: like \u0000
SELECT s, t.body('{"account_id":1,"db_id":1,"data":{},"email":"a@x.io","feedback_id":"f","x":"' || s || '"}', 'surrogate') FROM unnest(ARRAY['\ud800', '\udc00', '\udc00\ud800', '\ud800x', '\ud800\n', '\ud800\u0041', '\ud800\ud800\udc00']) s;
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"email":"a@x.io","feedback_id":"f\ud800"}', 'surrogate'), t.body('{"account_id":1,"db_id":1,"data":{"\udfff":1},"email":"a@x.io","feedback_id":"f"}', 'surrogate');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":"\ud83d\ude00"},"matching":"profile_id","profile_id":"p"}');
-- not valid UTF-8: 400, nothing to echo
SELECT t.byte('\xff');
SELECT t.byte(convert_to('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","z":"', 'UTF8') || b || '\x227d'::bytea)
FROM unnest(ARRAY['\x', '\xf09f9880', '\xff', '\xc3', '\xc080', '\xeda080', '\xf4908080', '\x80', '\x00']::bytea[]) b;	-- the first two are good

--
-- \u0000: 400 wherever it stands; feedback_id and matching_field are echoed
--
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":"a\u0000b"},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","extra":"\u0000"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","ex\u0000tra":1}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","extra":[{"a":["\u0000"]}]}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x\u0000y"}');		-- cannot be echoed: ""
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"nope","feedback_id":"x","extra":"\u0000"}');						-- matching is not known: ""
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"feedback_id":7,"extra":"\u0000"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":"a\\u0000b"},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');	-- an escaped backslash: good
SELECT t.stored('_fname');
SELECT t.body('{"feedback_id":"x","extra":"\u0000"');				-- not JSON

--
-- depth: 128 brackets open at once are good, 129 are a 400; feedback_id is echoed
--
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","z":' || repeat('[', 127) || repeat(']', 127) || '}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","z":' || repeat('[', 128) || repeat(']', 128) || '}');
SELECT t.body('{"z":' || repeat('[', 128) || repeat(']', 128) || ',"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","z":' || repeat('{"a":', 127) || '1' || repeat('}', 127) || '}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","z":' || repeat('{"a":', 128) || '1' || repeat('}', 128) || '}');
-- brackets that are closed again do not count, nor do those in strings
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","z":[' || repeat('[[[]]],', 500) || '"' || repeat('[', 500) || '"]}');
-- within data: {"data": {"o": ...}} leaves 126
SELECT t.body('{"account_id":1,"db_id":1,"data":{"o":' || repeat('{"a":', 126) || '1' || repeat('}', 126) || '},"matching":"profile_id","profile_id":"p"}');
SELECT length(t.stored('o'));
SELECT t.body('{"account_id":1,"db_id":1,"data":{"o":' || repeat('{"a":', 127) || '1' || repeat('}', 127) || '},"matching":"profile_id","profile_id":"p"}');
-- far too deep is no other case, and must not hurt the server
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x","z":' || repeat('[', 400000) || repeat(']', 400000) || '}');
SELECT t.body(repeat('[', 1000000));
SELECT t.body('{"a":' || repeat('{"a":', 100000));
-- import() knows the same limit
SELECT t.raw(('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","z":' || repeat('[', 127) || repeat(']', 127) || '}')::jsonb);
SELECT t.raw(('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","z":' || repeat('[', 128) || repeat(']', 128) || '}')::jsonb);

--
-- size: max_message_size (1MB) is good, a byte more is a 400, nothing echoed
--
SELECT t.body(rpad('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x"}', 1048576));
SELECT t.body(rpad('{"account_id":1,"db_id":1,"data":{},"matching":"profile_id","profile_id":"p","feedback_id":"x"}', 1048577));
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":"' || repeat('x', 2000000) || '"},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
-- bytes are counted, not characters
SELECT t.body('{"account_id":1,"db_id":1,"data":{"_fname":"' || repeat('ю', 600000) || '"},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
-- the body is kept as received, cut at the limit
SELECT length(body), error, feedback_id, account_id, db_id FROM profimport.import_error ORDER BY error_id DESC LIMIT 3;

--
-- numbers that are short here and long when jsonb writes them: a megabyte more is the limit
--
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'swell', 'arr_object');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"o":{"a":[1e131071,1e-16383,-1.5e131070,1e300]}},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT length(t.stored('o'));
SELECT t.body('{"account_id":1,"db_id":1,"data":{"o":{"a":[' || repeat('1e131071,', 8) || '1]}},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"o":{"a":[' || repeat('1e131071,', 9) || '1]}},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"o":{"a":[' || repeat('0e-16383,', 100) || '1]}},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{},"z":[' || repeat('1e131071,', 100000) || '1],"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
-- nor does an upsert multiply one
SELECT t.body('{"account_id":1,"db_id":1,"data":{"swell":[' || repeat('{"a":1},', 3000) || '{"a":1}]},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"swell":{"action":"upsert","submatch":"a","value":1e131071}},"matching":"profile_id","profile_id":"p","feedback_id":"x"}', 'swell');
SELECT t.body('{"account_id":1,"db_id":1,"data":{"swell":{"action":"upsert","submatch":"a","value":1e300}},"matching":"profile_id","profile_id":"p","feedback_id":"x"}');

--
-- every failure of this test stands in import_error
--
SELECT error, count(*) > 0 FROM profimport.import_error GROUP BY error ORDER BY error;
SELECT count(*) FROM profimport.import_error WHERE error_text = '' OR error_text IS NULL OR retried_at IS NOT NULL OR resolved_at IS NOT NULL OR body IS NULL OR occurred_at IS NULL;
