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
COMMENT ON CONSTRAINT account_pkey ON profimport.account IS 'one row per account_id';
COMMENT ON CONSTRAINT account_id_positive ON profimport.account IS 'from 1, as in messages';

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
COMMENT ON CONSTRAINT database_pkey ON profimport.database IS 'one row per account and db_id';
COMMENT ON CONSTRAINT database_id_positive ON profimport.database IS 'from 1, as in messages';

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
COMMENT ON CONSTRAINT field_pkey ON profimport.field IS 'one declaration per database and name';
COMMENT ON CONSTRAINT field_type_known ON profimport.field IS 'the types a field can have';
COMMENT ON CONSTRAINT field_options_of_list ON profimport.field IS 'a list has options, no other type has';
COMMENT ON CONSTRAINT field_type_matchable ON profimport.field IS 'objects and arrays of objects cannot be matched by';

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
COMMENT ON CONSTRAINT resource_pkey ON profimport.resource IS 'one row per account and resource_id';
COMMENT ON CONSTRAINT resource_id_positive ON profimport.resource IS 'from 1, as in messages';
COMMENT ON CONSTRAINT resource_db_ids_not_null ON profimport.resource IS 'NULL stands for every database only in place of the whole array';
COMMENT ON CONSTRAINT resource_categories_named ON profimport.resource IS 'no NULL and no empty name';

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
COMMENT ON CONSTRAINT resource_field_pkey ON profimport.resource_field IS 'one declaration per resource and name';
COMMENT ON CONSTRAINT resource_field_type_known ON profimport.resource_field IS 'the types a field can have';
COMMENT ON CONSTRAINT resource_field_options_of_list ON profimport.resource_field IS 'a list has options, no other type has';
COMMENT ON CONSTRAINT resource_field_type_matchable ON profimport.resource_field IS 'objects and arrays of objects cannot be matched by';
