/*
 * keys.sql
 *		iso.wrong_keys(): where profile_key and subscription_key are not what the rows and the
 *		declarations say.  No row is right.
 *
 * Part of helper.sql, and read by t/090_concurrency.pl; needs a schema iso.
 */
-- the planner thinks of millions of rows, and would compile the query
CREATE FUNCTION iso.wrong_keys() RETURNS TABLE (what text, name text, key_value text) LANGUAGE sql SET jit = off AS $f$
	WITH should (key_value, name, resource_id, profile_id, subscription_no, db_id, account_id, is_unique) AS (
		SELECT k, 'phones' COLLATE "C", NULL::int, profile_id, NULL::bigint, db_id, account_id, false
			FROM profimport.profile, unnest(phones) AS phone, profimport.match_keys('string', to_jsonb(phone)) AS k
		UNION ALL
		SELECT k, f.name, NULL, p.profile_id, NULL, db_id, account_id, f.is_unique
			FROM profimport.profile p JOIN profimport.field f USING (account_id, db_id),
				profimport.match_keys(f.type, p.data->f.name) AS k
			WHERE f.matching
		UNION ALL
		SELECT k, f.name, resource_id, s.profile_id, s.subscription_no, s.db_id, account_id, NULL
			FROM profimport.subscription s JOIN profimport.resource_field f USING (account_id, resource_id),
				profimport.match_keys(f.type, s.custom_fields->f.name) AS k
			WHERE f.matching
	), are AS (
		SELECT key_value, name, NULL::int AS resource_id, profile_id, NULL::bigint AS subscription_no, db_id, account_id, is_unique
			FROM profimport.profile_key
		UNION ALL
		SELECT key_value, name, resource_id, profile_id, subscription_no, db_id, account_id, NULL
			FROM profimport.subscription_key
	)
	SELECT 'missing' AS what, name, key_value FROM (TABLE should EXCEPT ALL TABLE are) AS m
	UNION ALL
	SELECT 'surplus', name, key_value FROM (TABLE are EXCEPT ALL TABLE should) AS s
$f$;
