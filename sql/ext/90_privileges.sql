-- ---------------------------------------------------------------------------
-- Privileges and what belongs into a dump
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.grant_worker(role name) RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p record;
BEGIN
	-- GRANT takes this name for everybody
	IF role = 'public' THEN
		RAISE undefined_object
			USING MESSAGE = 'role "public" does not exist',
				HINT = 'Create a role with LOGIN for the workers.';
	END IF;
	FOR p IN SELECT * FROM profimport.worker_privilege() LOOP
		-- the objects are written as they have to be; only the role is a name
		EXECUTE format('GRANT %s ON %s %s TO %I', p.privilege, p.kind, p.object, role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION profimport.grant_worker(name) IS
	'grants a role what the worker needs as profimport.role, and nothing more';

-- Data and configuration are the user's: pg_dump takes them along.  Keys are
-- made anew by the triggers.  One statement each: all of them change one row.
SELECT pg_catalog.pg_extension_config_dump('profimport.account', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.database', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.field', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.resource', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.resource_field', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.profile', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.trigger_event', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.import_error', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.subscription_subscription_no_seq', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.trigger_event_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.import_error_error_id_seq', '');

-- Nothing is granted to PUBLIC.
REVOKE ALL ON SCHEMA profimport FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA profimport FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA profimport FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA profimport FROM PUBLIC;

GRANT USAGE ON SCHEMA profimport TO pg_monitor;
GRANT SELECT ON profimport.stat_worker, profimport.stat_result, profimport.stat_minute, profimport.status TO pg_monitor;
