-- SPEC section 6: trigger events
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 's', 'string'), (1, 1, 'n', 'int'), (1, 1, 'tg', 'tags'), (1, 1, 'o', 'object');
INSERT INTO profimport.resource (account_id, resource_id, categories) VALUES (1, 10, '{news}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 'n', 'int');
-- what(patch): the events of one message, which are then gone
CREATE FUNCTION t.what(patch text) RETURNS SETOF t.events LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE profimport.trigger_event;
	PERFORM t.imp(patch);
	RETURN QUERY SELECT * FROM t.events;
END $$;

-- profile_created: all that were set; feedback_id goes along
SELECT * FROM t.what('{"email": " P@x.io", "feedback_id": "f1", "data": {"s": "x", "n": "5", "phones": "+1 000 0001", "tg": null, "_sex": "m", "o": {"a": 1}}}');
SELECT event_id > 0, occurred_at IS NOT NULL, account_id, db_id, profile_id = t.id('P1'), subscription_no, resource_id, channel FROM profimport.trigger_event;
-- profile_updated: the changed fields and their new values, null where unset
SELECT * FROM t.what('{"email": "p@x.io", "feedback_id": "f2", "data": {"s": null, "n": {"action": "incr", "value": 1}, "tg": "a", "_sex": 1, "o": {"a": 1}}}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"email": "p@X.io", "phones": null}}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"o": {"action": "upsert", "value": 2, "submatch": "b"}}}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"phones": {"action": "add", "value": "+10000002"}}}');
-- nothing changed, failed, skip_triggers: none
SELECT * FROM t.what('{"email": "p@x.io", "data": {"tg": "a"}}');
SELECT * FROM t.what('{"email": "p@x.io"}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"s": 7}}');
SELECT * FROM t.what('{"email": "p@x.io", "skip_triggers": true, "data": {"s": "y"}}');
SELECT * FROM t.what('{"email": "q@x.io", "skip_triggers": true, "data": {"s": "y"}}');
SELECT * FROM t.what('{"email": "q@x.io", "skip_triggers": false, "data": {"s": "z"}}');
SELECT * FROM t.what('{"email": "q@x.io", "skip_triggers": null, "data": {"s": "zz"}}');
-- subscription_created, subscription_updated; no profile_updated, the profile's updated_at stays
SELECT * FROM t.what('{"email": "p@x.io", "feedback_id": "f3", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io", "status": 1, "priority": 3, "cats": ["news"], "custom_fields": {"n": 1}}]}}');
SELECT subscription_no = (SELECT subscription_no FROM profimport.subscription WHERE contact = 's@x.io'), account_id, db_id, occurred_at IS NOT NULL FROM profimport.trigger_event;
SELECT updated_at AS was FROM profimport.profile WHERE profile_id = t.id('P1') \gset
SELECT * FROM t.what('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io", "status": 2, "priority": 3}]}}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io", "cats": []}]}}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io", "custom_fields": {"n": {"action": "incr", "value": 1}}}]}}');
SELECT * FROM t.what('{"email": "p@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io", "status": 2}]}}');
SELECT updated_at = :'was' FROM profimport.profile WHERE profile_id = t.id('P1');
-- both in one message; two subscriptions; and a creation that brings one
SELECT kind, id, resource_id, channel FROM t.what('{"email": "p@x.io", "data": {"n": 50, "subscriptions": [{"resource_id": 10, "channel": "email", "email": "s@x.io", "status": 5}, {"resource_id": 10, "channel": "sms", "phone": "+10000009"}]}}');
SELECT kind, id, resource_id, channel FROM t.what('{"matching": "email_sub", "email": "es@x.io", "resource_id": 10}');
SELECT kind, id, resource_id, channel FROM t.what('{"email": "new@x.io", "data": {"subscriptions": [{"resource_id": 10, "channel": "sms", "phone": "+10000008"}]}}');
-- in a batch: each message its own, a failing one none
TRUNCATE profimport.trigger_event;
SELECT * FROM t.bat('{"email": "b@x.io", "feedback_id": "1"}', '{"email": "b@x.io", "feedback_id": "2", "data": {"n": 1}}', '{"email": "b@x.io", "feedback_id": "3", "data": {"n": "x"}}', '{"email": "b@x.io", "feedback_id": "4", "data": {"n": 1}}', '{"email": "b@x.io", "feedback_id": "5", "data": {"n": 2}}');
SELECT * FROM t.events;
-- in the same transaction
BEGIN;
SELECT t.imp('{"email": "b@x.io", "data": {"n": 3}}');
ROLLBACK;
SELECT count(*) FROM profimport.trigger_event;
-- a dry run leaves none (t.imp watches that as well)
SELECT profimport.import(t.whole('{"email": "b@x.io", "data": {"n": 4}}'), true)->>'error';
SELECT count(*) FROM profimport.trigger_event;

-- take_trigger_events hands out and removes the oldest ones
SELECT kind, feedback_id FROM profimport.take_trigger_events(2);
SELECT kind, feedback_id FROM profimport.take_trigger_events(0);
SELECT kind, feedback_id FROM profimport.take_trigger_events(100);
SELECT count(*) FROM profimport.trigger_event;
SELECT count(*) FROM profimport.take_trigger_events(100);
SELECT pg_typeof(e) FROM (SELECT profimport.import(t.whole('{"email": "b@x.io", "data": {"n": 5}}'))) i, profimport.take_trigger_events(1) e;
TRUNCATE profimport.trigger_event;
SELECT t.bat('{"email": "b@x.io", "data": {"n": 11}}', '{"email": "b@x.io", "data": {"n": 12}}', '{"email": "b@x.io", "data": {"n": 13}}');
BEGIN;
SELECT changes FROM profimport.take_trigger_events(1);
ROLLBACK;
SELECT changes FROM profimport.take_trigger_events(1);
SELECT changes FROM profimport.trigger_event ORDER BY event_id;
