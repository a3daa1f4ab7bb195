-- The SQL objects of version 1.0.0, as released. Never changed; what came later is in the update scripts.
\echo Use "CREATE EXTENSION profimport" to load this file. \quit

-- ---- sql/ext/10_schema.sql ----

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

-- ---- sql/ext/20_config.sql ----

-- ---------------------------------------------------------------------------
-- Configuration: accounts, databases, fields, resources
--
-- Running workers keep it cached; a statement on any of these tables makes
-- every cache stale at commit.  Changes that depend on the data (a type, a
-- deletion, matching) lock out writers of profiles for their transaction, so
-- that no import can run on the old rules meanwhile.
--
-- References are kept by triggers, not by foreign keys: a parallel restore
-- loads the tables of an extension in any order, which foreign keys refuse.
-- Triggers know such a session by check_function_bodies, which the output of
-- pg_dump switches off, and then do not ask for rows that may still come.
-- ---------------------------------------------------------------------------

CREATE TABLE profimport.account (
	account_id	int NOT NULL PRIMARY KEY CONSTRAINT account_id_positive CHECK (account_id > 0),
	name		text NOT NULL DEFAULT ''
);
COMMENT ON TABLE profimport.account IS 'accounts: the owners of databases and resources';
COMMENT ON COLUMN profimport.account.account_id IS 'account_id of the messages';
COMMENT ON COLUMN profimport.account.name IS 'for people; not used';

CREATE TABLE profimport.database (
	account_id	int NOT NULL,
	db_id		int NOT NULL CONSTRAINT database_id_positive CHECK (db_id > 0),
	name		text NOT NULL DEFAULT '',
	PRIMARY KEY (account_id, db_id)
);
COMMENT ON TABLE profimport.database IS 'databases of profiles (not PostgreSQL databases)';
COMMENT ON COLUMN profimport.database.account_id IS 'the account that owns the database';
COMMENT ON COLUMN profimport.database.db_id IS 'db_id of the messages; unique within the account';
COMMENT ON COLUMN profimport.database.name IS 'for people; not used';

CREATE TABLE profimport.field (
	account_id	int NOT NULL,
	db_id		int NOT NULL,
	name		text COLLATE "C" NOT NULL,
	type		text NOT NULL CONSTRAINT field_type_known CHECK (type IN
		('string', 'int', 'float', 'bool', 'date', 'datetime', 'list', 'ip', 'tags', 'object', 'arr_object')),
	options		text[],
	required	bool NOT NULL DEFAULT false,
	matching	bool NOT NULL DEFAULT false,
	is_unique	bool NOT NULL DEFAULT false,
	PRIMARY KEY (account_id, db_id, name),
	CONSTRAINT field_options_of_list CHECK (
		CASE WHEN type = 'list'
			THEN coalesce(cardinality(options), 0) > 0 AND array_position(options, NULL) IS NULL
			ELSE coalesce(cardinality(options), 0) = 0 END),
	CONSTRAINT field_type_matchable CHECK (NOT (matching OR is_unique) OR type NOT IN ('object', 'arr_object'))
);
COMMENT ON TABLE profimport.field IS 'declared fields of the profiles of a database; standard fields need no declaration';
COMMENT ON COLUMN profimport.field.account_id IS 'account of the database';
COMMENT ON COLUMN profimport.field.db_id IS 'database whose profiles have the field';
COMMENT ON COLUMN profimport.field.name IS 'name of the field in data';
COMMENT ON COLUMN profimport.field.type IS 'string, int, float, bool, date, datetime, list, ip, tags, object or arr_object';
COMMENT ON COLUMN profimport.field.options IS 'the allowed strings of a list field; NULL for every other type';
COMMENT ON COLUMN profimport.field.required IS 'must be present when a profile is created, and cannot be unset';
COMMENT ON COLUMN profimport.field.matching IS 'can be matched by (matching = custom); its values are indexed';
COMMENT ON COLUMN profimport.field.is_unique IS 'no two profiles of the database have the same value; implies matching';

CREATE TABLE profimport.resource (
	account_id	int NOT NULL,
	resource_id	int NOT NULL CONSTRAINT resource_id_positive CHECK (resource_id > 0),
	name		text NOT NULL DEFAULT '',
	db_ids		int[] CONSTRAINT resource_db_ids_not_null CHECK (array_position(db_ids, NULL) IS NULL),
	categories	text[] NOT NULL DEFAULT '{}' CONSTRAINT resource_categories_named
		CHECK (array_position(categories, NULL) IS NULL AND array_position(categories, '') IS NULL),
	PRIMARY KEY (account_id, resource_id)
);
COMMENT ON TABLE profimport.resource IS 'resources: groups of subscriptions';
COMMENT ON COLUMN profimport.resource.account_id IS 'the account that owns the resource';
COMMENT ON COLUMN profimport.resource.resource_id IS 'resource_id of the messages; unique within the account';
COMMENT ON COLUMN profimport.resource.name IS 'for people; not used';
COMMENT ON COLUMN profimport.resource.db_ids IS 'databases the resource is open to; NULL: every database of the account';
COMMENT ON COLUMN profimport.resource.categories IS 'the categories that cats of a subscription may name';

CREATE TABLE profimport.resource_field (
	account_id	int NOT NULL,
	resource_id	int NOT NULL,
	name		text COLLATE "C" NOT NULL,
	type		text NOT NULL CONSTRAINT resource_field_type_known CHECK (type IN
		('string', 'int', 'float', 'bool', 'date', 'datetime', 'list', 'ip', 'tags', 'object', 'arr_object')),
	options		text[],
	required	bool NOT NULL DEFAULT false,
	matching	bool NOT NULL DEFAULT false,
	PRIMARY KEY (account_id, resource_id, name),
	CONSTRAINT resource_field_options_of_list CHECK (
		CASE WHEN type = 'list'
			THEN coalesce(cardinality(options), 0) > 0 AND array_position(options, NULL) IS NULL
			ELSE coalesce(cardinality(options), 0) = 0 END),
	CONSTRAINT resource_field_type_matchable CHECK (NOT matching OR type NOT IN ('object', 'arr_object'))
);
COMMENT ON TABLE profimport.resource_field IS 'declared custom_fields of the subscriptions of a resource';
COMMENT ON COLUMN profimport.resource_field.account_id IS 'account of the resource';
COMMENT ON COLUMN profimport.resource_field.resource_id IS 'resource whose subscriptions have the field';
COMMENT ON COLUMN profimport.resource_field.name IS 'name of the field in custom_fields';
COMMENT ON COLUMN profimport.resource_field.type IS 'as in profimport.field';
COMMENT ON COLUMN profimport.resource_field.options IS 'as in profimport.field';
COMMENT ON COLUMN profimport.resource_field.required IS 'must be present when a subscription is created, and cannot be unset';
COMMENT ON COLUMN profimport.resource_field.matching IS 'can be matched by (matching = custom_sub); its values are indexed';

-- ---- sql/ext/30_profile.sql ----

-- ---------------------------------------------------------------------------
-- Profiles and subscriptions
--
-- Every index leads with its selective column, so that the right one is
-- taken whatever the statistics say.  What is matched stands in columns or in
-- a table of keys, never in an expression over data: an update of data that
-- changes no key is a HOT update.  Rows are checked by triggers in C, not by
-- CHECK constraints, which are read and parsed anew by every statement.
-- ---------------------------------------------------------------------------

CREATE TABLE profimport.profile (
	account_id	int NOT NULL,
	db_id		int NOT NULL,
	profile_id	text COLLATE "C" NOT NULL,
	email		text,
	phones		text[],
	data		jsonb NOT NULL DEFAULT '{}',
	created_at	timestamptz NOT NULL DEFAULT now(),
	updated_at	timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT profile_pkey PRIMARY KEY (profile_id, db_id, account_id)
) WITH (fillfactor = 80);
-- email is unique in its database whatever the case of its ASCII letters
CREATE UNIQUE INDEX profile_email_key ON profimport.profile (lower(email COLLATE "C"), db_id, account_id);
COMMENT ON INDEX profimport.profile_email_key IS 'email is unique in its database, ignoring the case of ASCII letters';

COMMENT ON TABLE profimport.profile IS 'customer profiles';
COMMENT ON COLUMN profimport.profile.account_id IS 'account of the database';
COMMENT ON COLUMN profimport.profile.db_id IS 'database of the profile';
COMMENT ON COLUMN profimport.profile.profile_id IS 'id of the profile in its database; generated (24 hexadecimal digits) unless given';
COMMENT ON COLUMN profimport.profile.email IS 'standard field email, as sent';
COMMENT ON COLUMN profimport.profile.phones IS 'standard field phones, normalised, without repeats';
COMMENT ON COLUMN profimport.profile.data IS 'every other field that is set, standard and declared';
COMMENT ON COLUMN profimport.profile.created_at IS 'when the profile was created';
COMMENT ON COLUMN profimport.profile.updated_at IS 'when a field of it last changed';

CREATE TABLE profimport.profile_key (
	key_value	text COLLATE "C" NOT NULL,
	name		text COLLATE "C" NOT NULL,
	profile_id	text COLLATE "C" NOT NULL,
	db_id		int NOT NULL,
	account_id	int NOT NULL,
	is_unique	bool NOT NULL,
	CONSTRAINT profile_key_pkey PRIMARY KEY (key_value, name, profile_id, db_id, account_id)
);
CREATE UNIQUE INDEX profile_key_unique ON profimport.profile_key (key_value, name, db_id, account_id) WHERE is_unique;
COMMENT ON INDEX profimport.profile_key_unique IS 'values of fields declared is_unique';
COMMENT ON TABLE profimport.profile_key IS 'internal: what profiles are matched by (phones, fields declared matching), kept by triggers on profile';
COMMENT ON COLUMN profimport.profile_key.key_value IS 'the value as a key: "=" and its text, or "#" and the SHA-256 of a long one';
COMMENT ON COLUMN profimport.profile_key.name IS 'the field';
COMMENT ON COLUMN profimport.profile_key.profile_id IS 'the profile that has the value';
COMMENT ON COLUMN profimport.profile_key.db_id IS 'its database';
COMMENT ON COLUMN profimport.profile_key.account_id IS 'its account';
COMMENT ON COLUMN profimport.profile_key.is_unique IS 'the field is declared is_unique';

CREATE TABLE profimport.subscription (
	account_id	int NOT NULL,
	db_id		int NOT NULL,
	profile_id	text COLLATE "C" NOT NULL,
	subscription_no	bigint GENERATED BY DEFAULT AS IDENTITY NOT NULL,
	resource_id	int NOT NULL,
	channel		text COLLATE "C" NOT NULL,
	contact		text,
	provider	text,
	cc_data		jsonb,
	status		int NOT NULL DEFAULT 0,
	priority	int NOT NULL DEFAULT 0,
	custom_fields jsonb NOT NULL DEFAULT '{}',
	cats		text[] NOT NULL DEFAULT '{}',
	created_at	timestamptz NOT NULL DEFAULT now(),
	updated_at	timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT subscription_pkey PRIMARY KEY (profile_id, subscription_no, db_id, account_id)
) WITH (fillfactor = 80);
-- Contacts, as src/subscriptions.c tells them apart: email addresses without
-- the case of ASCII letters, push ids with their provider, objects by jsonb
-- equality.  Built-in functions only: whoever may insert needs no other right.
-- A digest, because a push id may be longer than an index takes.
CREATE UNIQUE INDEX subscription_contact_key ON profimport.subscription
	(md5(CASE WHEN channel = 'email' THEN lower(contact COLLATE "C")
			WHEN channel = 'push' THEN (provider || chr(31)) || contact
			WHEN channel = 'telegram_bot' THEN jsonb_hash_extended(cc_data, 0::bigint)::text
			ELSE contact END),
		profile_id, resource_id, channel, db_id, account_id);
COMMENT ON INDEX profimport.subscription_contact_key IS
	'contacts, for matching; a profile has one subscription per resource, channel and contact';
COMMENT ON TABLE profimport.subscription IS 'subscriptions: contacts of a profile on the channels of a resource';
COMMENT ON COLUMN profimport.subscription.account_id IS 'account of the profile and of the resource';
COMMENT ON COLUMN profimport.subscription.db_id IS 'database of the profile';
COMMENT ON COLUMN profimport.subscription.profile_id IS 'the profile';
COMMENT ON COLUMN profimport.subscription.subscription_no IS 'number of the subscription, generated';
COMMENT ON COLUMN profimport.subscription.resource_id IS 'the resource';
COMMENT ON COLUMN profimport.subscription.channel IS 'email, sms, push, viber, whatsapp, telegram_bot or notify';
COMMENT ON COLUMN profimport.subscription.contact IS 'email address, phone or push subscription id; NULL for telegram_bot';
COMMENT ON COLUMN profimport.subscription.provider IS 'push only: the provider of the subscription id';
COMMENT ON COLUMN profimport.subscription.cc_data IS 'telegram_bot only: the contact';
COMMENT ON COLUMN profimport.subscription.status IS '0 subscribed, 1 unsubscribed, 2 complained, 3 hardbounced, 4 unconfirmed, 5 suspended, 6 invalid';
COMMENT ON COLUMN profimport.subscription.priority IS 'priority among the subscriptions of the profile';
COMMENT ON COLUMN profimport.subscription.custom_fields IS 'fields declared in profimport.resource_field that are set';
COMMENT ON COLUMN profimport.subscription.cats IS 'categories of the resource';
COMMENT ON COLUMN profimport.subscription.created_at IS 'when the subscription was created';
COMMENT ON COLUMN profimport.subscription.updated_at IS 'when it last changed';

CREATE TABLE profimport.subscription_key (
	key_value	text COLLATE "C" NOT NULL,
	name		text COLLATE "C" NOT NULL,
	resource_id	int NOT NULL,
	profile_id	text COLLATE "C" NOT NULL,
	subscription_no	bigint NOT NULL,
	db_id		int NOT NULL,
	account_id	int NOT NULL,
	CONSTRAINT subscription_key_pkey
		PRIMARY KEY (key_value, name, resource_id, profile_id, subscription_no, db_id, account_id)
);
COMMENT ON TABLE profimport.subscription_key IS
	'internal: what subscriptions are matched by (custom fields declared matching), kept by triggers on subscription';
COMMENT ON COLUMN profimport.subscription_key.key_value IS 'as in profimport.profile_key';
COMMENT ON COLUMN profimport.subscription_key.name IS 'the field of the resource';
COMMENT ON COLUMN profimport.subscription_key.resource_id IS 'the resource';
COMMENT ON COLUMN profimport.subscription_key.profile_id IS 'the profile of the subscription';
COMMENT ON COLUMN profimport.subscription_key.subscription_no IS 'the subscription that has the value';
COMMENT ON COLUMN profimport.subscription_key.db_id IS 'its database';
COMMENT ON COLUMN profimport.subscription_key.account_id IS 'its account';

-- ---------------------------------------------------------------------------
-- The same rules for ordinary SQL: check and normalise before, index after
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.profile_check() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'pi_profile_check';
COMMENT ON FUNCTION profimport.profile_check() IS 'internal: normalises and checks a row of profile';
CREATE FUNCTION profimport.profile_index() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'pi_profile_index';
COMMENT ON FUNCTION profimport.profile_index() IS
	'internal: keeps profile_key in step with a row of profile; its subscriptions go with it';
CREATE FUNCTION profimport.subscription_check() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'pi_subscription_check';
COMMENT ON FUNCTION profimport.subscription_check() IS 'internal: normalises and checks a row of subscription';
CREATE FUNCTION profimport.subscription_index() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'pi_subscription_index';
COMMENT ON FUNCTION profimport.subscription_index() IS 'internal: keeps subscription_key in step with a row of subscription';
CREATE FUNCTION profimport.truncate_keys() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_TABLE_NAME = 'profile' THEN
		TRUNCATE profimport.profile_key;
		-- unless the same TRUNCATE names it
		IF EXISTS (SELECT FROM profimport.subscription) THEN
			TRUNCATE profimport.subscription;
		END IF;
	ELSE
		TRUNCATE profimport.subscription_key;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION profimport.truncate_keys() IS 'internal: empties the keys with their table, subscriptions with their profiles';

-- "zz": after the triggers of the user, whose changes are checked too
CREATE TRIGGER zz_profimport_check BEFORE INSERT OR UPDATE ON profimport.profile
	FOR EACH ROW EXECUTE FUNCTION profimport.profile_check();
CREATE TRIGGER profimport_index AFTER INSERT OR UPDATE OR DELETE ON profimport.profile
	FOR EACH ROW EXECUTE FUNCTION profimport.profile_index();
CREATE TRIGGER profimport_truncate AFTER TRUNCATE ON profimport.profile
	FOR EACH STATEMENT EXECUTE FUNCTION profimport.truncate_keys();
CREATE TRIGGER zz_profimport_check BEFORE INSERT OR UPDATE ON profimport.subscription
	FOR EACH ROW EXECUTE FUNCTION profimport.subscription_check();
CREATE TRIGGER profimport_index AFTER INSERT OR UPDATE OR DELETE ON profimport.subscription
	FOR EACH ROW EXECUTE FUNCTION profimport.subscription_index();
CREATE TRIGGER profimport_truncate AFTER TRUNCATE ON profimport.subscription
	FOR EACH STATEMENT EXECUTE FUNCTION profimport.truncate_keys();
COMMENT ON TRIGGER zz_profimport_check ON profimport.profile IS 'normalises and checks the row';
COMMENT ON TRIGGER profimport_index ON profimport.profile IS 'keeps profile_key and subscription in step';
COMMENT ON TRIGGER profimport_truncate ON profimport.profile IS 'empties profile_key and subscription with the table';
COMMENT ON TRIGGER zz_profimport_check ON profimport.subscription IS 'normalises and checks the row';
COMMENT ON TRIGGER profimport_index ON profimport.subscription IS 'keeps subscription_key in step';
COMMENT ON TRIGGER profimport_truncate ON profimport.subscription IS 'empties subscription_key with the table';

-- ---- sql/ext/35_config_upkeep.sql ----

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

-- ---- sql/ext/40_event.sql ----

-- ---------------------------------------------------------------------------
-- Trigger events and failed messages
-- ---------------------------------------------------------------------------

CREATE TABLE profimport.trigger_event (
	event_id	bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	occurred_at	timestamptz NOT NULL DEFAULT now(),
	kind		text NOT NULL CONSTRAINT trigger_event_kind_known CHECK (kind IN
		('profile_created', 'profile_updated', 'subscription_created', 'subscription_updated')),
	account_id	int NOT NULL,
	db_id		int NOT NULL,
	profile_id	text NOT NULL,
	subscription_no	bigint,
	resource_id	int,
	channel		text,
	changes		jsonb NOT NULL,
	feedback_id	text NOT NULL DEFAULT ''
);
CREATE INDEX trigger_event_occurred_at ON profimport.trigger_event (occurred_at);
COMMENT ON INDEX profimport.trigger_event_occurred_at IS 'for profimport.trigger_retention';
COMMENT ON TABLE profimport.trigger_event IS 'what imports changed, for other systems: see take_trigger_events()';
COMMENT ON COLUMN profimport.trigger_event.event_id IS 'number of the event';
COMMENT ON COLUMN profimport.trigger_event.occurred_at IS 'when the import ran';
COMMENT ON COLUMN profimport.trigger_event.kind IS 'profile_created, profile_updated, subscription_created or subscription_updated';
COMMENT ON COLUMN profimport.trigger_event.account_id IS 'account of the profile';
COMMENT ON COLUMN profimport.trigger_event.db_id IS 'database of the profile';
COMMENT ON COLUMN profimport.trigger_event.profile_id IS 'the profile';
COMMENT ON COLUMN profimport.trigger_event.subscription_no IS 'the subscription, for its kinds';
COMMENT ON COLUMN profimport.trigger_event.resource_id IS 'resource of the subscription';
COMMENT ON COLUMN profimport.trigger_event.channel IS 'channel of the subscription';
COMMENT ON COLUMN profimport.trigger_event.changes IS 'the changed fields and their new values, null where unset';
COMMENT ON COLUMN profimport.trigger_event.feedback_id IS 'feedback_id of the message, "" if none';

CREATE FUNCTION profimport.take_trigger_events(max_events int) RETURNS SETOF profimport.trigger_event
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF max_events IS NULL OR max_events < 0 THEN
		RAISE invalid_parameter_value
			USING MESSAGE = 'max_events must not be negative or null';
	END IF;
	-- Takers at the same time pass over each other's rows.
	RETURN QUERY
		WITH taken AS MATERIALIZED (
			DELETE FROM profimport.trigger_event e USING (
				SELECT t.event_id FROM profimport.trigger_event t
					ORDER BY t.event_id LIMIT max_events FOR UPDATE SKIP LOCKED) oldest
				WHERE e.event_id = oldest.event_id
				RETURNING e.*)
		SELECT * FROM taken ORDER BY event_id;
END
$$;
COMMENT ON FUNCTION profimport.take_trigger_events(int) IS
	'hands out and removes up to max_events of the oldest trigger events; safe for several takers at once';

CREATE TABLE profimport.import_error (
	error_id	bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	occurred_at	timestamptz NOT NULL DEFAULT now(),
	error		int NOT NULL,
	error_text	text NOT NULL,
	sqlstate	text,
	feedback_id	text NOT NULL DEFAULT '',
	account_id	int,
	db_id		int,
	body		bytea NOT NULL,
	headers		jsonb,
	retried_at	timestamptz,
	resolved_at	timestamptz
);
CREATE INDEX import_error_occurred_at ON profimport.import_error (occurred_at);
COMMENT ON INDEX profimport.import_error_occurred_at IS 'for profimport.error_retention';
CREATE INDEX import_error_unresolved ON profimport.import_error (error_id) WHERE resolved_at IS NULL;
COMMENT ON INDEX profimport.import_error_unresolved IS 'for errors_unresolved of profimport.status';
COMMENT ON TABLE profimport.import_error IS 'messages that failed, as received: see retry_error()';
COMMENT ON COLUMN profimport.import_error.error_id IS 'number of the failure';
COMMENT ON COLUMN profimport.import_error.occurred_at IS 'when the message failed';
COMMENT ON COLUMN profimport.import_error.error IS 'code of the result: 400, 404, 409 or 500';
COMMENT ON COLUMN profimport.import_error.error_text IS 'text of the result';
COMMENT ON COLUMN profimport.import_error.sqlstate IS 'SQLSTATE of a 500; 54000 if the body was cut';
COMMENT ON COLUMN profimport.import_error.feedback_id IS 'feedback_id of the message, "" if none';
COMMENT ON COLUMN profimport.import_error.account_id IS 'account_id of the message, if it could be read';
COMMENT ON COLUMN profimport.import_error.db_id IS 'db_id of the message, if it could be read';
COMMENT ON COLUMN profimport.import_error.body IS 'the body as received, cut at profimport.max_message_size';
COMMENT ON COLUMN profimport.import_error.headers IS 'AMQP properties of the message';
COMMENT ON COLUMN profimport.import_error.retried_at IS 'when retry_error() last tried it';
COMMENT ON COLUMN profimport.import_error.resolved_at IS 'when retry_error() succeeded';

-- ---- sql/ext/50_import.sql ----

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

-- ---- sql/ext/55_journal.sql ----

-- ---------------------------------------------------------------------------
-- The journal of the workers: what was applied, and what is still to be sent
-- ---------------------------------------------------------------------------
-- Written and read by the library only (src/journal.c, src/repeats.c).  The
-- bytea columns have a format of their own, with a version in the first byte.

CREATE TABLE profimport.batch (
	batch_id	bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	worker		int,
	committed_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	digests		bytea NOT NULL DEFAULT '',
	outgoing	bytea,
	pending		int NOT NULL DEFAULT 0
);
-- Results do not compress well enough to pay for it, and digests not at all.
ALTER TABLE profimport.batch ALTER COLUMN digests SET STORAGE EXTERNAL;
ALTER TABLE profimport.batch ALTER COLUMN outgoing SET STORAGE EXTERNAL;
-- Rows come and go with every batch.
ALTER TABLE profimport.batch SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
	autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,
	toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 10000);
COMMENT ON TABLE profimport.batch IS
	'a row per batch whose acknowledgement is not known to have arrived or whose results the broker has not confirmed';
COMMENT ON COLUMN profimport.batch.batch_id IS 'number of the batch';
COMMENT ON COLUMN profimport.batch.worker IS 'the worker that sends what is outgoing; NULL: whichever comes first';
COMMENT ON COLUMN profimport.batch.committed_at IS 'when the batch was applied';
COMMENT ON COLUMN profimport.batch.digests IS
	'16 bytes for each delivery that may come back although it was applied; zeros where it has come back';
COMMENT ON COLUMN profimport.batch.outgoing IS 'messages to publish, packed; NULL: none is left';
COMMENT ON COLUMN profimport.batch.pending IS 'how many messages "outgoing" holds';

CREATE TABLE profimport.dedup (
	digest		uuid PRIMARY KEY,
	applied_at	timestamptz NOT NULL,
	result		bytea NOT NULL
);
CREATE INDEX dedup_applied_at ON profimport.dedup (applied_at);
ALTER TABLE profimport.dedup SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
	autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 5000);
COMMENT ON INDEX profimport.dedup_applied_at IS 'for profimport.dedup_window';
COMMENT ON TABLE profimport.dedup IS
	'messages with a message_id that were imported within profimport.dedup_window, and their results';
COMMENT ON COLUMN profimport.dedup.digest IS 'digest of message_id and body';
COMMENT ON COLUMN profimport.dedup.applied_at IS 'when the message was imported';
COMMENT ON COLUMN profimport.dedup.result IS 'its result, packed';

CREATE TABLE profimport.applied (
	batch_id	bigint PRIMARY KEY,
	applied_at	timestamptz NOT NULL,
	entries		bytea NOT NULL
);
ALTER TABLE profimport.applied ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE profimport.applied SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500,
	autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 500);
COMMENT ON TABLE profimport.applied IS
	'messages with a feedback_id but no message_id that were imported within profimport.dedup_window, a row per batch';
COMMENT ON COLUMN profimport.applied.batch_id IS 'number of the batch';
COMMENT ON COLUMN profimport.applied.applied_at IS 'when the batch was applied';
COMMENT ON COLUMN profimport.applied.entries IS 'digests of the bodies and what is needed to answer again, packed';

CREATE TABLE profimport.worker_run (
	worker		int PRIMARY KEY,
	running		bool NOT NULL,
	prefetch	int NOT NULL,
	started_at	timestamptz NOT NULL
);
COMMENT ON TABLE profimport.worker_run IS 'a row per worker, to tell a clean end of the one before from a crash';
COMMENT ON COLUMN profimport.worker_run.worker IS 'number of the worker';
COMMENT ON COLUMN profimport.worker_run.running IS 'set at the start, cleared at a clean end';
COMMENT ON COLUMN profimport.worker_run.prefetch IS 'how many deliveries it may hold';
COMMENT ON COLUMN profimport.worker_run.started_at IS 'when it began to consume';

CREATE TABLE profimport.attempt (
	digest		uuid PRIMARY KEY,
	deaths		int NOT NULL,
	attempted_at	timestamptz NOT NULL
);
COMMENT ON TABLE profimport.attempt IS 'messages being imported one at a time because a worker may have died of one of them';
COMMENT ON COLUMN profimport.attempt.digest IS 'digest of the delivery';
COMMENT ON COLUMN profimport.attempt.deaths IS 'workers that have died, if this attempt ends so too';
COMMENT ON COLUMN profimport.attempt.attempted_at IS 'when the last attempt began';

-- Pending results and records of repeats go along with a dump.
SELECT pg_catalog.pg_extension_config_dump('profimport.batch', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.dedup', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.applied', '');
SELECT pg_catalog.pg_extension_config_dump('profimport.batch_batch_id_seq', '');

-- ---- sql/ext/60_stat.sql ----

-- ---------------------------------------------------------------------------
-- Statistics
-- ---------------------------------------------------------------------------
-- The numbers live in shared memory.  Without shared_preload_libraries there
-- is none: stat_worker and stat_result are empty then, and the one row of
-- status shows no worker.
--
-- A view's tables are read with the rights of its owner, its functions are
-- called with those of the reader; hence the grants on both.

CREATE FUNCTION profimport.stat_get_worker(
	OUT worker int, OUT pid int, OUT state text, OUT broker text, OUT connected_since timestamptz, OUT blocked bool,
	OUT messages bigint, OUT succeeded bigint, OUT failed bigint, OUT redelivered bigint, OUT duplicates bigint,
	OUT batches bigint, OUT results_published bigint, OUT results_pending bigint, OUT trigger_events bigint,
	OUT connects bigint, OUT last_batch_at timestamptz, OUT last_batch_messages int, OUT last_batch_ms float8,
	OUT last_error text, OUT last_error_at timestamptz, OUT stats_reset timestamptz)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_worker_1_0';
COMMENT ON FUNCTION profimport.stat_get_worker() IS 'internal: what view stat_worker shows';

CREATE FUNCTION profimport.stat_get_result(OUT error int, OUT outcome text, OUT messages bigint)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_result_1_0';
COMMENT ON FUNCTION profimport.stat_get_result() IS 'internal: what view stat_result shows';

CREATE FUNCTION profimport.stat_get_status(
	OUT enabled bool, OUT workers_configured int, OUT workers_running int, OUT workers_connected int,
	OUT queue_messages bigint, OUT queue_consumers int, OUT messages_per_second float8)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'pi_stat_status_1_0';
COMMENT ON FUNCTION profimport.stat_get_status() IS 'internal: what view status shows of shared memory';

CREATE FUNCTION profimport.stat_reset() RETURNS void
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_reset_1_0';
COMMENT ON FUNCTION profimport.stat_reset() IS 'zeroes the counters of stat_worker and stat_result';

CREATE VIEW profimport.stat_worker AS
	SELECT s.worker, s.pid, s.state, s.broker, s.connected_since, s.blocked, s.messages, s.succeeded, s.failed,
			s.redelivered, s.duplicates, s.batches, s.results_published, s.results_pending, s.trigger_events, s.connects,
			s.last_batch_at, s.last_batch_messages, s.last_batch_ms, s.last_error, s.last_error_at, s.stats_reset
		FROM profimport.stat_get_worker() s;
COMMENT ON VIEW profimport.stat_worker IS 'a row per configured worker: what it does, its counters, its last error';
COMMENT ON COLUMN profimport.stat_worker.worker IS 'number of the worker, from 1';
COMMENT ON COLUMN profimport.stat_worker.pid IS 'its process; NULL if it does not run';
COMMENT ON COLUMN profimport.stat_worker.state IS
	'stopped, disabled, waiting (for the extension), connecting, idle, importing, blocked (by the broker), paused, backoff or error';
COMMENT ON COLUMN profimport.stat_worker.broker IS 'the broker it is or was last connected to, without password';
COMMENT ON COLUMN profimport.stat_worker.connected_since IS 'when the connection was made; NULL if there is none';
COMMENT ON COLUMN profimport.stat_worker.blocked IS 'the broker takes no publishes (memory or disk alarm)';
COMMENT ON COLUMN profimport.stat_worker.messages IS 'messages answered: succeeded + failed + duplicates';
COMMENT ON COLUMN profimport.stat_worker.succeeded IS 'messages imported with error 0';
COMMENT ON COLUMN profimport.stat_worker.failed IS 'messages answered with another error';
COMMENT ON COLUMN profimport.stat_worker.redelivered IS 'messages the broker had delivered before';
COMMENT ON COLUMN profimport.stat_worker.duplicates IS 'messages recognised as repeats and answered from the record';
COMMENT ON COLUMN profimport.stat_worker.batches IS 'transactions committed';
COMMENT ON COLUMN profimport.stat_worker.results_published IS 'messages published and confirmed by the broker';
COMMENT ON COLUMN profimport.stat_worker.results_pending IS 'results this worker holds that the broker has not confirmed';
COMMENT ON COLUMN profimport.stat_worker.trigger_events IS 'trigger events made';
COMMENT ON COLUMN profimport.stat_worker.connects IS 'connections made to a broker';
COMMENT ON COLUMN profimport.stat_worker.last_batch_at IS 'when the last batch was committed';
COMMENT ON COLUMN profimport.stat_worker.last_batch_messages IS 'messages in it';
COMMENT ON COLUMN profimport.stat_worker.last_batch_ms IS 'time it took, in milliseconds';
COMMENT ON COLUMN profimport.stat_worker.last_error IS 'last trouble with the broker, the database or the process; no failed message, no data';
COMMENT ON COLUMN profimport.stat_worker.last_error_at IS 'when that was';
COMMENT ON COLUMN profimport.stat_worker.stats_reset IS 'since when the counters count: stat_reset(), or the start of the server';

CREATE VIEW profimport.stat_result AS
	SELECT s.error, s.outcome, s.messages FROM profimport.stat_get_result() s;
COMMENT ON VIEW profimport.stat_result IS 'messages by result code and outcome, a row for each that can occur';
COMMENT ON COLUMN profimport.stat_result.error IS 'result code';
COMMENT ON COLUMN profimport.stat_result.outcome IS 'created, updated, unchanged or failed';
COMMENT ON COLUMN profimport.stat_result.messages IS 'messages answered so';

CREATE VIEW profimport.status AS
	SELECT s.enabled, s.workers_configured, s.workers_running, s.workers_connected, s.queue_messages, s.queue_consumers,
			coalesce(b.pending, 0) AS results_pending, e.unresolved AS errors_unresolved, s.messages_per_second,
			b.oldest AS oldest_pending_result
		FROM profimport.stat_get_status() s,
			(SELECT sum(pending) AS pending, min(committed_at) AS oldest FROM profimport.batch WHERE pending > 0) b,
			(SELECT count(*) AS unresolved FROM profimport.import_error WHERE resolved_at IS NULL) e;
COMMENT ON VIEW profimport.status IS 'the whole import in one row';
COMMENT ON COLUMN profimport.status.enabled IS 'setting profimport.enabled';
COMMENT ON COLUMN profimport.status.workers_configured IS 'workers asked for, at most profimport.max_workers';
COMMENT ON COLUMN profimport.status.workers_running IS 'workers that have a process';
COMMENT ON COLUMN profimport.status.workers_connected IS 'workers connected to a broker';
COMMENT ON COLUMN profimport.status.queue_messages IS 'messages waiting in the import queue; NULL if no worker could tell within 10 seconds';
COMMENT ON COLUMN profimport.status.queue_consumers IS 'consumers of the import queue; NULL likewise';
COMMENT ON COLUMN profimport.status.results_pending IS 'results and events the broker has not confirmed yet';
COMMENT ON COLUMN profimport.status.errors_unresolved IS 'rows of import_error without resolved_at';
COMMENT ON COLUMN profimport.status.messages_per_second IS 'messages a second, over the last 60 seconds';
COMMENT ON COLUMN profimport.status.oldest_pending_result IS 'when the oldest result not confirmed yet was committed';

REVOKE ALL ON FUNCTION profimport.stat_get_worker(), profimport.stat_get_result(), profimport.stat_get_status(),
	profimport.stat_reset() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profimport.stat_get_worker(), profimport.stat_get_result(), profimport.stat_get_status()
	TO pg_monitor;

-- ---- sql/ext/65_check.sql ----

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

-- ---- sql/ext/90_privileges.sql ----

-- ---------------------------------------------------------------------------
-- Privileges and what belongs into a dump
-- ---------------------------------------------------------------------------

CREATE FUNCTION profimport.grant_worker(role name) RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p record;
BEGIN
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
GRANT SELECT ON profimport.stat_worker, profimport.stat_result, profimport.status TO pg_monitor;
