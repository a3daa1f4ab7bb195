-- a batch reads what it looks for by email at once: nothing of that shows
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1), (1, 2);
INSERT INTO profimport.field (account_id, db_id, name, type, matching) SELECT 1, d, f, 'int', f = 'card' FROM unnest(ARRAY[1, 2]) d, unnest(ARRAY['n', 'card']) f;

-- the same messages, in database 1 as a batch and in database 2 one by one
CREATE FUNCTION t.both(messages jsonb[]) RETURNS TABLE (ordinal int, batch text, alone text) LANGUAGE plpgsql AS $$
DECLARE
	results text[] := '{}';
	r text;
	m jsonb;
BEGIN
	FOREACH m IN ARRAY messages LOOP
		SELECT b.outcome || ' ' || (b.result->>'error') INTO r
			FROM profimport.import_batch(ARRAY[convert_to((m || '{"account_id": 1, "db_id": 2}')::text, 'UTF8')]) b;
		results := results || r;
	END LOOP;
	RETURN QUERY SELECT b.ordinal, b.outcome || ' ' || (b.result->>'error'), results[b.ordinal]
		FROM profimport.import_batch((SELECT array_agg(convert_to((u.m || '{"account_id": 1, "db_id": 1}')::text, 'UTF8') ORDER BY n) FROM unnest(messages) WITH ORDINALITY u (m, n))) b;
END $$;
CREATE VIEW t.stored AS SELECT db_id, email, data FROM profimport.profile;
CREATE VIEW t.different AS
	(SELECT email, data FROM t.stored WHERE db_id = 1 EXCEPT ALL SELECT email, data FROM t.stored WHERE db_id = 2)
	UNION ALL (SELECT email, data FROM t.stored WHERE db_id = 2 EXCEPT ALL SELECT email, data FROM t.stored WHERE db_id = 1);
CREATE FUNCTION t.m(patch text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"data": {}}'::jsonb || patch::jsonb $$;

-- plans made while the tables are empty, and kept: they probe indexes when there is something to read, too
CREATE FUNCTION t.fetched() RETURNS bigint LANGUAGE sql AS $$ SELECT sum(idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables WHERE schemaname = 'profimport' $$;
CREATE FUNCTION t.few_fetched(patch text, n int DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := t.fetched();
	results text;
	fetched bigint;
BEGIN
	SELECT string_agg(DISTINCT b.outcome || ' ' || (b.result->>'error'), ', ') INTO results
		FROM profimport.import_batch(array_fill(convert_to(('{"account_id": 1, "db_id": 3, "update_only": true, "data": {}}'::jsonb || patch::jsonb)::text, 'UTF8'), ARRAY[n])) b;
	fetched := t.fetched() - before;
	RETURN results || CASE WHEN fetched < 50 + 10 * n THEN '' ELSE format(', %s rows fetched', fetched) END;
END $$;
CREATE FUNCTION t.searches(OUT patch text, OUT result text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT p, t.few_fetched(p, n) FROM (VALUES (1, '{"email": "k900@x.io"}'), (10, '{"email": "k900@x.io"}'), (1, '{"email": "s900@x.io"}'), (1, '{"matching": "phone", "phone": "+15550000900"}'),
		(1, '{"matching": "phone_sub", "phone": "+16660000900"}'), (1, '{"matching": "custom", "field_name": "card", "field_value": 900}'), (1, '{"matching": "custom", "field_name": "tags", "field_value": "t900, all"}'),
		(1, '{"matching": "custom_sub", "field_name": "login", "field_value": "l900"}')) v (n, p)
$$;
BEGIN;
INSERT INTO profimport.database VALUES (1, 3);
INSERT INTO profimport.field (account_id, db_id, name, type, matching) VALUES (1, 3, 'card', 'int', true), (1, 3, 'tags', 'tags', true);
INSERT INTO profimport.resource (account_id, resource_id, db_ids) VALUES (1, 1, '{3}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, matching) VALUES (1, 1, 'login', 'string', true);
SELECT * FROM t.searches();
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, phones, data)
	SELECT 1, 3, 'p' || i, 'k' || i || '@x.io', ARRAY[format('+1555%s', lpad(i::text, 7, '0'))], format('{"card": %s, "tags": ["t%s", "all"]}', i, i)::jsonb FROM generate_series(1, 999) i;
INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, custom_fields)
	SELECT 1, 3, 'p' || i, 1, c, CASE c WHEN 'email' THEN 's' || i || '@x.io' ELSE format('+1666%s', lpad(i::text, 7, '0')) END, format('{"login": "l%s"}', i)::jsonb FROM generate_series(1, 999) i, unnest(ARRAY['email', 'sms']) c;
SELECT * FROM t.searches();
ROLLBACK;

-- found again in the batch that made it, in any case of letters; twice the same; unchanged
SELECT * FROM t.both(ARRAY[t.m('{"email": "a@x.io"}'), t.m('{"email": "A@X.io", "data": {"n": 1}}'), t.m('{"email": "a@x.io", "data": {"n": 1}}'), t.m('{"email": "a@x.io", "data": {"n": 2}}'),
	t.m('{"email": "b@x.io", "data": {"n": 1, "card": 7}}'), t.m('{"email": "c@x.io", "data": {"card": 8}}'), t.m('{"email": "d@x.io", "update_only": true}'), t.m('{"email": "d@x.io"}'), t.m('{"email": "d@x.io", "update_only": true, "data": {"n": 1}}')]);
-- written by another way first: the value that was read before is not the one that counts
SELECT * FROM t.both(ARRAY[t.m('{"matching": "custom", "field_name": "card", "field_value": 7, "data": {"n": 5}}'), t.m('{"email": "b@x.io", "data": {"n": 1}}'), t.m('{"email": "b@x.io", "data": {"n": 1}}'),
	t.m('{"email": "e1@x.io"}'), t.m('{"email": "e2@x.io"}'), t.m('{"email": "e3@x.io"}'), t.m('{"email": "e4@x.io"}'), t.m('{"email": "e5@x.io"}'), t.m('{"email": "e6@x.io"}')]);
-- an email that goes to another profile, and one that is given away
SELECT * FROM t.both(ARRAY[t.m('{"matching": "custom", "field_name": "card", "field_value": 7, "data": {"email": "new@x.io"}}'), t.m('{"email": "b@x.io", "update_only": true}'), t.m('{"email": "new@x.io", "data": {"n": 1}}'), t.m('{"email": "b@x.io", "data": {"n": 9}}'),
	t.m('{"email": "old@x.io", "data": {"email": "other@x.io"}}'), t.m('{"email": "other@x.io", "update_only": true, "data": {"n": 3}}'), t.m('{"email": "old@x.io", "update_only": true}'), t.m('{"email": "e1@x.io", "data": {"email": "e2@x.io"}}'), t.m('{"email": "e1@x.io"}')]);
SELECT * FROM t.different;

-- 2000 messages on 15 emails, 100 at a time, every digit of an md5 a choice
SELECT count(*), count(*) FILTER (WHERE batch IS DISTINCT FROM alone), count(DISTINCT batch) > 4
	FROM generate_series(1, 20) s, LATERAL (SELECT array_agg(t.m(
			CASE WHEN h[1] < 12 THEN format('{"email": "%s%s@x.io"', CASE WHEN h[2] < 8 THEN 'R' ELSE 'r' END, h[3])
				ELSE format('{"matching": "custom", "field_name": "card", "field_value": %s', h[3]) END
			|| CASE WHEN h[4] < 3 THEN ', "update_only": true' ELSE '' END
			|| ', "data": {' || concat_ws(', ', format('"n": %s', h[5] / 5),
				CASE WHEN h[6] < 3 THEN format('"email": "r%s@x.io"', h[7]) END,
				CASE WHEN h[8] < 4 THEN format('"card": %s', h[9]) END) || '}}') ORDER BY i) AS messages
		FROM generate_series(1, 100) i, LATERAL (SELECT array_agg(('x' || c)::bit(4)::int) FROM regexp_split_to_table(md5(s || ' ' || i), '') c) d (h)) g,
	LATERAL t.both(g.messages) b;
SELECT count(*) FROM t.different;

-- a trigger of the user writes another profile in between
CREATE FUNCTION t.spread() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.email = 'source@x.io' THEN
		UPDATE profimport.profile SET data = data || '{"n": 77}' WHERE email = 'target@x.io' AND db_id = NEW.db_id;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER spread AFTER INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION t.spread();
SELECT * FROM t.both(ARRAY[t.m('{"email": "target@x.io", "data": {"n": 1}}')]);
SELECT * FROM t.both(ARRAY[t.m('{"email": "source@x.io"}'), t.m('{"email": "target@x.io", "data": {"n": 1}}'), t.m('{"email": "f1@x.io"}'), t.m('{"email": "f2@x.io"}'), t.m('{"email": "f3@x.io"}'), t.m('{"email": "f4@x.io"}'), t.m('{"email": "f5@x.io"}'), t.m('{"email": "f6@x.io"}')]);
SELECT * FROM t.different;
DROP TRIGGER spread ON profimport.profile;

-- a rule of the user does
CREATE RULE spread AS ON UPDATE TO profimport.profile WHERE NEW.email = 'source@x.io' DO ALSO DELETE FROM profimport.profile WHERE email = 'target@x.io' AND db_id = NEW.db_id;
SELECT * FROM t.both(ARRAY[t.m('{"email": "source@x.io", "data": {"n": 2}}'), t.m('{"email": "target@x.io", "update_only": true, "data": {"n": 1}}'), t.m('{"email": "f1@x.io"}'), t.m('{"email": "f2@x.io"}'), t.m('{"email": "f3@x.io"}'), t.m('{"email": "f4@x.io"}'), t.m('{"email": "f5@x.io"}'), t.m('{"email": "f6@x.io"}')]);
DROP RULE spread ON profimport.profile;

-- what throws is redone in halves, and reads for itself
ALTER TABLE profimport.profile ADD CONSTRAINT no_13 CHECK (data->'n' IS DISTINCT FROM '13');
SELECT * FROM t.both(ARRAY[t.m('{"email": "g1@x.io"}'), t.m('{"email": "g1@x.io", "data": {"n": 1}}'), t.m('{"email": "g2@x.io", "data": {"n": 13}}'), t.m('{"email": "g1@x.io", "data": {"n": 1}}'), t.m('{"email": "g2@x.io", "update_only": true}'), t.m('{"email": "f1@x.io"}'), t.m('{"email": "f2@x.io"}'), t.m('{"email": "f3@x.io", "data": {"n": 13}}')]);
SELECT * FROM t.different;
ALTER TABLE profimport.profile DROP CONSTRAINT no_13;
