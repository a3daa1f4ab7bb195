-- SPEC section 5: resources and subscriptions
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1), (2);
INSERT INTO profimport.database VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO profimport.resource (account_id, resource_id, db_ids, categories) VALUES (1, 10, NULL, '{news,ads,"two words"}'), (1, 11, '{1,2}', '{}'), (1, 12, '{2}', '{}'), (1, 13, NULL, '{}'), (2, 20, NULL, '{}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, options, required, matching) VALUES
	(1, 10, 's', 'string', NULL, false, false), (1, 10, 'n', 'int', NULL, false, true), (1, 10, 'fl', 'float', NULL, false, false), (1, 10, 'bo', 'bool', NULL, false, false), (1, 10, 'd', 'date', NULL, false, false),
	(1, 10, 'dt', 'datetime', NULL, false, false), (1, 10, 'li', 'list', '{red}', false, false), (1, 10, 'ip', 'ip', NULL, false, false), (1, 10, 'tg', 'tags', NULL, false, false), (1, 10, 'o', 'object', NULL, false, false),
	(1, 10, 'ao', 'arr_object', NULL, false, false), (1, 11, 'eleven', 'string', NULL, false, false), (1, 13, 'must', 'int', NULL, true, false);
INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, 'p', 'p@x.io'), (1, 1, 'q', NULL);
-- one(element): that subscription for p; what stands there after success, else the result
CREATE FUNCTION t.sub(element text, culprit text DEFAULT NULL, rest text DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r text := t.imp((format('{"matching": "profile_id", "profile_id": "p", "data": {"subscriptions": [%s]}}', element)::jsonb || rest::jsonb)::text, culprit);
BEGIN
	IF r <> '{"error": 0, "error_text": "", "profile_id": "p", "feedback_id": "", "matching_field": "profile_id"}' THEN
		RETURN r;
	END IF;
	RETURN coalesce((SELECT string_agg(concat_ws(' ', resource_id, channel, coalesce(contact, '-'), coalesce(provider, '-'), coalesce(cc_data::text, '-'), status, priority, coalesce(custom_fields, '{}'), coalesce(cats, '{}')), '; ' ORDER BY subscription_no)
		FROM profimport.subscription WHERE profile_id = 'p'), 'none');
END $$;
CREATE FUNCTION t.fresh(element text, culprit text DEFAULT NULL, rest text DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM profimport.subscription WHERE profile_id = 'p';
	RETURN t.sub(element, culprit, rest);
END $$;

--
-- every channel with its contact
--
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": " Sub@x.io "}');			-- normalised as everywhere
SELECT c, t.fresh(format('{"resource_id": 10, "channel": %s, "phone": "+1 (000) 00-01"}', to_jsonb(c))) FROM unnest(ARRAY['sms', 'viber', 'whatsapp', 'notify']) c;
SELECT t.fresh('{"resource_id": 10, "channel": "push", "provider": "android-firebase", "subscription_id": "Token:1"}');
SELECT t.fresh('{"resource_id": 10, "channel": "telegram_bot", "cc_data": {"chat_id": 5, "b": null}}');
-- contact missing, null, empty, of the wrong type, wrong
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "email", "phone": "+10000001" %s}', v), 'email') FROM unnest(ARRAY['', ', "email": null', ', "email": ""', ', "email": " "', ', "email": 1', ', "email": ["a@x.io"]', ', "email": "x"', ', "email": "a@b@c"']) v;
SELECT c, v, t.fresh(format('{"resource_id": 10, "channel": %s, "email": "a@x.io" %s}', to_jsonb(c), v), 'phone') FROM unnest(ARRAY['sms', 'viber', 'whatsapp', 'notify']) c, unnest(ARRAY['', ', "phone": null', ', "phone": ""', ', "phone": 10000001', ', "phone": "10000001"']) v;
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "push", "subscription_id": "t" %s}', v), 'provider') FROM unnest(ARRAY['', ', "provider": null', ', "provider": ""', ', "provider": " "', ', "provider": 1', ', "provider": {}']) v;
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "push", "provider": "t" %s}', v), 'subscription_id') FROM unnest(ARRAY['', ', "subscription_id": null', ', "subscription_id": ""', ', "subscription_id": " "', ', "subscription_id": 1', ', "subscription_id": {}']) v;
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "telegram_bot", "email": "a@x.io" %s}', v), 'cc_data') FROM unnest(ARRAY['', ', "cc_data": null']) v;

--
-- resource_id, channel
--
SELECT v, t.fresh(format('{"channel": "email", "email": "a@x.io" %s}', v), 'resource_id') FROM unnest(ARRAY['', ', "resource_id": null', ', "resource_id": "10"', ', "resource_id": 10.0', ', "resource_id": 0', ', "resource_id": -1', ', "resource_id": 2147483648', ', "resource_id": [10]',	-- 400
	', "resource_id": 99', ', "resource_id": 12', ', "resource_id": 20']) v;																				-- 404: unknown, closed, another account's
SELECT v, t.fresh(format('{"resource_id": 10, "email": "a@x.io", "phone": "+10000001" %s}', v), 'channel') FROM unnest(ARRAY['', ', "channel": null', ', "channel": 1', ', "channel": ""', ', "channel": "Email"', ', "channel": "fax"', ', "channel": "telegram"', ', "channel": ["email"]']) v;
SELECT t.fresh('{"resource_id": 1.1e1, "channel": "email", "email": "a@x.io", "id": 5, "sub": {}, "contact": 7}');		-- 11; other keys are ignored
-- the element, the array
SELECT v, t.fresh(v) FROM unnest(ARRAY['1', '"x"', 'null', '[]', 'true', '{}']) v;
SELECT v, t.imp(format('{"matching": "profile_id", "profile_id": "p", "data": {"subscriptions": %s}}', v), 'subscriptions') FROM unnest(ARRAY['null', '[]', '{}', '"x"', '1', 'true', '{"action": "set", "value": []}', '{"action": "unset"}']) v;

--
-- status: word, number or digit string; absent or -1 leaves it; new: 0
--
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": %s}', v), 'status') FROM unnest(ARRAY['0', '1', '2', '3', '4', '5', '6', '"0"', '"6"', '"subscribed"', '"unsubscribed"', '"complained"', '"hardbounced"', '"unconfirmed"', '"suspended"', '"invalid"', '-1', '"-1"']) v;
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": %s}', v), 'status') FROM unnest(ARRAY['7', '-2', '"7"', '"-2"', '1.0', '"x"', '""', 'true', '[]', '{}']) v;
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": "complained", "priority": 7}');
SELECT v, t.sub(format('{"resource_id": 10, "channel": "email", "email": "a@x.io" %s}', v)) FROM unnest(ARRAY['', ', "status": -1, "priority": -1', ', "status": "-1"', ', "status": 0', ', "priority": 0', ', "priority": -1']) v;
--
-- priority: int
--
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "priority": %s}', v), 'priority') FROM unnest(ARRAY['5', '0', '-1', '-2', '1e2', '2147483647', '-2147483648']) v;
SELECT v, t.fresh(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "priority": %s}', v), 'priority') FROM unnest(ARRAY['"5"', '1.5', '1.0', '2147483648', '-2147483649', '9223372036854775808', 'true', '[]', '{}']) v;

--
-- custom_fields: declared in resource_field, same types
--
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {"s": "x", "n": "12", "fl": "1.50", "bo": "TRUE", "d": "2001-12-31T10:00", "dt": "2001-12-31 10:00+03:00", "li": "red", "ip": "2001:DB8::1", "tg": "b, a,b", "o": {"x": 1}, "ao": [{"y": 1}]}}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "A@x.io", "custom_fields": {"s": null, "n": 13}}');			-- merges, null unsets
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "A@x.io", "custom_fields": {}}');
SELECT f, t.sub(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {%s: %s}}', to_jsonb(f), v), f)
FROM (VALUES ('s', '1'), ('n', '1.5'), ('fl', '"NaN"'), ('bo', '1'), ('d', '"x"'), ('dt', '"x"'), ('li', '"blue"'), ('ip', '"::1/128"'), ('tg', '[1]'), ('o', '[]'), ('ao', '{}'), ('nope', '1'), ('eleven', '"x"'), ('_fname', '"x"'), ('email', '"a@x.io"')) v (f, v);
SELECT v, t.sub(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": %s}', v), 'custom_fields') FROM unnest(ARRAY['[]', '"x"', '1', 'true']) v;
-- the same functional updates
SELECT f, t.fresh(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {%s: %s}}', to_jsonb(f), v), f), t.sub(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {%s: %s}}', to_jsonb(f), v), f)
FROM (VALUES ('s', '{"action": "set", "value": "x"}'), ('n', '{"action": "incr", "value": 2}'), ('fl', '{"action": "incr", "value": "0.5"}'), ('tg', '{"action": "add", "value": "a,b"}'), ('tg', '{"action": "delete", "value": "a"}'),
	('ao', '{"action": "add", "value": {"a": 1}}'), ('o', '{"action": "upsert", "value": 1, "submatch": "a.b"}'), ('s', '{"action": "unset"}'), ('s', '{"action": "add", "value": "x"}'), ('n', '{"action": "upsert", "value": 1, "submatch": "a"}'), ('n', '{"action": "incr"}'), ('n', '{"action": "x"}')) v (f, v);
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {"n": 9223372036854775807, "o": {"a": 1}}}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {"n": {"action": "incr", "value": 1}}}', 'n');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {"o": {"action": "upsert", "value": 1, "submatch": "a.b"}}}', 'o');
-- required: present when the subscription is created, never unset
SELECT t.fresh('{"resource_id": 13, "channel": "email", "email": "a@x.io"}', 'must');
SELECT t.fresh('{"resource_id": 13, "channel": "email", "email": "a@x.io", "custom_fields": {"must": null}}', 'must');
SELECT t.fresh('{"resource_id": 13, "channel": "email", "email": "a@x.io", "custom_fields": {"must": 1}}');
SELECT t.sub('{"resource_id": 13, "channel": "email", "email": "a@x.io", "status": 1}');
SELECT t.sub('{"resource_id": 13, "channel": "email", "email": "a@x.io", "custom_fields": {"must": null}}', 'must');
SELECT t.sub('{"resource_id": 13, "channel": "email", "email": "a@x.io", "custom_fields": {"must": {"action": "unset"}}}', 'must');

--
-- cats: names of the resource's categories; replaces
--
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "cats": ["ads", "news"]}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "a@x.io"}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "a@x.io", "cats": ["two words"]}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "a@x.io", "cats": []}');
SELECT v, t.sub(format('{"resource_id": 10, "channel": "email", "email": "a@x.io", "cats": %s}', v), 'cats') FROM unnest(ARRAY['["nope"]', '["news", "Ads"]', '"news"', '[1]', '[null]', '{}', '1', '[["news"]]', '[""]']) v;
SELECT t.sub('{"resource_id": 11, "channel": "email", "email": "a@x.io", "cats": ["news"]}', 'cats');		-- another resource's

--
-- identity: (resource_id, channel, contact) within the profile
--
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "email", "email": "b@x.io"}, {"resource_id": 11, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "sms", "phone": "+10000001"}, {"resource_id": 10, "channel": "viber", "phone": "+10000001"},
	{"resource_id": 10, "channel": "push", "provider": "x", "subscription_id": "t"}, {"resource_id": 10, "channel": "push", "provider": "y", "subscription_id": "t"}, {"resource_id": 10, "channel": "push", "provider": "x", "subscription_id": "T"},
	{"resource_id": 10, "channel": "telegram_bot", "cc_data": {"a": 1, "b": 2}}, {"resource_id": 10, "channel": "telegram_bot", "cc_data": {"a": 1}}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "A@X.io", "status": 1}, {"resource_id": 10, "channel": "sms", "phone": "+1 0000001", "status": 2}, {"resource_id": 10, "channel": "push", "provider": "y", "subscription_id": "t", "status": 3}, {"resource_id": 10, "channel": "telegram_bot", "cc_data": {"b": 2, "a": 1.0}, "status": 4}');
-- array order: the same contact twice in one message
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": 1, "custom_fields": {"n": 1}}, {"resource_id": 10, "channel": "email", "email": "A@x.io", "status": 2, "custom_fields": {"n": {"action": "incr", "value": 1}}}');
-- the same contact of another profile is another subscription
SELECT t.imp('{"matching": "profile_id", "profile_id": "q", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": 5}]}}');
SELECT * FROM t.subs;
SELECT t.imp('{"email": "a@x.io"}');				-- 409

--
-- one invalid element fails the message, wherever it stands
--
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "email", "email": "x"}', 'email');
SELECT t.fresh('{"resource_id": 99, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "email", "email": "a@x.io"}', 'resource_id');
SELECT count(*) FROM profimport.subscription WHERE profile_id = 'p';
-- skip_invalid_subscriptions: it is dropped, the others count
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "email", "email": "x"}, 1, null, {}, {"resource_id": 99, "channel": "email", "email": "a@x.io"}, {"resource_id": 12, "channel": "email", "email": "a@x.io"}, {"resource_id": 10, "channel": "fax"},
	{"resource_id": 10, "channel": "email", "email": "n@x.io", "status": 9}, {"resource_id": 10, "channel": "email", "email": "n@x.io", "priority": "1"}, {"resource_id": 10, "channel": "email", "email": "n@x.io", "custom_fields": {"nope": 1}}, {"resource_id": 10, "channel": "email", "email": "n@x.io", "custom_fields": {"n": "x"}},
	{"resource_id": 10, "channel": "email", "email": "n@x.io", "cats": ["nope"]}, {"resource_id": 10, "channel": "sms", "phone": "+10000001"}', NULL, '{"skip_invalid_subscriptions": true}');
-- also when it shows only on the stored value, or is a condition of creation
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "custom_fields": {"n": 9223372036854775807}}');
SELECT t.sub('{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": 1, "custom_fields": {"n": {"action": "incr", "value": 1}}}, {"resource_id": 13, "channel": "email", "email": "a@x.io"}, {"resource_id": 11, "channel": "email", "email": "a@x.io"}', NULL, '{"skip_invalid_subscriptions": true}');
-- all of them invalid: a success without change; not an array is still a 400, and so is a wrong field
SELECT t.fresh('{"resource_id": 10, "channel": "email"}', NULL, '{"skip_invalid_subscriptions": true}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "p", "skip_invalid_subscriptions": true, "data": {"subscriptions": 1}}', 'subscriptions');
SELECT t.imp('{"matching": "profile_id", "profile_id": "p", "skip_invalid_subscriptions": true, "data": {"nope": 1, "subscriptions": []}}', 'nope');

--
-- a creation brings its subscriptions; a failure leaves neither
--
SELECT t.imp('{"email": "new@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "new@x.io"}, {"resource_id": 10, "channel": "sms", "phone": "+10000009"}]}}');
SELECT * FROM t.subs WHERE id = 'P1';
SELECT t.imp('{"email": "new2@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "new2@x.io"}, {"resource_id": 13, "channel": "sms", "phone": "+10000009"}]}}', 'must');
SELECT count(*) FROM profimport.subscription WHERE contact = 'new2@x.io';

--
-- an update that changes nothing writes nothing; a pure subscription change leaves the profile's row
--
SELECT t.fresh('{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": 1, "priority": 2, "cats": ["ads"], "custom_fields": {"n": 1}}');
SELECT xmin AS px, updated_at AS pu FROM profimport.profile WHERE profile_id = 'p' \gset
SELECT t.state() AS before \gset
SELECT * FROM t.bat('{"matching": "profile_id", "profile_id": "p", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": " A@x.io", "status": "unsubscribed", "priority": 2, "cats": ["ads"], "custom_fields": {"n": "1", "s": null}}]}}',
	'{"matching": "profile_id", "profile_id": "p", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "a@x.io"}]}}');
SELECT t.state() = :'before';
SELECT * FROM t.bat('{"matching": "profile_id", "profile_id": "p", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "a@x.io", "status": 2}]}}');
SELECT xmin = :'px', updated_at = :'pu' FROM profimport.profile WHERE profile_id = 'p';
SELECT updated_at > created_at FROM profimport.subscription WHERE profile_id = 'p';
