-- ---------------------------------------------------------------------------
-- Is everything set up?
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.worker_privilege(OUT kind text, OUT object text, OUT privilege text)
	RETURNS SETOF record
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT o.kind, o.object, p.privilege
		FROM (VALUES
			('SCHEMA', 'profimport', '{USAGE}'::text[]),
			('TABLE', 'profimport.profile_key', '{SELECT}'),
			('TABLE', 'profimport.subscription_key', '{SELECT}'),
			('TABLE', 'profimport.profile', '{SELECT,INSERT,UPDATE}'),
			('TABLE', 'profimport.subscription', '{SELECT,INSERT,UPDATE}'),
			('TABLE', 'profimport.trigger_event', '{SELECT,INSERT,DELETE}'),
			('TABLE', 'profimport.import_error', '{SELECT,INSERT,DELETE}'),
			('TABLE', 'profimport.batch', '{SELECT,INSERT,UPDATE,DELETE}'),
			('TABLE', 'profimport.applied', '{SELECT,INSERT,UPDATE,DELETE}'),
			('TABLE', 'profimport.dedup', '{SELECT,INSERT,UPDATE,DELETE}'),
			('TABLE', 'profimport.worker_run', '{SELECT,INSERT,UPDATE,DELETE}'),
			('TABLE', 'profimport.attempt', '{SELECT,INSERT,UPDATE,DELETE}'),
			('FUNCTION', 'profimport.import_batch(bytea[], jsonb[])', '{EXECUTE}')
		) AS o (kind, object, privileges),
		unnest(o.privileges) AS p (privilege)
$$;
COMMENT ON FUNCTION profimport.worker_privilege() IS
	'internal: what a role needs to be profimport.role; grant_worker() grants it, check() looks for it';

CREATE FUNCTION profimport.check() RETURNS TABLE (item text, ok bool, detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'pi_check_1_0';
COMMENT ON FUNCTION profimport.check() IS
	'looks at everything that can be wrong and says what to do; ok is NULL for what could not be judged';

REVOKE ALL ON FUNCTION profimport.worker_privilege(), profimport.check() FROM PUBLIC;
