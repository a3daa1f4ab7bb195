-- ---------------------------------------------------------------------------
-- Upkeep of the configuration: what must hold when it changes
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.config_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'pi_config_changed';
COMMENT ON FUNCTION profimport.config_changed() IS 'internal: makes cached configuration stale in every process';

-- The keys of a stored value as profile_key and subscription_key hold them.
CREATE FUNCTION profimport.match_keys(type text, value jsonb) RETURNS SETOF text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pi_match_keys_srf';
COMMENT ON FUNCTION profimport.match_keys(text, jsonb) IS 'internal: the keys under which a stored value of a field is indexed';

CREATE FUNCTION profimport.restoring() RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT pg_catalog.current_setting('check_function_bodies') OPERATOR(pg_catalog.=) 'off'
$$;
COMMENT ON FUNCTION profimport.restoring() IS
	'internal: true in a session that loads the output of pg_dump, where rows come in any order';

-- ---- what changes of the configuration need ----

CREATE FUNCTION profimport.need_read_committed() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
		AND NOT profimport.restoring() THEN
		RAISE feature_not_supported
			USING MESSAGE = 'changes of the configuration that depend on the data need a READ COMMITTED transaction',
				HINT = 'SET TRANSACTION ISOLATION LEVEL READ COMMITTED.';
	END IF;
END
$$;
COMMENT ON FUNCTION profimport.need_read_committed() IS
	'internal: a snapshot taken before would not show what others have written since';

CREATE FUNCTION profimport.wait_for_writers(rel name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM profimport.need_read_committed();
	-- Writers hold ROW EXCLUSIVE until they commit: none of them runs on the
	-- old configuration while the rows are looked at.
	EXECUTE format('LOCK TABLE profimport.%I IN SHARE ROW EXCLUSIVE MODE', rel);
END
$$;
COMMENT ON FUNCTION profimport.wait_for_writers(name) IS
	'internal: locks writers out of profile or subscription until the end of the transaction';

-- ---- references between configuration tables ----

CREATE FUNCTION profimport.parent_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	parent text;
	found_one bool;
BEGIN
	IF profimport.restoring() THEN
		RETURN NULL;
	END IF;
	-- FOR KEY SHARE: the parent stays until we commit
	CASE TG_TABLE_NAME
		WHEN 'database', 'resource' THEN
			PERFORM FROM profimport.account a WHERE a.account_id = NEW.account_id FOR KEY SHARE;
			found_one := FOUND;
			parent := format('account %s', NEW.account_id);
		WHEN 'field' THEN
			PERFORM FROM profimport.database d
				WHERE (d.account_id, d.db_id) = (NEW.account_id, NEW.db_id) FOR KEY SHARE;
			found_one := FOUND;
			parent := format('database %s of account %s', NEW.db_id, NEW.account_id);
		WHEN 'resource_field' THEN
			PERFORM FROM profimport.resource r
				WHERE (r.account_id, r.resource_id) = (NEW.account_id, NEW.resource_id) FOR KEY SHARE;
			found_one := FOUND;
			parent := format('resource %s of account %s', NEW.resource_id, NEW.account_id);
	END CASE;
	IF NOT found_one THEN
		RAISE foreign_key_violation
			USING MESSAGE = format('%s does not exist', parent),
				HINT = 'Insert it first.',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION profimport.parent_check() IS 'internal: what a row of configuration belongs to must exist';

CREATE FUNCTION profimport.account_gone() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND OLD.account_id = NEW.account_id THEN
		RETURN NULL;
	END IF;
	PERFORM profimport.need_read_committed();
	IF EXISTS (SELECT FROM profimport.database d WHERE d.account_id = OLD.account_id)
		OR EXISTS (SELECT FROM profimport.resource r WHERE r.account_id = OLD.account_id) THEN
		RAISE foreign_key_violation
			USING MESSAGE = format('account %s has databases or resources', OLD.account_id),
				HINT = 'Delete them first.',
				SCHEMA = 'profimport', TABLE = 'account';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION profimport.account_gone() IS 'internal: refuses to delete an account that owns something';

CREATE FUNCTION profimport.database_gone() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND (OLD.account_id, OLD.db_id) = (NEW.account_id, NEW.db_id) THEN
		RETURN NULL;
	END IF;
	PERFORM profimport.wait_for_writers('profile');
	IF EXISTS (SELECT FROM profimport.profile p WHERE p.account_id = OLD.account_id AND p.db_id = OLD.db_id) THEN
		RAISE foreign_key_violation
			USING MESSAGE = format('database %s of account %s has profiles', OLD.db_id, OLD.account_id),
				HINT = 'Delete its profiles first.',
				SCHEMA = 'profimport', TABLE = 'database';
	END IF;
	IF TG_OP = 'UPDATE' THEN
		UPDATE profimport.field f SET account_id = NEW.account_id, db_id = NEW.db_id
			WHERE f.account_id = OLD.account_id AND f.db_id = OLD.db_id;
	ELSE
		DELETE FROM profimport.field f WHERE f.account_id = OLD.account_id AND f.db_id = OLD.db_id;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION profimport.database_gone() IS
	'internal: refuses to delete a database that has profiles; its fields go with it';

CREATE FUNCTION profimport.resource_upkeep() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	moved bool := TG_OP = 'DELETE';
	closed int;
	gone text;
BEGIN
	IF TG_OP = 'UPDATE' THEN
		moved := (OLD.account_id, OLD.resource_id) <> (NEW.account_id, NEW.resource_id);
		IF NOT moved AND OLD.db_ids IS NOT DISTINCT FROM NEW.db_ids AND OLD.categories <@ NEW.categories THEN
			RETURN NULL;
		END IF;
	END IF;
	PERFORM profimport.wait_for_writers('subscription');
	IF moved THEN
		IF EXISTS (SELECT FROM profimport.subscription s
				WHERE s.account_id = OLD.account_id AND s.resource_id = OLD.resource_id) THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('resource %s of account %s has subscriptions', OLD.resource_id, OLD.account_id),
					HINT = 'Delete its subscriptions first.',
					SCHEMA = 'profimport', TABLE = 'resource';
		END IF;
		IF TG_OP = 'UPDATE' THEN
			UPDATE profimport.resource_field f SET account_id = NEW.account_id, resource_id = NEW.resource_id
				WHERE f.account_id = OLD.account_id AND f.resource_id = OLD.resource_id;
		ELSE
			DELETE FROM profimport.resource_field f
				WHERE f.account_id = OLD.account_id AND f.resource_id = OLD.resource_id;
		END IF;
		RETURN NULL;
	END IF;
	IF NEW.db_ids IS NOT NULL THEN
		SELECT s.db_id INTO closed FROM profimport.subscription s
			WHERE s.account_id = OLD.account_id AND s.resource_id = OLD.resource_id
				AND s.db_id <> ALL (NEW.db_ids) LIMIT 1;
		IF FOUND THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('resource %s of account %s has subscriptions in database %s',
						OLD.resource_id, OLD.account_id, closed),
					HINT = 'Delete these subscriptions first, or leave the resource open to the database.',
					SCHEMA = 'profimport', TABLE = 'resource', COLUMN = 'db_ids';
		END IF;
	END IF;
	IF NOT OLD.categories <@ NEW.categories THEN
		SELECT c INTO gone FROM profimport.subscription s, unnest(s.cats) c
			WHERE s.account_id = OLD.account_id AND s.resource_id = OLD.resource_id
				AND c <> ALL (NEW.categories) LIMIT 1;
		IF FOUND THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('category "%s" of resource %s of account %s is in use',
						gone, OLD.resource_id, OLD.account_id),
					HINT = 'Take it out of cats of the subscriptions first.',
					SCHEMA = 'profimport', TABLE = 'resource', COLUMN = 'categories';
		END IF;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION profimport.resource_upkeep() IS
	'internal: refuses changes that subscriptions depend on; fields go with their resource';

CREATE FUNCTION profimport.truncate_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	used bool;
BEGIN
	CASE TG_TABLE_NAME
		WHEN 'account' THEN
			used := EXISTS (SELECT FROM profimport.database) OR EXISTS (SELECT FROM profimport.resource);
		WHEN 'database' THEN
			PERFORM profimport.wait_for_writers('profile');
			used := EXISTS (SELECT FROM profimport.field) OR EXISTS (SELECT FROM profimport.profile);
		WHEN 'resource' THEN
			PERFORM profimport.wait_for_writers('subscription');
			used := EXISTS (SELECT FROM profimport.resource_field) OR EXISTS (SELECT FROM profimport.subscription);
		WHEN 'field' THEN
			PERFORM profimport.wait_for_writers('profile');
			used := EXISTS (SELECT FROM profimport.profile);
		WHEN 'resource_field' THEN
			PERFORM profimport.wait_for_writers('subscription');
			used := EXISTS (SELECT FROM profimport.subscription);
	END CASE;
	IF used THEN
		RAISE foreign_key_violation
			USING MESSAGE = format('table "%s" is in use by other tables of profimport', TG_TABLE_NAME),
				HINT = 'Empty them first: subscription, profile, field, resource_field, database, resource, account.',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION profimport.truncate_check() IS 'internal: refuses to truncate configuration that is in use';

-- ---- declarations ----

-- What the CHECK constraints of these tables refuse too, said so that the next step is clear.
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

CREATE FUNCTION profimport.field_upkeep() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	gone text;
	dup text;
BEGIN
	-- here and not in a constraint: those ask the right to call of whoever writes
	IF TG_OP <> 'DELETE' AND NOT profimport.is_field_name(NEW.name) THEN
		RAISE check_violation
			USING MESSAGE = format('"%s" cannot be the name of a declared field', NEW.name),
				DETAIL = 'It is empty, longer than 255 bytes, a standard field, "subscriptions" or "profile_id".',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME, COLUMN = 'name';
	END IF;
	IF TG_OP <> 'DELETE' THEN
		NEW.matching := NEW.matching OR NEW.is_unique;
		IF NEW.type <> 'list' THEN
			NEW.options := NULL;
		END IF;
	END IF;

	IF TG_OP = 'UPDATE' AND (OLD.account_id, OLD.db_id, OLD.name, OLD.type, OLD.matching, OLD.is_unique)
		= (NEW.account_id, NEW.db_id, NEW.name, NEW.type, NEW.matching, NEW.is_unique)
		AND (NEW.options IS NULL OR OLD.options <@ NEW.options) THEN
		RETURN NEW;
	END IF;
	IF TG_OP = 'INSERT' AND NOT NEW.matching THEN
		RETURN NEW;
	END IF;

	PERFORM profimport.wait_for_writers('profile');

	IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.account_id, OLD.db_id, OLD.name, OLD.type)
			<> (NEW.account_id, NEW.db_id, NEW.name, NEW.type)) THEN
		IF EXISTS (SELECT FROM profimport.profile p
				WHERE p.account_id = OLD.account_id AND p.db_id = OLD.db_id AND p.data ? OLD.name) THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('field "%s" of database %s of account %s is in use', OLD.name, OLD.db_id, OLD.account_id),
					HINT = 'Unset it in every profile first.',
					SCHEMA = 'profimport', TABLE = 'field';
		END IF;
	END IF;
	IF TG_OP = 'DELETE' THEN
		RETURN OLD;
	END IF;

	IF TG_OP = 'UPDATE' AND NEW.type = 'list' AND OLD.type = 'list' AND NOT OLD.options <@ NEW.options THEN
		SELECT p.data ->> OLD.name INTO gone FROM profimport.profile p
			WHERE p.account_id = OLD.account_id AND p.db_id = OLD.db_id AND p.data ? OLD.name
				AND p.data ->> OLD.name <> ALL (NEW.options) LIMIT 1;
		IF FOUND THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('option "%s" of field "%s" of database %s of account %s is in use',
						gone, OLD.name, OLD.db_id, OLD.account_id),
					HINT = 'Set the field to another option in every profile first.',
					SCHEMA = 'profimport', TABLE = 'field', COLUMN = 'options';
		END IF;
	END IF;

	IF TG_OP = 'UPDATE' AND OLD.matching AND (NOT NEW.matching OR OLD.is_unique <> NEW.is_unique) THEN
		DELETE FROM profimport.profile_key k
			WHERE k.name = OLD.name AND k.account_id = OLD.account_id AND k.db_id = OLD.db_id;
	END IF;
	IF NEW.matching AND (TG_OP = 'INSERT' OR NOT OLD.matching OR OLD.is_unique <> NEW.is_unique) THEN
		IF NEW.is_unique THEN
			SELECT p.data ->> NEW.name INTO dup
				FROM profimport.profile p, profimport.match_keys(NEW.type, p.data -> NEW.name) k
				WHERE p.account_id = NEW.account_id AND p.db_id = NEW.db_id AND p.data ? NEW.name
				GROUP BY k, p.data ->> NEW.name HAVING count(*) > 1 LIMIT 1;
			IF NOT FOUND THEN
				SELECT min(p.data ->> NEW.name) INTO dup
					FROM profimport.profile p, profimport.match_keys(NEW.type, p.data -> NEW.name) k
					WHERE p.account_id = NEW.account_id AND p.db_id = NEW.db_id AND p.data ? NEW.name
					GROUP BY k HAVING count(*) > 1 LIMIT 1;
			END IF;
			IF FOUND THEN
				RAISE unique_violation
					USING MESSAGE = format('field "%s" of database %s of account %s is not unique', NEW.name, NEW.db_id, NEW.account_id),
						DETAIL = format('Several profiles have the value %s.', left(dup, 200)),
						SCHEMA = 'profimport', TABLE = 'field', COLUMN = 'is_unique', CONSTRAINT = 'profile_key_unique';
			END IF;
		END IF;
		INSERT INTO profimport.profile_key (key_value, name, profile_id, db_id, account_id, is_unique)
			SELECT k, NEW.name, p.profile_id, p.db_id, p.account_id, NEW.is_unique
				FROM profimport.profile p, profimport.match_keys(NEW.type, p.data -> NEW.name) k
				WHERE p.account_id = NEW.account_id AND p.db_id = NEW.db_id AND p.data ? NEW.name;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION profimport.field_upkeep() IS 'internal: refuses changes that profiles depend on, indexes what is there';

CREATE FUNCTION profimport.resource_field_upkeep() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	gone text;
BEGIN
	-- here and not in a constraint: those ask the right to call of whoever writes
	IF TG_OP <> 'DELETE' AND NOT profimport.is_field_name(NEW.name) THEN
		RAISE check_violation
			USING MESSAGE = format('"%s" cannot be the name of a declared field', NEW.name),
				DETAIL = 'It is empty, longer than 255 bytes, a standard field, "subscriptions" or "profile_id".',
				SCHEMA = 'profimport', TABLE = TG_TABLE_NAME, COLUMN = 'name';
	END IF;
	IF TG_OP <> 'DELETE' AND NEW.type <> 'list' THEN
		NEW.options := NULL;
	END IF;
	IF TG_OP = 'UPDATE' AND (OLD.account_id, OLD.resource_id, OLD.name, OLD.type, OLD.matching)
		= (NEW.account_id, NEW.resource_id, NEW.name, NEW.type, NEW.matching)
		AND (NEW.options IS NULL OR OLD.options <@ NEW.options) THEN
		RETURN NEW;
	END IF;
	IF TG_OP = 'INSERT' AND NOT NEW.matching THEN
		RETURN NEW;
	END IF;
	PERFORM profimport.wait_for_writers('subscription');

	IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.account_id, OLD.resource_id, OLD.name, OLD.type)
			<> (NEW.account_id, NEW.resource_id, NEW.name, NEW.type)) THEN
		IF EXISTS (SELECT FROM profimport.subscription s
				WHERE s.account_id = OLD.account_id AND s.resource_id = OLD.resource_id AND s.custom_fields ? OLD.name) THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('field "%s" of resource %s of account %s is in use', OLD.name, OLD.resource_id, OLD.account_id),
					HINT = 'Unset it in every subscription first.',
					SCHEMA = 'profimport', TABLE = 'resource_field';
		END IF;
	END IF;
	IF TG_OP = 'DELETE' THEN
		RETURN OLD;
	END IF;

	IF TG_OP = 'UPDATE' AND NEW.type = 'list' AND OLD.type = 'list' AND NOT OLD.options <@ NEW.options THEN
		SELECT s.custom_fields ->> OLD.name INTO gone FROM profimport.subscription s
			WHERE s.account_id = OLD.account_id AND s.resource_id = OLD.resource_id AND s.custom_fields ? OLD.name
				AND s.custom_fields ->> OLD.name <> ALL (NEW.options) LIMIT 1;
		IF FOUND THEN
			RAISE foreign_key_violation
				USING MESSAGE = format('option "%s" of field "%s" of resource %s of account %s is in use',
						gone, OLD.name, OLD.resource_id, OLD.account_id),
					HINT = 'Set the field to another option in every subscription first.',
					SCHEMA = 'profimport', TABLE = 'resource_field', COLUMN = 'options';
		END IF;
	END IF;

	IF TG_OP = 'UPDATE' AND OLD.matching AND NOT NEW.matching THEN
		DELETE FROM profimport.subscription_key k
			WHERE k.name = OLD.name AND k.account_id = OLD.account_id AND k.resource_id = OLD.resource_id;
	END IF;
	IF NEW.matching AND (TG_OP = 'INSERT' OR NOT OLD.matching) THEN
		INSERT INTO profimport.subscription_key (key_value, name, resource_id, profile_id, subscription_no, db_id, account_id)
			SELECT k, NEW.name, s.resource_id, s.profile_id, s.subscription_no, s.db_id, s.account_id
				FROM profimport.subscription s, profimport.match_keys(NEW.type, s.custom_fields -> NEW.name) k
				WHERE s.account_id = NEW.account_id AND s.resource_id = NEW.resource_id AND s.custom_fields ? NEW.name;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION profimport.resource_field_upkeep() IS 'internal: refuses changes that subscriptions depend on, indexes what is there';

-- Their names sort before "upkeep", which takes the declaration for a sound one.
CREATE TRIGGER declaration BEFORE INSERT OR UPDATE ON profimport.field
	FOR EACH ROW EXECUTE FUNCTION profimport.declaration_check();
CREATE TRIGGER declaration BEFORE INSERT OR UPDATE ON profimport.resource_field
	FOR EACH ROW EXECUTE FUNCTION profimport.declaration_check();
COMMENT ON TRIGGER declaration ON profimport.field IS 'refuses a declaration that cannot be, and says what can';
COMMENT ON TRIGGER declaration ON profimport.resource_field IS 'refuses a declaration that cannot be, and says what can';
CREATE TRIGGER upkeep BEFORE INSERT OR UPDATE OR DELETE ON profimport.field
	FOR EACH ROW EXECUTE FUNCTION profimport.field_upkeep();
CREATE TRIGGER upkeep BEFORE INSERT OR UPDATE OR DELETE ON profimport.resource_field
	FOR EACH ROW EXECUTE FUNCTION profimport.resource_field_upkeep();
CREATE TRIGGER upkeep AFTER UPDATE OR DELETE ON profimport.account
	FOR EACH ROW EXECUTE FUNCTION profimport.account_gone();
CREATE TRIGGER upkeep AFTER UPDATE OR DELETE ON profimport.database
	FOR EACH ROW EXECUTE FUNCTION profimport.database_gone();
CREATE TRIGGER upkeep AFTER UPDATE OR DELETE ON profimport.resource
	FOR EACH ROW EXECUTE FUNCTION profimport.resource_upkeep();
COMMENT ON TRIGGER upkeep ON profimport.field IS 'refuses changes that profiles depend on, indexes what is there';
COMMENT ON TRIGGER upkeep ON profimport.resource_field IS 'refuses changes that subscriptions depend on, indexes what is there';
COMMENT ON TRIGGER upkeep ON profimport.account IS 'refuses to delete an account that owns something';
COMMENT ON TRIGGER upkeep ON profimport.database IS 'refuses to delete a database that has profiles';
COMMENT ON TRIGGER upkeep ON profimport.resource IS 'refuses changes that subscriptions depend on';

DO $$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['account', 'database', 'field', 'resource', 'resource_field'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON profimport.%I '
			'FOR EACH STATEMENT EXECUTE FUNCTION profimport.config_changed()', t);
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER changed ON profimport.%I IS ''makes cached configuration stale''', t);
		EXECUTE pg_catalog.format('CREATE TRIGGER truncated BEFORE TRUNCATE ON profimport.%I '
			'FOR EACH STATEMENT EXECUTE FUNCTION profimport.truncate_check()', t);
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER truncated ON profimport.%I IS ''refuses to truncate what is in use''', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['database', 'field', 'resource', 'resource_field'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER parent AFTER INSERT OR UPDATE ON profimport.%I '
			'FOR EACH ROW EXECUTE FUNCTION profimport.parent_check()', t);
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER parent ON profimport.%I IS ''what the row belongs to must exist''', t);
	END LOOP;
END
$$;
