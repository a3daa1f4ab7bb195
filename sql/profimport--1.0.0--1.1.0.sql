-- From 1.0.0 to 1.1.0. Whoever changes sql/ext adds the same change here; t/180_upgrade.pl compares.
\echo Use "ALTER EXTENSION profimport UPDATE TO '1.1.0'" to load this file. \quit

-- ---- contacts whose provider holds a control character are told apart ----

-- First, because it waits for the strongest lock.
DROP INDEX profimport.subscription_contact_key;
CREATE UNIQUE INDEX subscription_contact_key ON profimport.subscription
	(md5(CASE WHEN channel = 'email' THEN lower(contact COLLATE "C")
			WHEN channel = 'push' THEN ((octet_length(provider)::text || ':') || provider) || contact
			WHEN channel = 'telegram_bot' THEN jsonb_hash_extended(cc_data, 0::bigint)::text
			ELSE contact END),
		profile_id, resource_id, channel, db_id, account_id);
COMMENT ON INDEX profimport.subscription_contact_key IS
	'contacts, for matching; a profile has one subscription per resource, channel and contact';

-- ---- rows are removed by their number ----

DROP INDEX profimport.trigger_event_occurred_at;

-- ---- grant_worker() grants nothing to everybody ----

CREATE OR REPLACE FUNCTION profimport.grant_worker(role name) RETURNS void
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

CREATE FUNCTION profimport.stat_get_minute(
	OUT minute timestamptz, OUT messages bigint, OUT succeeded bigint, OUT failed bigint, OUT created bigint, OUT updated bigint,
	OUT unchanged bigint, OUT redelivered bigint, OUT duplicates bigint, OUT batches bigint, OUT results_published bigint,
	OUT trigger_events bigint, OUT import_ms float8, OUT longest_batch_ms float8, OUT retries bigint, OUT connects bigint)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_minute_1_1';
COMMENT ON FUNCTION profimport.stat_get_minute() IS 'internal: what view stat_minute shows';

CREATE VIEW profimport.stat_minute AS
	SELECT s.minute, s.messages, s.succeeded, s.failed, s.created, s.updated, s.unchanged, s.redelivered, s.duplicates,
			s.batches, s.results_published, s.trigger_events, s.import_ms, s.longest_batch_ms, s.retries, s.connects
		FROM profimport.stat_get_minute() s;
COMMENT ON VIEW profimport.stat_minute IS 'what the workers did in the last day, a row per minute with traffic';
COMMENT ON COLUMN profimport.stat_minute.minute IS 'when the minute began';
COMMENT ON COLUMN profimport.stat_minute.messages IS 'messages answered: succeeded + failed + duplicates';
COMMENT ON COLUMN profimport.stat_minute.succeeded IS 'messages imported with error 0: created + updated + unchanged';
COMMENT ON COLUMN profimport.stat_minute.failed IS 'messages answered with another error';
COMMENT ON COLUMN profimport.stat_minute.created IS 'messages that created a profile';
COMMENT ON COLUMN profimport.stat_minute.updated IS 'messages that changed one';
COMMENT ON COLUMN profimport.stat_minute.unchanged IS 'messages that had nothing to change';
COMMENT ON COLUMN profimport.stat_minute.redelivered IS 'messages the broker had delivered before';
COMMENT ON COLUMN profimport.stat_minute.duplicates IS 'messages recognised as repeats and answered from the record';
COMMENT ON COLUMN profimport.stat_minute.batches IS 'transactions committed';
COMMENT ON COLUMN profimport.stat_minute.results_published IS 'messages published and confirmed by the broker';
COMMENT ON COLUMN profimport.stat_minute.trigger_events IS 'trigger events made';
COMMENT ON COLUMN profimport.stat_minute.import_ms IS 'time the batches took together, in milliseconds; of several workers more than passed';
COMMENT ON COLUMN profimport.stat_minute.longest_batch_ms IS 'time the longest of them took, in milliseconds';
COMMENT ON COLUMN profimport.stat_minute.retries IS 'transactions that failed as a whole and were tried again';
COMMENT ON COLUMN profimport.stat_minute.connects IS 'connections made to a broker';

REVOKE ALL ON FUNCTION profimport.stat_get_minute() FROM PUBLIC;
REVOKE ALL ON profimport.stat_minute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profimport.stat_get_minute() TO pg_monitor;
GRANT SELECT ON profimport.stat_minute TO pg_monitor;

COMMENT ON FUNCTION profimport.stat_reset() IS 'zeroes the counters of stat_worker, stat_result and stat_minute';

-- ---- the record of a batch tells where its deliveries come from ----

COMMENT ON COLUMN profimport.batch.digests IS
	'16 bytes for each delivery that may come back although it was applied; zeros where it has come back; then 4 bytes for queue and virtual host and 4 for the broker: hashes of their names';

-- ---- declarations that cannot be are refused with a hint ----

CREATE FUNCTION profimport.declaration_check() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	indexed bool := NEW.matching;
BEGIN
	IF TG_TABLE_NAME = 'field' THEN
		indexed := indexed OR NEW.is_unique;
	END IF;
	IF NEW.type NOT IN ('string', 'int', 'float', 'bool', 'date', 'datetime', 'list', 'ip', 'tags', 'object', 'arr_object') THEN
		RAISE check_violation
			USING MESSAGE = format('field "%s" has unknown type "%s"', NEW.name, NEW.type),
				HINT = 'The types are string, int, float, bool, date, datetime, list, ip, tags, object and arr_object.',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_type_known';
	END IF;
	IF NEW.type = 'list' AND (coalesce(cardinality(NEW.options), 0) = 0 OR array_position(NEW.options, NULL) IS NOT NULL) THEN
		RAISE check_violation
			USING MESSAGE = format('list field "%s" lacks options', NEW.name),
				HINT = 'Name the strings it accepts in options, for example ''{basic,plus}''.',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_options_of_list';
	END IF;
	IF indexed AND NEW.type IN ('object', 'arr_object') THEN
		RAISE check_violation
			USING MESSAGE = format('field "%s" of type %s cannot be matched by', NEW.name, NEW.type),
				HINT = 'Leave its matching off, or declare the part that is matched by as a field of its own.',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_type_matchable';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION profimport.declaration_check() IS 'internal: refuses a declaration that cannot be, and says what can';
REVOKE ALL ON FUNCTION profimport.declaration_check() FROM PUBLIC;

-- Their names sort before "upkeep", which takes the declaration for a sound one.
CREATE TRIGGER declaration BEFORE INSERT OR UPDATE ON profimport.field
	FOR EACH ROW EXECUTE FUNCTION profimport.declaration_check();
CREATE TRIGGER declaration BEFORE INSERT OR UPDATE ON profimport.resource_field
	FOR EACH ROW EXECUTE FUNCTION profimport.declaration_check();
COMMENT ON TRIGGER declaration ON profimport.field IS 'refuses a declaration that cannot be, and says what can';
COMMENT ON TRIGGER declaration ON profimport.resource_field IS 'refuses a declaration that cannot be, and says what can';

-- ---- comments on sequences and constraints ----

COMMENT ON CONSTRAINT account_pkey ON profimport.account IS 'one row per account_id';
COMMENT ON CONSTRAINT account_id_positive ON profimport.account IS 'from 1, as in messages';
COMMENT ON CONSTRAINT database_pkey ON profimport.database IS 'one row per account and db_id';
COMMENT ON CONSTRAINT database_id_positive ON profimport.database IS 'from 1, as in messages';
COMMENT ON CONSTRAINT field_pkey ON profimport.field IS 'one declaration per database and name';
COMMENT ON CONSTRAINT field_type_known ON profimport.field IS 'the types a field can have';
COMMENT ON CONSTRAINT field_options_of_list ON profimport.field IS 'a list has options, no other type has';
COMMENT ON CONSTRAINT field_type_matchable ON profimport.field IS 'objects and arrays of objects cannot be matched by';
COMMENT ON CONSTRAINT resource_pkey ON profimport.resource IS 'one row per account and resource_id';
COMMENT ON CONSTRAINT resource_id_positive ON profimport.resource IS 'from 1, as in messages';
COMMENT ON CONSTRAINT resource_db_ids_not_null ON profimport.resource IS 'NULL stands for every database only in place of the whole array';
COMMENT ON CONSTRAINT resource_categories_named ON profimport.resource IS 'no NULL and no empty name';
COMMENT ON CONSTRAINT resource_field_pkey ON profimport.resource_field IS 'one declaration per resource and name';
COMMENT ON CONSTRAINT resource_field_type_known ON profimport.resource_field IS 'the types a field can have';
COMMENT ON CONSTRAINT resource_field_options_of_list ON profimport.resource_field IS 'a list has options, no other type has';
COMMENT ON CONSTRAINT resource_field_type_matchable ON profimport.resource_field IS 'objects and arrays of objects cannot be matched by';
COMMENT ON CONSTRAINT profile_pkey ON profimport.profile IS 'one row per database and profile_id';
COMMENT ON CONSTRAINT profile_key_pkey ON profimport.profile_key IS 'one row per value and profile; finds the profiles that have a value';
COMMENT ON CONSTRAINT subscription_pkey ON profimport.subscription IS 'finds the subscriptions of a profile';
COMMENT ON SEQUENCE profimport.subscription_subscription_no_seq IS 'numbers of subscriptions';
COMMENT ON CONSTRAINT subscription_key_pkey ON profimport.subscription_key IS 'one row per value and subscription; finds the subscriptions that have a value';
COMMENT ON CONSTRAINT trigger_event_pkey ON profimport.trigger_event IS 'the order in which events are handed out';
COMMENT ON SEQUENCE profimport.trigger_event_event_id_seq IS 'numbers of events, those that go to profimport.trigger_queue included';
COMMENT ON CONSTRAINT import_error_pkey ON profimport.import_error IS 'what retry_error() is called with';
COMMENT ON SEQUENCE profimport.import_error_error_id_seq IS 'numbers of failed messages';
COMMENT ON CONSTRAINT batch_pkey ON profimport.batch IS 'one row per batch';
COMMENT ON SEQUENCE profimport.batch_batch_id_seq IS 'numbers of batches';
COMMENT ON CONSTRAINT dedup_pkey ON profimport.dedup IS 'finds the message that is repeated';
COMMENT ON CONSTRAINT applied_pkey ON profimport.applied IS 'one row per batch';
COMMENT ON CONSTRAINT worker_run_pkey ON profimport.worker_run IS 'one row per worker';
COMMENT ON CONSTRAINT attempt_pkey ON profimport.attempt IS 'one row per delivery';

-- It was read and parsed anew by every batch.
ALTER TABLE profimport.trigger_event DROP CONSTRAINT trigger_event_kind_known;

-- ---- events are taken at a cost that depends on no statistics ----

CREATE OR REPLACE FUNCTION profimport.take_trigger_events(max_events int) RETURNS SETOF profimport.trigger_event
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	IF max_events IS NULL OR max_events < 0 THEN
		RAISE invalid_parameter_value
			USING MESSAGE = 'max_events must not be negative or null';
	END IF;
	-- Takers at the same time pass over each other's rows.  Rows are removed by
	-- the place they were locked at: statistics of a table that is full now and
	-- empty then make the planner read all of it, for a join or for a sort.
	RETURN QUERY
		WITH taken AS MATERIALIZED (
			DELETE FROM profimport.trigger_event e
				WHERE e.ctid = ANY (ARRAY(
					SELECT t.ctid FROM profimport.trigger_event t
						ORDER BY t.event_id LIMIT max_events FOR UPDATE SKIP LOCKED))
				RETURNING e.*)
		SELECT * FROM taken ORDER BY event_id;
END
$$;
