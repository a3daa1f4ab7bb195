-- Names, white space and case are compared byte by byte; JSON is UTF-8.
DO $$
BEGIN
	IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
		RAISE feature_not_supported
			USING MESSAGE = 'profimport needs a database with encoding UTF8',
				DETAIL = pg_catalog.format('The encoding of this database is %s.', pg_catalog.getdatabaseencoding()),
				HINT = 'Create the extension in a database made with ENCODING ''UTF8''.';
	END IF;
END
$$;

COMMENT ON SCHEMA profimport IS 'customer profiles imported from RabbitMQ: configuration, data, functions and statistics';

-- ---------------------------------------------------------------------------
-- Helpers of constraints and indexes
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.is_field_name(name text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pi_is_field_name';
COMMENT ON FUNCTION profimport.is_field_name(text) IS
	'true if a field may be declared under this name: 1 to 255 bytes, not a standard field, not "subscriptions" or "profile_id"';

CREATE FUNCTION profimport.new_profile_id() RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pi_new_profile_id';
COMMENT ON FUNCTION profimport.new_profile_id() IS
	'a new profile id: 24 lower-case hexadecimal digits, ordered by time';
