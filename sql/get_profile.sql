-- SPEC section 7: get_profile
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1), (1, 2);
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 's', 'string'), (1, 1, 'tg', 'tags');
INSERT INTO profimport.resource (account_id, resource_id, categories) VALUES (1, 10, '{news}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 'n', 'int');
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data) VALUES (1, 1, 'p', 'P@x.io', '{+10000002,+10000001}', '{"s": "x", "tg": ["b", "a"], "_sex": 2}'), (1, 1, 'bare', NULL, NULL, '{}');
-- the whole profile as one document; unset fields are left out
SELECT profimport.get_profile(1, 1, 'p') - 'subscriptions';
SELECT profimport.get_profile(1, 1, 'bare') - 'subscriptions';
SELECT coalesce(profimport.get_profile(1, 1, 'bare')->'subscriptions', '[]');
-- NULL if none
SELECT profimport.get_profile(1, 1, 'P');
SELECT profimport.get_profile(1, 2, 'p');
SELECT profimport.get_profile(2, 1, 'p');
SELECT profimport.get_profile(NULL, 1, 'p');
SELECT profimport.get_profile(1, 1, '');
-- subscriptions: objects with the columns of the table, in the order they came
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, provider, cc_data, status, priority, custom_fields, cats) VALUES
	(1, 1, 'p', 10, 'email', 'S@x.io', NULL, NULL, 1, 2, '{"n": 3}', '{news}'), (1, 1, 'p', 10, 'push', 'tok', 'ios', NULL, 0, 0, '{}', '{}'), (1, 1, 'p', 10, 'telegram_bot', NULL, NULL, '{"id": 5}', 0, 0, '{}', '{}');
SELECT jsonb_typeof(profimport.get_profile(1, 1, 'p')->'subscriptions'), jsonb_array_length(profimport.get_profile(1, 1, 'p')->'subscriptions');
SELECT jsonb_strip_nulls(s) - '{subscription_no,created_at,updated_at}'::text[] FROM jsonb_array_elements(profimport.get_profile(1, 1, 'p')->'subscriptions') s;
-- exactly the columns
SELECT jsonb_strip_nulls(s) = jsonb_strip_nulls(to_jsonb(r)), ARRAY(SELECT jsonb_object_keys(s) EXCEPT SELECT jsonb_object_keys(to_jsonb(r)))
FROM jsonb_array_elements(profimport.get_profile(1, 1, 'p')->'subscriptions') s JOIN profimport.subscription r ON r.subscription_no = (s->>'subscription_no')::bigint;
-- what an import made
SELECT t.imp('{"email": "new@x.io", "data": {"_fname": "N", "subscriptions": [{"resource_id": 10, "channel": "sms", "phone": "+10000009"}]}}');
SELECT profimport.get_profile(1, 1, t.id('P1')) - 'subscriptions' - 'profile_id', (profimport.get_profile(1, 1, t.id('P1'))->>'profile_id') = t.id('P1');
