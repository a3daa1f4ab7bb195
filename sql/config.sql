-- SPEC section 7: the configuration tables
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
-- account, database: ids 1 ... 2147483647, names ''
SELECT t.err($$INSERT INTO profimport.account (account_id) VALUES (1), (2)$$), t.err($$INSERT INTO profimport.account (account_id) VALUES (1)$$), t.err($$INSERT INTO profimport.account (account_id) VALUES (0)$$), t.err($$INSERT INTO profimport.account (account_id) VALUES (-1)$$), t.err($$INSERT INTO profimport.account (name) VALUES ('x')$$);
SELECT t.err($$INSERT INTO profimport.database (account_id, db_id) VALUES (1, 1), (1, 2), (2, 1)$$), t.err($$INSERT INTO profimport.database (account_id, db_id) VALUES (1, 1)$$), t.err($$INSERT INTO profimport.database (account_id, db_id) VALUES (1, 0)$$), t.err($$INSERT INTO profimport.database (account_id, db_id) VALUES (3, 1)$$);
SELECT name = '' FROM profimport.account UNION ALL SELECT name = '' FROM profimport.database;

--
-- field
--
SELECT t.err($$INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 's', 'string'), (1, 1, 'n', 'int'), (1, 1, 'fl', 'float'), (1, 1, 'bo', 'bool'), (1, 1, 'd', 'date'), (1, 1, 'dt', 'datetime'), (1, 1, 'ip', 'ip'), (1, 1, 'tg', 'tags'), (1, 1, 'o', 'object'), (1, 1, 'ao', 'arr_object')$$);
SELECT t.err($$INSERT INTO profimport.field (account_id, db_id, name, type, options) VALUES (1, 1, 'li', 'list', '{red,green,blue}')$$);
SELECT DISTINCT required, matching, is_unique FROM profimport.field;
-- the same name twice; an unknown database; an unknown type
SELECT t.err($$INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 's', 'int')$$), t.err($$INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (2, 2, 's', 'int')$$), t.err($$INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'x', 'text')$$), t.err($$INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'x', NULL)$$), t.err($$INSERT INTO profimport.field (account_id, db_id, name) VALUES (1, 1, 'x')$$);
-- a name that is a standard one, empty, subscriptions or profile_id is refused
SELECT f, t.err(format('INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, %L, ''string'')', f)) FROM unnest(ARRAY['', 'subscriptions', 'profile_id', 'email', 'phones', '_fname', '_lname', '_city', '_region', '_country', '_regcity', '_regcountry', '_regurl', '_vendor', '_browser', '_os', '_postal_code', '_tz', '_bdate', '_regdate', '_sex', '_ip', '_regip', '_status']) f;
SELECT f, t.err(format('INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (2, 1, %L, ''string'')', f)) FROM unnest(ARRAY['Email', '_own', 'тест', 'a b', 'phone', 'action']) f;
SELECT t.err($$UPDATE profimport.field SET name = 'email' WHERE name = 'phone'$$);
-- matchable: all but object and arr_object
SELECT f, t.err(format('UPDATE profimport.field SET matching = true WHERE account_id = 1 AND name = %L', f)) FROM unnest(ARRAY['s', 'n', 'fl', 'bo', 'd', 'dt', 'ip', 'tg', 'li', 'o', 'ao']) f;
SELECT t.err($$INSERT INTO profimport.field (account_id, db_id, name, type, matching) VALUES (1, 1, 'o2', 'object', true)$$), t.err($$INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, 'ao2', 'arr_object', true)$$);
-- is_unique implies matching
INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, 'u', 'string', true);
SELECT matching FROM profimport.field WHERE name = 'u';
SELECT t.imp('{"matching": "custom", "field_name": "u", "field_value": "x", "update_only": true}');

--
-- resource, resource_field
--
SELECT t.err($$INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 10), (1, 11), (2, 10)$$), t.err($$INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 10)$$), t.err($$INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 0)$$), t.err($$INSERT INTO profimport.resource (account_id, resource_id) VALUES (3, 1)$$);
SELECT DISTINCT name, db_ids, categories FROM profimport.resource;
SELECT t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 's', 'string'), (1, 10, 'n', 'int'), (1, 10, 'o', 'object')$$), t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type, options) VALUES (1, 10, 'li', 'list', '{red,green}')$$);
SELECT t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 's', 'int')$$), t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 99, 's', 'int')$$), t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 'x', 'text')$$),
	t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, '', 'int')$$), t.err($$INSERT INTO profimport.resource_field (account_id, resource_id, name, type, matching) VALUES (1, 10, 'x', 'object', true)$$);
SELECT DISTINCT required, matching FROM profimport.resource_field;

--
-- a change is seen at once
--
SELECT t.imp('{"account_id": 7, "email": "a@x.io"}');
INSERT INTO profimport.account VALUES (7);
SELECT t.imp('{"account_id": 7, "email": "a@x.io"}');
INSERT INTO profimport.database VALUES (7, 1);
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"later": 1}}', 'later');
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (7, 1, 'later', 'string');
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"later": 1}}', 'later');
UPDATE profimport.field SET type = 'int' WHERE account_id = 7;
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"later": 1}}');
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "resource_id": 70}', 'resource_id');
INSERT INTO profimport.resource (account_id, resource_id) VALUES (7, 70);
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "resource_id": 70}');
UPDATE profimport.resource SET db_ids = '{2}' WHERE account_id = 7;
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "resource_id": 70}', 'resource_id');
UPDATE profimport.resource SET db_ids = '{}' WHERE account_id = 7;
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "resource_id": 70}', 'resource_id');
UPDATE profimport.resource SET db_ids = '{2,1}' WHERE account_id = 7;
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"subscriptions": [{"resource_id": 70, "channel": "email", "email": "a@x.io", "cats": ["c"]}]}}', 'cats');
UPDATE profimport.resource SET categories = '{c}' WHERE account_id = 7;
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"subscriptions": [{"resource_id": 70, "channel": "email", "email": "a@x.io", "cats": ["c"], "custom_fields": {"f": 1}}]}}', 'f');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (7, 70, 'f', 'int');
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"subscriptions": [{"resource_id": 70, "channel": "email", "email": "a@x.io", "cats": ["c"], "custom_fields": {"f": 1}}]}}');
-- also within one transaction, and it goes with a rollback
BEGIN;
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (7, 1, 'tx', 'int');
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"tx": 1}}');
ROLLBACK;
SELECT t.imp('{"account_id": 7, "email": "a@x.io", "data": {"tx": 1}}', 'tx');

--
-- what is in use is not taken away: 23503
--
INSERT INTO profimport.field (account_id, db_id, name, type, options) VALUES (1, 1, 'used', 'int', NULL), (1, 1, 'free', 'int', NULL);
UPDATE profimport.resource SET categories = '{news,ads,free}', db_ids = '{1,2}' WHERE account_id = 1 AND resource_id = 10;
SELECT t.imp('{"email": "a@x.io", "data": {"used": 1, "li": "red", "tg": "a", "subscriptions": [{"resource_id": 10, "channel": "email", "email": "a@x.io", "cats": ["news"], "custom_fields": {"n": 1, "li": "red"}}]}}');
SELECT t.err($$UPDATE profimport.field SET type = 'float' WHERE name = 'used'$$), t.err($$UPDATE profimport.field SET name = 'renamed' WHERE name = 'used'$$), t.err($$DELETE FROM profimport.field WHERE name = 'used'$$);
SELECT t.err($$UPDATE profimport.field SET options = '{green,blue}' WHERE name = 'li'$$), t.err($$UPDATE profimport.field SET options = NULL WHERE name = 'li'$$) IN ('23503', '23514'), t.err($$UPDATE profimport.field SET options = '{blue,red}' WHERE name = 'li'$$), t.err($$UPDATE profimport.field SET options = '{blue,red,white}' WHERE name = 'li'$$);
SELECT t.err($$UPDATE profimport.resource_field SET type = 'string' WHERE name = 'n'$$), t.err($$UPDATE profimport.resource_field SET name = 'renamed' WHERE name = 'n'$$), t.err($$DELETE FROM profimport.resource_field WHERE name = 'n'$$), t.err($$UPDATE profimport.resource_field SET options = '{green}' WHERE name = 'li'$$), t.err($$UPDATE profimport.resource_field SET options = '{red}' WHERE name = 'li'$$);
SELECT t.err($$UPDATE profimport.resource SET categories = '{ads}' WHERE account_id = 1 AND resource_id = 10$$), t.err($$UPDATE profimport.resource SET categories = '{ads,news}' WHERE account_id = 1 AND resource_id = 10$$);
SELECT t.err($$UPDATE profimport.resource SET db_ids = '{2}' WHERE account_id = 1 AND resource_id = 10$$), t.err($$UPDATE profimport.resource SET db_ids = '{}' WHERE account_id = 1 AND resource_id = 10$$), t.err($$UPDATE profimport.resource SET db_ids = '{1}' WHERE account_id = 1 AND resource_id = 10$$), t.err($$UPDATE profimport.resource SET db_ids = NULL WHERE account_id = 1 AND resource_id = 10$$);
SELECT t.err($$DELETE FROM profimport.resource WHERE account_id = 1 AND resource_id = 10$$), t.err($$UPDATE profimport.resource SET resource_id = 99 WHERE account_id = 1 AND resource_id = 10$$);
SELECT t.err($$DELETE FROM profimport.database WHERE account_id = 1 AND db_id = 1$$), t.err($$DELETE FROM profimport.account WHERE account_id = 1$$);
-- what is not in use may go
SELECT t.err($$UPDATE profimport.field SET type = 'string' WHERE name = 'free'$$), t.err($$UPDATE profimport.field SET name = 'freed' WHERE name = 'free'$$), t.err($$DELETE FROM profimport.field WHERE name = 'freed'$$), t.err($$UPDATE profimport.resource_field SET name = 'freed' WHERE name = 's'$$), t.err($$DELETE FROM profimport.resource_field WHERE name = 'freed'$$);
SELECT t.imp('{"email": "a@x.io", "data": {"freed": 1}}', 'freed');
SELECT t.err($$DELETE FROM profimport.resource WHERE account_id = 1 AND resource_id = 11$$), t.err($$DELETE FROM profimport.database WHERE account_id = 1 AND db_id = 2$$);
-- once unset it is not in use any more
SELECT t.imp('{"email": "a@x.io", "data": {"used": null}}');
SELECT t.err($$DELETE FROM profimport.field WHERE name = 'used'$$);
DELETE FROM profimport.subscription WHERE account_id = 1;
SELECT t.err($$DELETE FROM profimport.resource_field WHERE account_id = 1$$), t.err($$DELETE FROM profimport.resource WHERE account_id = 1$$);

--
-- matching and is_unique on a filled database index what is there
--
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'm1', 'string'), (1, 1, 'm2', 'int'), (1, 1, 'm3', 'tags'), (1, 1, 'dup', 'string');
SELECT * FROM t.bat('{"email": "f1@x.io", "data": {"m1": "one", "m2": 1, "m3": "a,b", "dup": "same"}}', '{"email": "f2@x.io", "data": {"m1": "two", "m2": 2, "m3": "b", "dup": "same"}}', '{"email": "f3@x.io"}');
SELECT t.imp('{"matching": "custom", "field_name": "m1", "field_value": "one"}', 'm1');
UPDATE profimport.field SET matching = true WHERE name IN ('m1', 'm3');
UPDATE profimport.field SET is_unique = true WHERE name = 'm2';
SELECT t.imp('{"matching": "custom", "field_name": "m1", "field_value": "one"}'), t.imp('{"matching": "custom", "field_name": "m2", "field_value": 2}'), t.imp('{"matching": "custom", "field_name": "m3", "field_value": "b,a"}'), t.imp('{"matching": "custom", "field_name": "m3", "field_value": "b"}');
SELECT t.imp('{"email": "f3@x.io", "data": {"m2": 1}}', 'm2');
SELECT t.err($$UPDATE profimport.field SET is_unique = true WHERE name = 'dup'$$, 'same');
SELECT t.imp('{"matching": "custom", "field_name": "dup", "field_value": "same"}', 'dup');		-- as before: no matching
SELECT t.imp('{"email": "f2@x.io", "data": {"dup": "other"}}');
SELECT t.err($$UPDATE profimport.field SET is_unique = true WHERE name = 'dup'$$);
SELECT t.imp('{"email": "f2@x.io", "data": {"dup": "same"}}', 'dup');
-- and off again
UPDATE profimport.field SET is_unique = false, matching = false WHERE name = 'dup';
SELECT t.imp('{"email": "f2@x.io", "data": {"dup": "same"}}'), t.imp('{"matching": "custom", "field_name": "dup", "field_value": "same"}', 'dup');
-- the same on subscriptions
INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 20);
INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 20, 'k', 'int');
SELECT t.imp('{"email": "f1@x.io", "data": {"subscriptions": [{"resource_id": 20, "channel": "email", "email": "f1@x.io", "custom_fields": {"k": 5}}]}}');
UPDATE profimport.resource_field SET matching = true WHERE name = 'k';
SELECT t.imp('{"matching": "custom_sub", "field_name": "k", "field_value": 5}');
-- required applies from then on
UPDATE profimport.field SET required = true WHERE name = 'm1';
SELECT t.imp('{"email": "f3@x.io", "data": {"m3": "x"}}');						-- f3 never had it
SELECT t.imp('{"email": "f1@x.io", "data": {"m1": null}}', 'm1'), t.imp('{"email": "f4@x.io"}', 'm1');
