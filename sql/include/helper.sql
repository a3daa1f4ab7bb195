/*
 * helper.sql
 *		Included by every test, not a test itself.
 *
 * It makes the extension if it is not there, empties it, and builds schema t:
 *
 *	t.imp(patch, culprit)	import() of {"account_id":1, "db_id":1, "data":{}} || patch
 *	t.raw(message, culprit)	import() of exactly that message
 *	t.body(text, culprit)	import_batch() of one body: outcome and result
 *	t.byte(bytea, culprit)	the same for bytes that are no text
 *	t.bat(text, ...)		import_batch() of several patches, as for t.imp
 *	t.put(field, value)		the field set on profile "p": what is stored, or the failure
 *	t.fun(field, stored, f)	the functional update f on the stored value
 *	t.err(sql, word)		the SQLSTATE of a statement, "ok" if none
 *	t.pid(id), t.id(name)	generated ids <-> P1, P2, ... in order of appearance
 *
 * A result is printed as the jsonb text it is, with two replacements: a generated profile_id
 * becomes its name, and the error_text of a failure, if it is one sentence, becomes (culprit) if it
 * has the culprit in double quotes, (sentence) if it has not or none is asked for.  Any other
 * text stands as it came, which no expected output has.  t.imp and t.raw run every message twice, first with dry_run, and
 * append what they find if the dry run wrote or said something else, or if a failure wrote.
 */
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
\pset null (null)
\pset fieldsep ' | '
\set VERBOSITY terse

CREATE EXTENSION IF NOT EXISTS profimport;
DROP SCHEMA IF EXISTS t CASCADE;
CREATE SCHEMA t;

TRUNCATE profimport.profile CASCADE;
TRUNCATE profimport.trigger_event, profimport.import_error;
DELETE FROM profimport.resource_field;
DELETE FROM profimport.resource;
DELETE FROM profimport.field;
DELETE FROM profimport.database;
DELETE FROM profimport.account;

CREATE TABLE t.seen (profile_id text PRIMARY KEY, name text UNIQUE);

CREATE FUNCTION t.pid(id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n text;
BEGIN
	IF id IS NULL OR id !~ '^[0-9a-f]{24}$' THEN
		RETURN id;
	END IF;
	SELECT name INTO n FROM t.seen WHERE profile_id = id;
	IF NOT FOUND THEN
		n := 'P' || (SELECT count(*) + 1 FROM t.seen);
		INSERT INTO t.seen VALUES (id, n);
	END IF;
	RETURN n;
END $$;

CREATE FUNCTION t.id(n text) RETURNS text LANGUAGE sql AS
	$$ SELECT coalesce((SELECT profile_id FROM t.seen WHERE name = n), n) $$;

CREATE FUNCTION t.show(r jsonb, culprit text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	e text := r->>'error_text';
BEGIN
	IF r->'error' <> '0' AND e ~ '^["A-Z][^\n]*[^. ]\.$' THEN
		IF culprit IS NULL OR strpos(e, '"' || culprit || '"') = 0 THEN
			culprit := 'sentence';
		END IF;
		r := jsonb_set(r, '{error_text}', to_jsonb('(' || culprit || ')'));
	END IF;
	IF jsonb_typeof(r->'profile_id') = 'string' THEN
		r := jsonb_set(r, '{profile_id}', to_jsonb(t.pid(r->>'profile_id')));
	END IF;
	RETURN r::text;
END $$;

-- every row version of what a message may write, in one word
CREATE FUNCTION t.state() RETURNS text LANGUAGE sql AS $$
	SELECT md5(concat(
		(SELECT string_agg(concat(xmin, p), '|' ORDER BY account_id, db_id, profile_id) FROM profimport.profile p),
		(SELECT string_agg(concat(xmin, s), '|' ORDER BY account_id, db_id, profile_id, subscription_no) FROM profimport.subscription s),
		(SELECT string_agg(concat(xmin, e), '|' ORDER BY event_id) FROM profimport.trigger_event e)))
$$;

CREATE FUNCTION t.raw(msg jsonb, culprit text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d jsonb;
	r jsonb;
	state text := t.state();
	errors bigint := (SELECT count(*) FROM profimport.import_error);
	profiles bigint := (SELECT count(*) FROM profimport.profile);
	note text := '';
BEGIN
	d := profimport.import(msg, true);
	IF t.state() <> state THEN
		note := note || ' THE DRY RUN WROTE';
	END IF;
	IF (SELECT count(*) FROM profimport.import_error) <> errors THEN
		note := note || ' THE DRY RUN KEPT AN ERROR';
	END IF;
	r := profimport.import(msg);
	IF d - 'profile_id' <> r - 'profile_id'
		OR d->>'profile_id' <> (CASE WHEN (SELECT count(*) FROM profimport.profile) > profiles
			THEN '' ELSE r->>'profile_id' END)
	THEN
		note := note || ' THE DRY RUN SAID ' || t.show(d);
	END IF;
	IF r->'error' <> '0' AND t.state() <> state THEN
		note := note || ' THE FAILURE WROTE';
	END IF;
	IF (SELECT count(*) FROM profimport.import_error) <> errors + (r->'error' <> '0')::int THEN
		note := note || ' NOT ONE ERROR ROW PER FAILURE';
	END IF;
	RETURN t.show(r, culprit) || note;
END $$;

CREATE FUNCTION t.whole(patch text) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb '{"account_id": 1, "db_id": 1, "data": {}}' || patch::jsonb $$;

CREATE FUNCTION t.imp(patch text, culprit text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT t.raw(t.whole(patch), culprit) $$;

CREATE FUNCTION t.byte(body bytea, culprit text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(outcome || ' ' || t.show(result, culprit), ' AND ' ORDER BY ordinal)
		FROM profimport.import_batch(ARRAY[body]) $$;

CREATE FUNCTION t.body(body text, culprit text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT t.byte(convert_to(body, 'UTF8'), culprit) $$;

CREATE FUNCTION t.bat(VARIADIC patches text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT ordinal || ' ' || outcome || ' ' || t.show(result) FROM profimport.import_batch(
		(SELECT array_agg(convert_to(t.whole(p)::text, 'UTF8') ORDER BY n)
		 FROM unnest(patches) WITH ORDINALITY AS u (p, n)))
$$;

-- what the document of profile p has for a field
CREATE FUNCTION t.stored(field text) RETURNS text LANGUAGE sql AS
	$$ SELECT coalesce((profimport.get_profile(1, 1, 'p')->field)::text, 'unset') $$;

CREATE FUNCTION t.apply(field text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r text;
	old text := t.stored(field);
BEGIN
	r := t.imp(format('{"matching": "profile_id", "profile_id": "p", "data": {%s: %s}}',
		to_jsonb(field), value), field);
	IF r = '{"error": 0, "error_text": "", "profile_id": "p", "feedback_id": "", "matching_field": "profile_id"}' THEN
		RETURN t.stored(field);
	ELSIF r = format('{"error": 400, "error_text": %s, "profile_id": "", "feedback_id": "", "matching_field": "profile_id"}',
		to_jsonb('(' || field || ')')) AND old = t.stored(field)
	THEN
		RETURN '400';
	END IF;
	RETURN r || ' AND ' || t.stored(field);
END $$;

CREATE FUNCTION t.put(field text, value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF field <> 'email' THEN
		PERFORM t.imp(format('{"matching": "profile_id", "profile_id": "p", "data": {%s: null}}', to_jsonb(field)));
	END IF;
	RETURN t.apply(field, value);
END $$;

CREATE FUNCTION t.fun(field text, stored text, f text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.imp(format('{"matching": "profile_id", "profile_id": "p", "data": {%s: {"action": "set", "value": %s}}}',
		to_jsonb(field), coalesce(stored, 'null')));
	IF field <> 'email' AND t.stored(field)::text <> coalesce(stored::jsonb::text, 'unset') THEN
		RETURN 'THE TEST IS WRONG: ' || t.stored(field);
	END IF;
	RETURN t.apply(field, f);
END $$;

CREATE FUNCTION t.err(sql text, word text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m text;
	d text;
BEGIN
	EXECUTE sql;
	SET CONSTRAINTS ALL IMMEDIATE;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL;
	IF word IS NOT NULL AND strpos(m || ' ' || coalesce(d, ''), word) = 0 THEN
		RETURN SQLSTATE || ' WITHOUT ' || word || ': ' || m || ' ' || coalesce(d, '');
	END IF;
	RETURN SQLSTATE;
END $$;

CREATE VIEW t.profiles AS
	SELECT t.pid(profile_id) AS id, email, phones, data, account_id, db_id
	FROM (SELECT * FROM profimport.profile ORDER BY account_id, db_id, created_at, profile_id) p;

CREATE VIEW t.subs AS
	SELECT t.pid(profile_id) AS id, resource_id, channel, contact, provider, cc_data, status, priority, custom_fields, cats, account_id, db_id
	FROM (SELECT * FROM profimport.subscription ORDER BY subscription_no) s;

CREATE VIEW t.events AS
	SELECT kind, t.pid(profile_id) AS id, resource_id, channel, changes, feedback_id
	FROM (SELECT * FROM profimport.trigger_event ORDER BY event_id) e;
