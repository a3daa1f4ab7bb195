/*
 * helper.sql
 *		Read by the setup of every spec, before each permutation; not a spec itself.
 *
 * It empties the extension, configures account 1, and builds schema iso:
 *
 *	iso.json(text)		jsonb, with < and > for braces, which SQL in a spec cannot have
 *	iso.imp(patch, ...)	import_batch() of these messages, each {"account_id":1, "db_id":1, "data":{}} || iso.json(patch):
 *						what became of them
 *	iso.count(patch)	import_batch() of a message whose data also has n, increased by one
 *	iso.sqlstate(sql)	what a statement raises, "00000" if nothing
 *	iso.profiles		what is stored, without ids and times, in one order
 *	iso.wrong_keys()	where profile_key and subscription_key are not what the rows say; always empty
 *	iso.check			one row: how many profiles, the sum of their n, trigger events by kind, how many wrong keys
 */
DROP SCHEMA IF EXISTS iso CASCADE;
CREATE SCHEMA iso;

TRUNCATE profimport.profile CASCADE;
TRUNCATE profimport.trigger_event, profimport.import_error;
DELETE FROM profimport.resource_field;
DELETE FROM profimport.resource;
DELETE FROM profimport.field;
DELETE FROM profimport.database;
DELETE FROM profimport.account;

INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1), (1, 2);
INSERT INTO profimport.field (account_id, db_id, name, type, matching, is_unique) VALUES
	(1, 1, 'n', 'int', false, false),
	(1, 1, 'note', 'string', false, false),
	(1, 1, 'code', 'int', true, false),
	(1, 1, 'labels', 'tags', true, false),
	(1, 1, 'card', 'string', true, true),
	(1, 2, 'n', 'int', false, false),
	(1, 2, 'code', 'int', true, false);
INSERT INTO profimport.resource (account_id, resource_id, categories) VALUES (1, 1, '{news, offers}'), (1, 2, '{}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, matching) VALUES
	(1, 1, 'visits', 'int', false),
	(1, 1, 'login', 'string', true);

CREATE FUNCTION iso.json(t text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
	$f$ SELECT translate(t, '<>', '{}')::jsonb $f$;

CREATE FUNCTION iso.imp(VARIADIC patches text[]) RETURNS TABLE (outcome text, error int) LANGUAGE sql AS $f$
	SELECT outcome, (result->>'error')::int
	FROM profimport.import_batch(
		(SELECT array_agg(convert_to((jsonb '{"account_id": 1, "db_id": 1, "data": {}}' || iso.json(p))::text, 'UTF8') ORDER BY i)
		 FROM unnest(patches) WITH ORDINALITY AS u (p, i)))
	ORDER BY ordinal
$f$;

CREATE FUNCTION iso.count(patch text) RETURNS TABLE (outcome text, error int) LANGUAGE sql AS $f$
	SELECT * FROM iso.imp(jsonb_set(jsonb '{"data": {}}' || iso.json(patch), '{data,n}', '{"action": "incr", "value": 1}')::text)
$f$;

CREATE FUNCTION iso.sqlstate(sql text) RETURNS text LANGUAGE plpgsql AS $f$
BEGIN
	EXECUTE sql;
	RETURN '00000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$f$;

CREATE VIEW iso.profiles AS
	SELECT db_id, email, phones, data, subscriptions
	FROM profimport.profile p CROSS JOIN LATERAL
		(SELECT string_agg(concat_ws(' ', resource_id, channel, provider, contact, cc_data, status,
				nullif(custom_fields, '{}'), nullif(cats, '{}')), ', ' ORDER BY resource_id, channel, contact) AS subscriptions
		 FROM profimport.subscription s
		 WHERE (s.account_id, s.db_id, s.profile_id) = (p.account_id, p.db_id, p.profile_id)) AS of_profile
	ORDER BY db_id, email COLLATE "C", phones, data, subscriptions COLLATE "C";

DO $d$ BEGIN EXECUTE pg_read_file('../../specs/include/keys.sql'); END $d$;

CREATE VIEW iso.check AS
	SELECT (SELECT count(*) FROM profimport.profile) AS profiles,
		(SELECT sum((data->>'n')::int) FROM profimport.profile) AS sum_of_n,
		(SELECT string_agg(format('%s %s', n, kind), ', ' ORDER BY kind)
		 FROM (SELECT kind COLLATE "C" AS kind, count(*) AS n FROM profimport.trigger_event GROUP BY 1) AS e) AS events,
		(SELECT count(*) FROM iso.wrong_keys()) AS wrong_keys;
