-- SPEC section 3: matching by profile fields, creation, normalisation
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1), (2);
INSERT INTO profimport.database VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO profimport.resource (account_id, resource_id, db_ids) VALUES (1, 10, NULL), (1, 11, '{1}'), (1, 12, '{2}');
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones) VALUES
	(1, 1, 'a', 'a@x.io', '{+10000001,+10000002}'), (1, 1, 'b', 'B@x.io', '{+10000003}'),
	(1, 1, 'tw1', NULL, '{+10000009}'), (1, 1, 'tw2', NULL, '{+10000009,+10000008}'),
	(1, 2, 'a', 'a@x.io', '{+10000002}'), (2, 1, 'other', 'other@x.io', '{+10000007}');

--
-- email (default): field email; no match: create with that email
--
SELECT t.imp('{"email": "a@x.io"}');							-- found
SELECT t.imp('{"matching": "email", "email": "a@x.io"}');
SELECT t.imp('{"email": "A@X.IO"}');							-- the case of ASCII letters is ignored
SELECT t.imp('{"email": "b@X.io"}');
SELECT t.imp(E'{"email": " \\t\\n\\u000b\\f\\ra@x.io \\t\\n\\u000b\\f\\r"}');	-- ASCII white space around is trimmed
SELECT t.imp('{"email": "a@x.io", "db_id": 2, "feedback_id": "2"}');	-- inside the database only
SELECT t.imp('{"email": "other@x.io", "update_only": true}');	-- 404: it is another account's
SELECT t.imp('{"email": "none@x.io", "update_only": true}');	-- 404
SELECT t.imp('{}', 'email');									-- 400: missing, empty, white space, no address
SELECT t.imp('{"email": ""}', 'email');
SELECT t.imp(E'{"email": " \\t"}', 'email');
SELECT t.imp('{"email": "nonsense"}', 'email');
SELECT t.imp('{"email": " New@X.io "}');						-- created, stored as sent, trimmed
SELECT t.imp('{"email": "new@x.io"}');							-- the same again
SELECT t.imp('{"email": "new@x.io", "update_only": true}');
SELECT id, email, phones, data FROM t.profiles WHERE id = 'P1';

--
-- email_profile: the same without subscriptions
--
SELECT t.imp('{"matching": "email_profile", "email": "A@x.io"}');
SELECT t.imp('{"matching": "email_profile", "email": "none@x.io", "update_only": true}');
SELECT t.imp('{"matching": "email_profile"}', 'email');
SELECT t.imp('{"matching": "email_profile", "email": " "}', 'email');
SELECT t.imp('{"matching": "email_profile", "email": "a@"}', 'email');
SELECT t.imp('{"matching": "email_profile", "email": "ep@x.io"}');
SELECT t.imp('{"matching": "email_profile", "email": "ep@x.io"}');

--
-- phone: any element of phones; no match: create with that phone
--
SELECT t.imp('{"matching": "phone", "phone": "+10000001"}');
SELECT t.imp('{"matching": "phone", "phone": "+10000002"}');
SELECT t.imp('{"matching": "phone", "phone": " +1 (000) 00-.02 "}');
SELECT t.imp('{"matching": "phone", "phone": "+10000002", "db_id": 2, "feedback_id": "2"}');
SELECT t.imp('{"matching": "phone", "phone": "+10000007", "update_only": true}');		-- another account's
SELECT t.imp('{"matching": "phone", "phone": "+10000009"}');							-- 409
SELECT t.imp('{"matching": "phone", "phone": "+10000009", "update_only": true}');
SELECT t.imp('{"matching": "phone", "phone": "+10000008"}');							-- only one has this
SELECT t.imp('{"matching": "phone"}', 'phone');
SELECT t.imp('{"matching": "phone", "phone": "", "email": "a@x.io"}', 'phone');
SELECT t.imp('{"matching": "phone", "phone": "   "}', 'phone');
SELECT t.imp('{"matching": "phone", "phone": "10000001"}', 'phone');
SELECT t.imp('{"matching": "phone", "phone": "+2 000 00-01"}');
SELECT t.imp('{"matching": "phone", "phone": "+20000001"}');
SELECT id, email, phones, data FROM t.profiles WHERE id = 'P3';

--
-- email_phone: both; at least one given
--
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io"}');
SELECT t.imp('{"matching": "email_phone", "phone": "+10000001"}');
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io", "phone": "+10000001"}');		-- both hit the same
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io", "phone": "+39999999"}');		-- one hits: not given the other value
SELECT t.imp('{"matching": "email_phone", "email": "none@x.io", "phone": "+10000001"}');
SELECT id, email, phones FROM t.profiles WHERE id = 'a' AND db_id = 1;
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io", "phone": "+10000003"}');		-- two: 409
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io", "phone": "+10000009"}');		-- three
SELECT t.imp('{"matching": "email_phone", "email": "none@x.io", "phone": "+39999999", "update_only": true}');
SELECT t.imp('{"matching": "email_phone"}');												-- 400: both absent
SELECT t.imp('{"matching": "email_phone", "email": "", "phone": " "}');
SELECT t.imp('{"matching": "email_phone", "email": null, "phone": ""}');
SELECT t.imp('{"matching": "email_phone", "email": "", "phone": "+10000001"}');				-- an empty one counts as absent
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io", "phone": "  "}');
SELECT t.imp('{"matching": "email_phone", "email": "a@x.io", "phone": "12"}', 'phone');		-- a wrong one does not
SELECT t.imp('{"matching": "email_phone", "email": "a", "phone": "+10000001"}', 'email');
SELECT t.imp('{"matching": "email_phone", "email": "both@x.io", "phone": "+3 000 0001"}');
SELECT t.imp('{"matching": "email_phone", "email": "both@x.io", "phone": "+30000001"}');
SELECT t.imp('{"matching": "email_phone", "email": "only@x.io", "phone": ""}');
SELECT t.imp('{"matching": "email_phone", "phone": "+30000002"}');
SELECT id, email, phones, data FROM t.profiles WHERE id IN ('P4', 'P5', 'P6');

--
-- profile_id: the profile's id, never creates
--
SELECT t.imp('{"matching": "profile_id", "profile_id": "a"}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "other"}');							-- 404: another account's
SELECT t.imp('{"matching": "profile_id", "profile_id": "A"}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "any id, \" even \\ this", "update_only": true}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "000000000000000000000000"}');
SELECT t.imp('{"matching": "profile_id"}', 'profile_id');
SELECT t.imp('{"matching": "profile_id", "profile_id": ""}', 'profile_id');
SELECT t.imp('{"matching": "profile_id", "profile_id": " \t "}', 'profile_id');
SELECT profimport.import(jsonb_build_object('account_id', 1, 'db_id', 1, 'data', '{}'::jsonb, 'matching', 'profile_id', 'profile_id', t.id('P1')))->>'profile_id' = t.id('P1');

--
-- custom: a declared field with matching, of every matchable type
--
INSERT INTO profimport.field (account_id, db_id, name, type, options, matching) VALUES
	(1, 1, 's', 'string', NULL, true), (1, 1, 'n', 'int', NULL, true), (1, 1, 'fl', 'float', NULL, true), (1, 1, 'bo', 'bool', NULL, true),
	(1, 1, 'd', 'date', NULL, true), (1, 1, 'dt', 'datetime', NULL, true), (1, 1, 'li', 'list', '{red,7}', true), (1, 1, 'ip', 'ip', NULL, true),
	(1, 1, 'tg', 'tags', NULL, true), (1, 1, 'nomatch', 'string', NULL, false), (1, 1, 'o', 'object', NULL, false), (1, 1, 'ao', 'arr_object', NULL, false);
CREATE FUNCTION t.custom(field text, value text, rest text DEFAULT '{}') RETURNS text LANGUAGE sql AS
$$ SELECT t.imp((jsonb_build_object('matching', 'custom', 'field_name', field, 'field_value', value::jsonb) || rest::jsonb)::text, field) $$;
CREATE FUNCTION t.found(field text, value text) RETURNS text LANGUAGE sql AS
$$ SELECT t.custom(field, value, '{"update_only": true}') $$;
INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES
	(1, 1, 'c1', '{"s": "one", "n": 123, "fl": 1.5, "bo": true, "d": "2001-12-31", "dt": "2001-12-31T10:00:00Z", "li": "red", "ip": "10.0.0.1", "tg": ["tag-1", "tag-2", "Tag-3"]}'),
	(1, 1, 'c2', '{"s": "123", "n": -5, "fl": 100, "bo": false, "d": "0001-01-01", "dt": "9999-12-31T23:59:59.123Z", "li": "7", "ip": "2001:db8::1", "tg": ["tag-2", "x"]}'),
	(1, 1, 'c3', '{"tg": ["tag-1", "only"]}'),
	(1, 2, 'c4', '{}');
-- string: exact
SELECT v, t.found('s', v) FROM unnest(ARRAY['"one"', '"123"', '123', '"One"', '" one"', '"none"', '123456789012345678901234567890']) v;
-- int: 123 and "123" both match
SELECT v, t.found('n', v) FROM unnest(ARRAY['123', '"123"', '"0123"', '-5', '"-5"', '124', '"x"', '"1.0"', '" 123"', '9223372036854775808']) v;
-- float
SELECT v, t.found('fl', v) FROM unnest(ARRAY['"1.5"', '"1.50"', '"15e-1"', '100', '"100"', '"100.0"', '"1e2"', '"2.5"', '"x"', '"NaN"']) v;
-- bool
SELECT v, t.found('bo', v) FROM unnest(ARRAY['"true"', '"FALSE"', '"yes"', '1', '0']) v;
-- date, datetime
SELECT v, t.found('d', v) FROM unnest(ARRAY['"2001-12-31"', '"2001-12-31T23:00:00Z"', '"0001-01-01"', '"2002-01-01"', '"31.12.2001"', '20011231']) v;
SELECT v, t.found('dt', v) FROM unnest(ARRAY['"2001-12-31T10:00:00Z"', '"2001-12-31 13:00+03:00"', '"2001-12-31"', '"9999-12-31T23:59:59.123999Z"', '"x"', '1']) v;
-- list: an int counts as its digits
SELECT v, t.found('li', v) FROM unnest(ARRAY['"red"', '"7"', '7', '"Red"', '"blue"', '8']) v;
-- ip
SELECT v, t.found('ip', v) FROM unnest(ARRAY['"10.0.0.1"', '"2001:DB8:0::1"', '"10.0.0.2"', '"10.0.0.1/32"', '1']) v;
-- tags: all of them; split on commas, trimmed, empties dropped, case-sensitive
SELECT v, t.found('tg', v) FROM unnest(ARRAY['"tag-1, tag-2"', '"tag-2,tag-1"', '" ,Tag-3,, "', '"tag-2, x"', '"x"', '"only"', '"tag-1,tag-1 , only"',	-- one
	'"tag-1"', '"tag-2"',											-- 409
	'"TAG-1, tag-2"', '"tag-1, x"', '"tag-1 tag-2"', '5',			-- 404
	'","', '" , ,"']) v;											-- 400: no tag left
SELECT t.custom('tg', '""');										-- 400, the input is empty
SELECT t.custom('tg', '" "');
-- field_value missing, empty, only white space: 400 of the input; field_name too
SELECT t.imp('{"matching": "custom", "field_name": "s"}', 'field_value');
SELECT t.imp('{"matching": "custom", "field_name": "s", "field_value": null}', 'field_value');
SELECT t.imp('{"matching": "custom", "field_name": "s", "field_value": ""}', 'field_value');
SELECT t.imp('{"matching": "custom", "field_name": "s", "field_value": " \t\n"}', 'field_value');
SELECT t.imp('{"matching": "custom", "field_value": "x"}', 'field_name');
SELECT t.imp('{"matching": "custom", "field_name": "", "field_value": "x"}', 'field_name');
SELECT t.imp('{"matching": "custom", "field_name": "  ", "field_value": "x"}', 'field_name');
SELECT t.imp('{"matching": "custom"}', 'field_name');
-- undeclared, declared elsewhere, without matching, not matchable, standard: 400
SELECT f, t.found(f, '"1"') FROM unnest(ARRAY['nope', 'S', ' s', 'nomatch', 'o', 'ao', 'subscriptions', 'profile_id', 'email', 'phones', '_fname', '_lname', '_city', '_region', '_country',
	'_regcity', '_regcountry', '_regurl', '_vendor', '_browser', '_os', '_postal_code', '_tz', '_bdate', '_regdate', '_sex', '_ip', '_regip', '_status']) f;
SELECT t.custom('s', '"one"', '{"db_id": 2}');
-- no match: create with the value
SELECT f, v, t.custom(f, v), t.custom(f, v) FROM (VALUES ('s', '"made"'), ('s', '77'), ('n', '"88"'), ('fl', '"8.80"'), ('d', '"1999-01-01T01:01:01+09:00"'), ('dt', '"1999-01-01T09:00+09:00"'), ('ip', '"10.0.0.9"'), ('tg', '"y , z,y"'), ('tg', '606')) v (f, v);
SELECT id, email, phones, data FROM t.profiles WHERE id ~ '^P' AND id NOT IN ('P1', 'P2', 'P3', 'P4', 'P5', 'P6');
DELETE FROM profimport.profile WHERE profile_id LIKE 'c%';
SELECT f, v, t.custom(f, v), t.custom(f, v) FROM (VALUES ('bo', '"True"'), ('li', '7')) v (f, v);
SELECT data FROM t.profiles WHERE data ?| '{bo,li}';
-- two profiles of one value: 409
INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES (1, 1, 'c5', '{"s": "twice"}'), (1, 1, 'c6', '{"s": "twice"}');
SELECT t.found('s', '"twice"'), t.custom('s', '"twice"');
-- unset, changed: matching follows
SELECT t.imp('{"matching": "profile_id", "profile_id": "c5", "data": {"s": null}}');
SELECT t.found('s', '"twice"');
SELECT t.imp('{"matching": "profile_id", "profile_id": "c6", "data": {"s": "thrice"}}');
SELECT t.found('s', '"twice"'), t.found('s', '"thrice"');

--
-- resource_id: leaves the profile-field half alone; unknown or not open: 404 in every mode
--
SELECT t.imp('{"email": "a@x.io", "resource_id": 10}');
SELECT t.imp('{"email": "a@x.io", "resource_id": 11}');
SELECT t.imp('{"email": "a@x.io", "resource_id": 12}', 'resource_id');
SELECT m, t.imp(format('{"matching": %s, "resource_id": 99, "email": "a@x.io", "phone": "+10000001", "profile_id": "a", "field_name": "s", "field_value": "x", "provider": "p", "subscription_id": "s"}', to_jsonb(m)), 'resource_id')
FROM unnest(ARRAY['email', 'email_profile', 'email_sub', 'phone', 'phone_sub', 'email_phone', 'email_phone_sub', 'push_sub', 'profile_id', 'custom', 'custom_sub']) m;
SELECT t.imp('{"matching": "profile_id", "profile_id": "a", "resource_id": 10}');
SELECT t.imp('{"matching": "custom", "field_name": "s", "field_value": "thrice", "resource_id": 10}');
SELECT t.imp('{"matching": "email_profile", "email": "a@x.io", "resource_id": 10}');
-- it creates no subscription outside the *_sub modes
SELECT t.imp('{"email": "res@x.io", "resource_id": 10}');
SELECT t.imp('{"matching": "phone", "phone": "+40000001", "resource_id": 10}');
SELECT count(*) FROM profimport.subscription;

--
-- A created profile takes the value it was matched by, first; then data is applied to it
--
CREATE FUNCTION t.made(patch text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r jsonb := profimport.import(t.whole(patch));
	d text := profimport.get_profile(1, 1, r->>'profile_id') - 'profile_id' - 'subscriptions';
BEGIN
	DELETE FROM profimport.profile WHERE profile_id = r->>'profile_id';
	RETURN coalesce(d, t.show(r));
END $$;
SELECT t.made('{"email": "m@x.io", "data": {"email": "M2@x.io"}}');										-- data replaces it
SELECT t.made('{"email": "m@x.io", "data": {"_fname": "F", "phones": "+5000 0001"}}');
SELECT t.made('{"email": "m@x.io", "data": {"email": null}}');												-- cannot be unset
SELECT t.made('{"matching": "phone", "phone": "+50000001", "data": {"phones": ["+50000002"]}}');
SELECT t.made('{"matching": "phone", "phone": "+50000001", "data": {"phones": {"action": "add", "value": "+50000002"}}}');
SELECT t.made('{"matching": "phone", "phone": "+50000001", "data": {"phones": {"action": "add", "value": ["+50000001"]}}}');
SELECT t.made('{"matching": "phone", "phone": "+50000001", "data": {"phones": {"action": "delete", "value": "+50000001"}}}') IN ('{}', '{"phones": []}');
SELECT t.made('{"matching": "phone", "phone": "+50000001", "data": {"phones": null}}');
SELECT t.made('{"matching": "phone", "phone": "+50000001", "data": {"email": "m@x.io"}}');
SELECT t.made('{"matching": "custom", "field_name": "n", "field_value": 5000, "data": {"n": {"action": "incr", "value": 1}}}');
SELECT t.made('{"matching": "custom", "field_name": "n", "field_value": 5000, "data": {"n": null}}');
SELECT t.made('{"matching": "custom", "field_name": "n", "field_value": 5000, "data": {"n": 6000}}');
SELECT t.made('{"matching": "custom", "field_name": "tg", "field_value": "m1,m2", "data": {"tg": {"action": "add", "value": "m3,m1"}}}');
SELECT t.made('{"matching": "custom", "field_name": "tg", "field_value": "m1,m2", "data": {"tg": {"action": "delete", "value": ["m1"]}}}');
SELECT t.made('{"matching": "email_phone", "email": "m@x.io", "phone": "+50000001", "data": {"phones": {"action": "add", "value": ["+50000002"]}}}');

--
-- uniqueness: 409
--
INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, 'us', 'string', true), (1, 1, 'un', 'int', true);
SELECT t.imp('{"email": "u1@x.io", "data": {"us": "k", "un": 1}}');
SELECT t.imp('{"email": "u2@x.io", "data": {"us": "k"}}', 'us');
SELECT t.imp('{"email": "u2@x.io", "data": {"un": "1"}}', 'un');
SELECT t.imp('{"email": "u2@x.io", "data": {"us": "K", "un": 2}}');
SELECT t.imp('{"email": "u2@x.io", "data": {"email": "U1@x.io"}}', 'email');
SELECT t.imp('{"email": "u2@x.io", "data": {"un": {"action": "incr", "value": -1}}}', 'un');
SELECT t.imp('{"email": "u2@x.io", "data": {"un": {"action": "incr", "value": 1}}}');
SELECT t.imp('{"matching": "phone", "phone": "+60000001", "data": {"email": "u1@x.io"}}', 'email');		-- on creation
SELECT t.imp('{"matching": "custom", "field_name": "un", "field_value": 1}');								-- is_unique implies matching
SELECT t.imp('{"matching": "custom", "field_name": "un", "field_value": 77, "data": {"us": "k"}}', 'us');
-- one's own value is no conflict, nor its other case; a value given up is free
SELECT t.imp('{"email": "u1@x.io", "data": {"email": "U1@X.io", "us": "k"}}');
SELECT email FROM t.profiles WHERE email ILIKE 'u1@x.io';
SELECT t.imp('{"email": "u1@x.io", "data": {"us": "k2", "email": "u3@x.io"}}');
SELECT t.imp('{"email": "u2@x.io", "data": {"us": "k", "email": "u1@x.io"}}');
-- another database, another world
INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 2, 'us', 'string', true);
SELECT t.imp('{"db_id": 2, "email": "u1@x.io", "data": {"us": "k"}}');
-- created by a match value that data takes to a taken one
SELECT t.imp('{"email": "u9@x.io", "data": {"email": "u3@x.io"}}', 'email');

--
-- normalisation of email
--
CREATE FUNCTION t.mail(e text) RETURNS text LANGUAGE sql AS
$$ SELECT t.made(jsonb_build_object('email', e)::text) $$;
SELECT e, t.mail(e) FROM unnest(ARRAY['x@y', 'Very.Common+tag@Example.ORG', '"q"@y', 'ä@ö.io', 'иван@почта.рф', '.@.', '😀@y']) e;				-- good
SELECT to_jsonb(e), t.mail(e) FROM unnest(ARRAY['@', 'x@', '@y', 'x', 'x@@y', 'x@y@z', 'x y@z', E'x\ty@z', E'x@y\nz', E'x@\x01y', E'x\x7f@y', 'x@y z', ' @y', 'x@ ', E'x\u0085y@z', E'x\u2028@z']) e;	-- 400
SELECT n, left(t.mail(repeat('l', n - 2) || '@y'), 20) FROM unnest(ARRAY[319, 320, 321]) n;					-- at most 320 bytes
SELECT left(t.mail(repeat('ö', 159) || '@y'), 14), t.mail(repeat('ö', 160) || '@y');							-- bytes, not characters
SELECT left(t.mail(repeat(' ', 50) || repeat('l', 318) || '@y' || repeat(E'\t', 50)), 20);						-- after trimming
-- only ASCII letters lose their case
SELECT t.imp('{"email": "ÄA@x.io"}');
SELECT t.imp('{"email": "Äa@X.io", "update_only": true}');
SELECT t.imp('{"email": "äa@x.io", "update_only": true}');

--
-- normalisation of phone: +, a digit 1-9, 6 to 14 digits more
--
CREATE FUNCTION t.call(p text) RETURNS text LANGUAGE sql AS
$$ SELECT t.made(jsonb_build_object('matching', 'phone', 'phone', p)::text) $$;
SELECT p, t.call(p) FROM unnest(ARRAY['+7123456', '+712345678901234', '+7 (999) 123-45.67', '..+7((123))456--7', '+9999999']) p;					-- good
SELECT to_jsonb(p), t.call(p) FROM unnest(ARRAY['+712345', '+7123456789012345', '+0123456', '7123456', '++7123456', '+7123456a', '7+123456', '+', 'phone', '12345',
	'+000000000000', E'+7\t123456', E'+7123456\n', '+7/123456', '+7_123456', '＋7123456', '+７123456', E'+7\u00a0123456', '+7–123456', '()', '+7123456+']) p;			-- 400

--
-- the order of one batch is the order of the queue: created by the first, found by the second
--
SELECT * FROM t.bat('{"email": "q1@x.io", "data": {"n": 1}}', '{"email": "Q1@x.io", "data": {"n": {"action": "incr", "value": 1}}}', '{"email": "q1@x.io", "update_only": true, "data": {"email": "q2@x.io"}}',
	'{"email": "q1@x.io", "update_only": true}', '{"email": "q2@x.io", "data": {"phones": "+60000002"}}', '{"matching": "phone", "phone": "+60000002"}', '{"matching": "custom", "field_name": "n", "field_value": "2"}');
