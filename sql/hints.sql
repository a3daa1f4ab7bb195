-- Errors of direct SQL name the next step
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
\set VERBOSITY default
\set SHOW_CONTEXT never
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'n', 'int');
INSERT INTO profimport.resource (account_id, resource_id, db_ids) VALUES (1, 10, '{}');
INSERT INTO profimport.profile (account_id, db_id, profile_id, data) VALUES (1, 1, 'p', '{"n": 1}');
-- configuration
INSERT INTO profimport.database VALUES (7, 1);
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 7, 'n', 'int');
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'm', 'integer');
INSERT INTO profimport.field (account_id, db_id, name, type) VALUES (1, 1, 'm', 'list');
INSERT INTO profimport.field (account_id, db_id, name, type, options) VALUES (1, 1, 'm', 'list', '{a,NULL}');
INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, 'm', 'object', true);
INSERT INTO profimport.resource_field (account_id, resource_id, name, type) VALUES (1, 10, 'm', 'text');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, matching) VALUES (1, 10, 'm', 'arr_object', true);
UPDATE profimport.field SET type = 'string' WHERE name = 'n';
DELETE FROM profimport.field;
DELETE FROM profimport.database;
DELETE FROM profimport.account;
-- profiles and subscriptions
INSERT INTO profimport.profile (account_id, db_id) VALUES (1, 7);
INSERT INTO profimport.profile (account_id, db_id, data) VALUES (1, 1, '{"m": 1}');
INSERT INTO profimport.profile (account_id, db_id, data) VALUES (1, 1, '{"email": "a@x.io"}');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'p', 10, 'sms', '+4790000001');
UPDATE profimport.resource SET db_ids = NULL;
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact) VALUES (1, 1, 'q', 10, 'sms', '+4790000001');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, custom_fields) VALUES (1, 1, 'p', 10, 'sms', '+4790000001', '{"m": 1}');
-- functions
SELECT profimport.retry_error(0);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT profimport.import('{}');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE profimport.field SET matching = true WHERE name = 'n';
ROLLBACK;
