-- ---------------------------------------------------------------------------
-- Import and reading back
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.import(message jsonb, dry_run bool DEFAULT false) RETURNS jsonb
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pi_import';
COMMENT ON FUNCTION profimport.import(jsonb, bool) IS
	'imports one message now and returns its result; with dry_run only says what would come';

CREATE FUNCTION profimport.import_batch(bodies bytea[], properties jsonb[] DEFAULT NULL)
	RETURNS TABLE (ordinal int, result jsonb, outcome text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pi_import_batch';
COMMENT ON FUNCTION profimport.import_batch(bytea[], jsonb[]) IS
	'imports messages in order, as the worker does: one row per body, a bad one never affects another';

CREATE FUNCTION profimport.retry_error(error_id bigint) RETURNS jsonb
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pi_retry_error';
COMMENT ON FUNCTION profimport.retry_error(bigint) IS
	'imports a failed message again, returns the result and publishes it too';

CREATE FUNCTION profimport.get_profile(account_id int, db_id int, profile_id text) RETURNS jsonb
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('profile_id', p.profile_id, 'email', p.email, 'phones', p.phones))
			|| p.data
			|| jsonb_build_object('subscriptions', coalesce(
				(SELECT jsonb_agg(to_jsonb(s) ORDER BY s.subscription_no) FROM profimport.subscription s
					WHERE s.profile_id = p.profile_id AND s.db_id = p.db_id AND s.account_id = p.account_id),
				'[]'))
		FROM profimport.profile p
		WHERE p.profile_id = $3 AND p.db_id = $2 AND p.account_id = $1
$$;
COMMENT ON FUNCTION profimport.get_profile(int, int, text) IS
	'the whole profile as one document, subscriptions included; NULL if there is none';
