-- SPEC section 3: matching by subscriptions
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1), (2);
INSERT INTO profimport.database VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO profimport.resource (account_id, resource_id, db_ids, categories) VALUES (1, 10, NULL, '{news,ads}'), (1, 11, '{1}', '{}'), (1, 12, '{2}', '{}'), (1, 13, '{1,2}', '{}'), (2, 10, NULL, '{}');
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones) VALUES
	(1, 1, 'a', 'a@x.io', '{+10000001}'), (1, 1, 'b', 'b@x.io', NULL), (1, 1, 'c', NULL, NULL), (1, 1, 'd', NULL, NULL),
	(1, 2, 'e', NULL, NULL), (2, 1, 'f', NULL, NULL);
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, provider) VALUES
	(1, 1, 'a', 10, 'email', 'sub-a@x.io', NULL), (1, 1, 'a', 10, 'sms', '+10000002', NULL), (1, 1, 'a', 10, 'push', 'tok-a', 'ios'),
	(1, 1, 'b', 11, 'email', 'Sub-B@x.io', NULL), (1, 1, 'b', 11, 'sms', '+10000003', NULL), (1, 1, 'b', 11, 'push', 'tok-b', 'ios'),
	(1, 1, 'c', 10, 'email', 'shared@x.io', NULL), (1, 1, 'c', 10, 'sms', '+10000004', NULL), (1, 1, 'c', 10, 'push', 'shared', 'ios'),
	(1, 1, 'd', 11, 'email', 'shared@x.io', NULL), (1, 1, 'd', 11, 'sms', '+10000004', NULL), (1, 1, 'd', 11, 'push', 'shared', 'ios'),
	(1, 1, 'c', 10, 'email', 'a@x.io', NULL), (1, 1, 'c', 10, 'sms', '+10000001', NULL),
	(1, 1, 'b', 10, 'viber', '+10000005', NULL), (1, 1, 'b', 10, 'whatsapp', '+10000006', NULL), (1, 1, 'b', 10, 'notify', '+10000007', NULL),
	(1, 2, 'e', 10, 'email', 'e@x.io', NULL), (2, 1, 'f', 10, 'email', 'f@x.io', NULL);
SELECT * FROM t.subs;

--
-- email: field and subscriptions united
--
SELECT t.imp('{"email": "sub-a@x.io"}');							-- by subscription
SELECT t.imp('{"email": " SUB-b@X.io "}');
SELECT t.imp('{"email": "b@x.io"}');								-- by field
SELECT t.imp('{"email": "a@x.io"}');								-- field of a, subscription of c: 409
SELECT t.imp('{"email": "shared@x.io"}');							-- subscriptions of c and d
SELECT t.imp('{"email": "shared@x.io", "update_only": true}');
SELECT t.imp('{"email": "e@x.io", "update_only": true}');			-- another database's
SELECT t.imp('{"email": "f@x.io", "update_only": true}');			-- another account's
-- a found profile is not given the match value
SELECT t.imp('{"email": "sub-a@x.io", "data": {"_fname": "A"}}');
SELECT id, email, phones, data FROM t.profiles WHERE id = 'a';
-- resource_id narrows the subscription half only
SELECT t.imp('{"email": "shared@x.io", "resource_id": 10}');
SELECT t.imp('{"email": "shared@x.io", "resource_id": 11}');
SELECT t.imp('{"email": "a@x.io", "resource_id": 11}');				-- the field is left
SELECT t.imp('{"email": "a@x.io", "resource_id": 10}');				-- 409
SELECT t.imp('{"email": "sub-a@x.io", "resource_id": 11, "update_only": true}');		-- 404
SELECT t.imp('{"email": "shared@x.io", "resource_id": 13, "update_only": true}');
SELECT t.imp('{"email": "shared@x.io", "resource_id": 12, "update_only": true}', 'resource_id');
-- both halves on the same profile are one
SELECT t.imp('{"email": "b@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "b@x.io"}]}}');
SELECT t.imp('{"email": "b@x.io"}');

--
-- email_profile: no subscriptions
--
SELECT t.imp('{"matching": "email_profile", "email": "a@x.io"}');
SELECT t.imp('{"matching": "email_profile", "email": "sub-a@x.io", "update_only": true}');		-- 404
SELECT t.imp('{"matching": "email_profile", "email": "shared@x.io", "update_only": true}');
SELECT t.imp('{"matching": "email_profile", "email": "shared@x.io"}');							-- created
SELECT t.imp('{"matching": "email_profile", "email": "shared@x.io", "resource_id": 10}');
DELETE FROM profimport.profile WHERE email = 'shared@x.io';

--
-- email_sub: email subscriptions only
--
SELECT t.imp('{"matching": "email_sub", "email": "Sub-a@x.io"}');
SELECT t.imp('{"matching": "email_sub", "email": "a@x.io"}');									-- c's subscription, not a's field
SELECT t.imp('{"matching": "email_sub", "email": "shared@x.io"}');								-- 409
SELECT t.imp('{"matching": "email_sub", "email": "shared@x.io", "resource_id": 11}');
SELECT t.imp('{"matching": "email_sub", "email": "shared@x.io", "resource_id": 13, "update_only": true}');	-- 404
SELECT t.imp('{"matching": "email_sub", "email": "+10000002", "resource_id": 10}', 'email');
SELECT t.imp('{"matching": "email_sub", "resource_id": 10}', 'email');
SELECT t.imp('{"matching": "email_sub", "email": " ", "resource_id": 10}', 'email');
-- no match: create with a subscription; without resource_id 400; 404 under update_only
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io"}', 'resource_id');
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io", "update_only": true}');
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io", "resource_id": 12}', 'resource_id');	-- 404
SELECT t.imp('{"matching": "email_sub", "email": " ES@x.io", "resource_id": 10}');
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io", "resource_id": 10}');
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io"}');										-- found: no resource needed
SELECT * FROM t.profiles WHERE id LIKE 'P%';
SELECT * FROM t.subs WHERE id LIKE 'P%';
-- found in another resource: not subscribed to this one; not found in this one: a second profile
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io", "resource_id": 11}');
SELECT t.imp('{"matching": "email_sub", "email": "es@x.io"}');										-- now 409
-- merged with an equal element of data.subscriptions
SELECT t.imp('{"matching": "email_sub", "email": "merge@x.io", "resource_id": 10, "data": {"subscriptions": [
	{"resource_id": 11, "channel": "email", "email": "merge@x.io", "status": 1},
	{"resource_id": 10, "channel": "email", "email": "Merge@x.io", "status": "hardbounced", "priority": 4, "cats": ["ads"]}]}}');
SELECT resource_id, channel, lower(contact), status, priority, cats FROM t.subs WHERE id = (SELECT t.pid(max(profile_id)) FROM profimport.profile WHERE profile_id ~ '^[0-9a-f]{24}$') ORDER BY 1;
-- the field email is free for others and not set
SELECT email, phones FROM t.profiles WHERE id LIKE 'P%';
-- unless data sets it
SELECT t.imp('{"matching": "email_sub", "email": "merge2@x.io", "resource_id": 10, "data": {"email": "merge2@x.io"}}');
SELECT email, phones FROM t.profiles WHERE email = 'merge2@x.io';

--
-- phone: phones and sms subscriptions
--
SELECT t.imp('{"matching": "phone", "phone": "+1 0000002"}');
SELECT t.imp('{"matching": "phone", "phone": "+10000003"}');
SELECT t.imp('{"matching": "phone", "phone": "+10000001"}');								-- phones of a, subscription of c: 409
SELECT t.imp('{"matching": "phone", "phone": "+10000001", "resource_id": 11}');
SELECT t.imp('{"matching": "phone", "phone": "+10000004"}');								-- 409
SELECT t.imp('{"matching": "phone", "phone": "+10000004", "resource_id": 10}');
SELECT p, t.imp(format('{"matching": "phone", "phone": %s, "update_only": true}', to_jsonb(p))) FROM unnest(ARRAY['+10000005', '+10000006', '+10000007']) p;	-- 404: viber, whatsapp, notify are not sms
SELECT p, t.imp(format('{"matching": "phone_sub", "phone": %s, "update_only": true}', to_jsonb(p))) FROM unnest(ARRAY['+10000005', '+10000006', '+10000007']) p;

--
-- phone_sub
--
SELECT t.imp('{"matching": "phone_sub", "phone": "+10000002"}');
SELECT t.imp('{"matching": "phone_sub", "phone": "+10000001"}');							-- c's
SELECT t.imp('{"matching": "phone_sub", "phone": "+10000004"}');							-- 409
SELECT t.imp('{"matching": "phone_sub", "phone": "+10000004", "resource_id": 11}');
SELECT t.imp('{"matching": "phone_sub"}', 'phone');
SELECT t.imp('{"matching": "phone_sub", "phone": ""}', 'phone');
SELECT t.imp('{"matching": "phone_sub", "phone": "+5"}', 'phone');
SELECT t.imp('{"matching": "phone_sub", "phone": "+20000001", "update_only": true}');
SELECT t.imp('{"matching": "phone_sub", "phone": "+20000001"}', 'resource_id');
SELECT t.imp('{"matching": "phone_sub", "phone": "+2 000 00-01", "resource_id": 13}');
SELECT t.imp('{"matching": "phone_sub", "phone": "+20000001", "resource_id": 13}');
SELECT * FROM t.subs WHERE contact = '+20000001';
SELECT email, phones FROM profimport.profile WHERE profile_id IN (SELECT profile_id FROM profimport.subscription WHERE contact = '+20000001');

--
-- email_phone: everything united
--
SELECT t.imp('{"matching": "email_phone", "email": "sub-a@x.io", "phone": "+10000002"}');
SELECT t.imp('{"matching": "email_phone", "email": "sub-a@x.io", "phone": "+10000003"}');	-- a and b
SELECT t.imp('{"matching": "email_phone", "email": "sub-a@x.io"}');
SELECT t.imp('{"matching": "email_phone", "phone": "+10000003"}');
SELECT t.imp('{"matching": "email_phone", "email": "sub-a@x.io", "phone": "+10000003", "resource_id": 11}');	-- only b's is looked at
SELECT t.imp('{"matching": "email_phone", "email": "sub-a@x.io", "phone": "+10000003", "resource_id": 13, "update_only": true}');

--
-- email_phone_sub
--
SELECT t.imp('{"matching": "email_phone_sub", "email": "sub-a@x.io", "phone": "+10000002"}');
SELECT t.imp('{"matching": "email_phone_sub", "email": "sub-a@x.io", "phone": "+29999999"}');	-- one hits
SELECT t.imp('{"matching": "email_phone_sub", "email": "sub-a@x.io", "phone": "+10000003"}');	-- 409
SELECT t.imp('{"matching": "email_phone_sub", "email": "b@x.io", "resource_id": 11, "update_only": true}');			-- a field, and in another resource: 404
SELECT t.imp('{"matching": "email_phone_sub", "phone": "+10000003", "email": ""}');
SELECT t.imp('{"matching": "email_phone_sub"}');
SELECT t.imp('{"matching": "email_phone_sub", "email": " ", "phone": ""}');
SELECT t.imp('{"matching": "email_phone_sub", "email": "x", "phone": "+10000003"}', 'email');
SELECT t.imp('{"matching": "email_phone_sub", "email": "eps@x.io", "phone": "+30000001"}', 'resource_id');
SELECT t.imp('{"matching": "email_phone_sub", "email": "eps@x.io", "phone": "+30000001", "update_only": true}');
SELECT t.imp('{"matching": "email_phone_sub", "email": "eps@x.io", "phone": "+30000001", "resource_id": 10}');		-- a subscription per given input
SELECT t.imp('{"matching": "email_phone_sub", "email": "eps@x.io", "phone": "+30000001"}');
SELECT t.imp('{"matching": "email_phone_sub", "email": "eps2@x.io", "phone": " ", "resource_id": 10}');
SELECT t.imp('{"matching": "email_phone_sub", "phone": "+30000002", "resource_id": 10}');
SELECT resource_id, channel, contact FROM t.subs WHERE contact IN ('eps@x.io', '+30000001', 'eps2@x.io', '+30000002');
SELECT count(*) FROM profimport.profile WHERE email ~ '^eps' OR phones && '{+30000001,+30000002}';

--
-- push_sub: provider and subscription_id
--
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "tok-a"}');
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "shared"}');			-- 409
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "shared", "resource_id": 11}');
SELECT t.imp('{"matching": "push_sub", "provider": "android", "subscription_id": "tok-a", "update_only": true}');	-- 404
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "TOK-A", "update_only": true}');
SELECT t.imp('{"matching": "push_sub", "provider": "ios"}', 'subscription_id');
SELECT t.imp('{"matching": "push_sub", "subscription_id": "tok-a"}', 'provider');
SELECT t.imp('{"matching": "push_sub", "provider": "", "subscription_id": "tok-a"}', 'provider');
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": " "}', 'subscription_id');
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "tok-n"}', 'resource_id');
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "tok-n", "resource_id": 10}');
SELECT t.imp('{"matching": "push_sub", "provider": "ios", "subscription_id": "tok-n", "resource_id": 10}');
SELECT * FROM t.subs WHERE contact = 'tok-n';
-- no two contacts are taken for one, whatever is in them
SELECT t.imp('{"matching": "push_sub", "provider": "p\u001fq", "subscription_id": "r", "resource_id": 10}');
SELECT t.imp('{"matching": "push_sub", "provider": "p", "subscription_id": "q\u001fr", "resource_id": 10}');
SELECT t.imp('{"matching": "push_sub", "provider": "1:p", "subscription_id": "q", "resource_id": 10}');
SELECT t.imp('{"matching": "push_sub", "provider": "1", "subscription_id": ":pq", "resource_id": 10}');

--
-- custom_sub: a declared field of subscriptions with matching
--
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, options, matching) VALUES
	(1, 10, 'k', 'int', NULL, true), (1, 11, 'k', 'string', NULL, true), (1, 13, 'k', 'string', NULL, false), (1, 12, 'closed', 'string', NULL, true),
	(1, 10, 's', 'string', NULL, true), (1, 10, 'fl', 'float', NULL, true), (1, 10, 'bo', 'bool', NULL, true), (1, 10, 'd', 'date', NULL, true),
	(1, 10, 'dt', 'datetime', NULL, true), (1, 10, 'li', 'list', '{red,7}', true), (1, 10, 'ip', 'ip', NULL, true), (1, 10, 'tg', 'tags', NULL, true),
	(1, 10, 'nomatch', 'string', NULL, false), (1, 10, 'o', 'object', NULL, false), (1, 10, 'only10', 'int', NULL, true), (2, 10, 'foreign', 'int', NULL, true);
CREATE FUNCTION t.csub(field text, value text, rest text DEFAULT '{}') RETURNS text LANGUAGE sql AS
$$ SELECT t.imp((jsonb_build_object('matching', 'custom_sub', 'field_name', field, 'field_value', value::jsonb) || rest::jsonb)::text, field) $$;
SELECT t.imp('{"matching": "profile_id", "profile_id": "a", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "sub-a@x.io", "custom_fields":
	{"k": 5, "s": "v", "fl": 1.5, "bo": true, "d": "2001-01-01", "dt": "2001-01-01", "li": "7", "ip": "10.0.0.1", "tg": "t1,t2"}}]}}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "b", "data": {"subscriptions": [{"resource_id": 11, "channel": "sms", "phone": "+10000003", "custom_fields": {"k": "x"}}]}}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "c", "data": {"subscriptions": [{"resource_id": 10, "channel": "push", "provider": "ios", "subscription_id": "shared", "custom_fields": {"k": 6, "tg": ["t2", "t3"]}}]}}');
SELECT t.imp('{"matching": "profile_id", "profile_id": "d", "data": {"subscriptions": [{"resource_id": 11, "channel": "telegram_bot", "cc_data": {"id": 1}, "custom_fields": {"k": "6"}}]}}');
SELECT t.csub('k', '5');										-- a, by the int of 10
SELECT t.csub('k', '"5"');
SELECT t.csub('k', '"x"');										-- b, by the string of 11; does not convert in 10
SELECT t.csub('k', '6');										-- c by 6, d by "6": 409
SELECT t.csub('k', '6', '{"resource_id": 10}');
SELECT t.csub('k', '6', '{"resource_id": 11}');
SELECT t.csub('k', '7');										-- 404, never creates
SELECT t.csub('k', '7', '{"update_only": true, "resource_id": 10}');
SELECT t.csub('k', '"x"', '{"resource_id": 10}');				-- none converts: 400
SELECT t.csub('only10', '"x"');
SELECT t.csub('k', '"x"', '{"resource_id": 13}');				-- none declares it with matching: 400
SELECT f, t.csub(f, '"1"') FROM unnest(ARRAY['nope', 'nomatch', 'o', 'closed', 'foreign', '_fname', 'email', 'phones', 'K']) f;
SELECT t.csub('k', '"x"', '{"resource_id": 12}') LIKE '%"error": 404%';		-- not open
SELECT f, v, t.csub(f, v) FROM (VALUES ('s', '"v"'), ('fl', '"1.50"'), ('bo', '"TRUE"'), ('d', '"2001-01-01T05:00"'), ('dt', '"2001-01-01T00:00:00.000Z"'), ('li', '7'), ('ip', '"10.0.0.1"'), ('tg', '"t2 ,t1"')) v (f, v);
SELECT f, v, t.csub(f, v) FROM (VALUES ('tg', '"t2"'), ('tg', '"t3,t2"'), ('tg', '"t1,t3"'), ('tg', '","'), ('tg', '""')) v (f, v);
SELECT t.imp('{"matching": "custom_sub", "field_name": "s"}', 'field_value');
SELECT t.imp('{"matching": "custom_sub", "field_value": "s"}', 'field_name');
SELECT t.imp('{"matching": "custom_sub", "field_name": " ", "field_value": "s"}', 'field_name');
SELECT t.imp('{"matching": "custom_sub", "field_name": "s", "field_value": " "}', 'field_value');
-- two subscriptions of one profile are one hit; all tags in one subscription
SELECT t.imp('{"matching": "profile_id", "profile_id": "a", "data": {"subscriptions": [{"resource_id": 10, "channel": "sms", "phone": "+10000002", "custom_fields": {"s": "v", "tg": "t9"}}]}}');
SELECT t.csub('s', '"v"');
-- a field of profiles is not one of subscriptions, and the other way round
INSERT INTO profimport.field (account_id, db_id, name, type, matching) VALUES (1, 1, 'prof', 'string', true);
SELECT t.csub('prof', '"v"');
SELECT t.imp('{"matching": "custom", "field_name": "s", "field_value": "v"}', 's');

--
-- a value is matched as soon and as long as it is there
--
SELECT * FROM t.bat('{"matching": "email_sub", "email": "r@x.io", "resource_id": 10, "data": {"_fname": "1"}}', '{"matching": "email_sub", "email": "R@x.io", "data": {"_fname": "2"}}', '{"email": "r@x.io", "data": {"_fname": "3"}}');
DELETE FROM profimport.subscription WHERE contact = 'r@x.io';
SELECT t.imp('{"email": "r@x.io", "update_only": true}');
