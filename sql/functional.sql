-- SPEC section 4: functional updates, every action on every type
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1);
INSERT INTO profimport.field (account_id, db_id, name, type, options) VALUES
	(1, 1, 's', 'string', NULL), (1, 1, 'n', 'int', NULL), (1, 1, 'fl', 'float', NULL), (1, 1, 'bo', 'bool', NULL), (1, 1, 'd', 'date', NULL), (1, 1, 'dt', 'datetime', NULL),
	(1, 1, 'li', 'list', '{red,green}'), (1, 1, 'ip', 'ip', NULL), (1, 1, 'tg', 'tags', NULL), (1, 1, 'o', 'object', NULL), (1, 1, 'ao', 'arr_object', NULL);
INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, 'p', 'p@x.io');

-- of every type: the field, a stored value, another valid value, as stored
CREATE TABLE t.type (no int, f text, a text, b text, bad text);
INSERT INTO t.type VALUES (1, 's', '"a"', '"b"', '1'), (2, 'n', '1', '"2"', '1.5'), (3, 'fl', '1.5', '"2.5"', '"x"'), (4, 'bo', 'true', '"false"', '1'), (5, 'd', '"2001-01-01"', '"2002-02-02T10:00"', '"x"'),
	(6, 'dt', '"2001-01-01T00:00:00Z"', '"2002-02-02"', '"x"'), (7, 'li', '"red"', '"green"', '"blue"'), (8, 'ip', '"::1"', '"10.0.0.1"', '"x"'), (9, 'tg', '["a"]', '"b"', '[1]'), (10, 'o', '{"a": 1}', '{"b": 1}', '1'),
	(11, 'ao', '[{"a": 1}]', '[{"b": 1}]', '[1]'), (12, 'phones', '["+10000001"]', '"+1 000 0002"', '"x"'), (13, 'email', '"p@x.io"', '"p2@x.io"', '"x"'), (14, '_fname', '"a"', '"b"', '1'), (15, '_postal_code', '"1"', '2', 'true'),
	(16, '_tz', '"UTC"', '"europe/moscow"', '"x"'), (17, '_bdate', '"2001-01-01T00:00:00Z"', '"2002-02-02"', '"x"'), (18, '_sex', '1', '"f"', '3'), (19, '_ip', '"::1"', '"10.0.0.1"', '"x"'), (20, '_status', '1', '"complained"', '7');

-- set: all types; like the plain value; null unsets; submatch may be there; no value, a value that does not fit: 400
SELECT f, t.fun(f, a, format('{"action": "set", "value": %s}', b)), t.fun(f, a, format('{"submatch": "x", "value": %s, "action": "set"}', b)), t.fun(f, NULL, format('{"action": "set", "value": %s}', b)) FROM t.type ORDER BY no;
SELECT f, t.fun(f, a, '{"action": "set", "value": null}'), t.fun(f, a, '{"action": "set"}'), t.fun(f, a, format('{"action": "set", "value": %s}', bad)) FROM t.type ORDER BY no;
-- unset: all but email; value is ignored
SELECT f, t.fun(f, a, '{"action": "unset"}'), t.fun(f, a, format('{"action": "unset", "value": %s}', bad)), t.fun(f, NULL, '{"action": "unset", "submatch": "x"}') FROM t.type ORDER BY no;
-- incr, add, delete, upsert: 400 where the type is not theirs
SELECT f, t.fun(f, a, format('{"action": "incr", "value": %s}', CASE WHEN f IN ('n', 'fl') THEN b ELSE '1' END)), t.fun(f, a, format('{"action": "add", "value": %s}', b)),
	t.fun(f, a, format('{"action": "delete", "value": %s}', b)), t.fun(f, a, '{"action": "upsert", "value": 5, "submatch": "a"}') FROM t.type ORDER BY no;

--
-- incr: adds, negative subtracts; missing counts as 0; the value by the field's type rules; out of range: 400
--
SELECT v, t.fun('n', '5', format('{"action": "incr", "value": %s}', v)), t.fun('n', NULL, format('{"action": "incr", "value": %s}', v))
FROM unnest(ARRAY['3', '-10', '0', '"3"', '"-3"', '1e2', '-5', '9223372036854775802', '-9223372036854775808']) v;
SELECT v, t.fun('n', '5', format('{"action": "incr", "value": %s}', v)) FROM unnest(ARRAY['9223372036854775803', '9223372036854775807', '9223372036854775808', '1.5', '1.0', '"x"', '""', '" 1"', 'true', '[]', '{}', 'null']) v;	-- 400
SELECT t.fun('n', '-9223372036854775808', '{"action": "incr", "value": -1}'), t.fun('n', '-9223372036854775808', '{"action": "incr", "value": 1}'), t.fun('n', '-1', '{"action": "incr", "value": -9223372036854775808}');
SELECT t.fun('n', '5', '{"action": "incr"}');
SELECT v, t.fun('fl', '1.5', format('{"action": "incr", "value": %s}', v)), t.fun('fl', NULL, format('{"action": "incr", "value": %s}', v)) FROM unnest(ARRAY['1', '-2.5', '"0.25"', '-1.5', '1e2']) v;
SELECT v, t.fun('fl', '1.7e308', format('{"action": "incr", "value": %s}', v)) FROM unnest(ARRAY['1.7e308', '-1.7e308', '1e309', '"NaN"', '"inf"', '"x"', 'null', 'false']) v;
SELECT t.fun('fl', '1.5', '{"action": "incr"}');

--
-- add: what is not there yet, by jsonb equality; order kept
--
SELECT v, t.fun('tg', '["b", "a"]', format('{"action": "add", "value": %s}', v)), t.fun('tg', NULL, format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['"c"', '["c", "a", "c"]', '" d , b,, D"', '["a", "b"]']) v;
SELECT v, t.fun('tg', '["a"]', format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['[1]', '["a,b"]', '1', '{}', 'true', '[null]']) v;		-- 400
SELECT v, t.fun('tg', '["a"]', format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['[]', '""', '" , "']) v;									-- nothing to add
SELECT v, t.fun('phones', '["+10000001"]', format('{"action": "add", "value": %s}', v)), t.fun('phones', NULL, format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['"+1 000 00-02"', '["+10000003", "+1-0000001", "+10000003"]']) v;
SELECT v, t.fun('phones', '["+10000001"]', format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['"x"', '["+10000002", "x"]', '1', '{}', '""']) v;	-- 400
SELECT v, t.fun('ao', '[{"a": 1}]', format('{"action": "add", "value": %s}', v)), t.fun('ao', NULL, format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['{"a": 2}', '{"a": 1}', '[{"a": 1.0}, {"b": null}]', '[{"c": 1, "d": 2}, {"d": 2, "c": 1}]', '{}', '{"action": "set", "value": 1}']) v;
SELECT v, t.fun('ao', '[{"a": 1}]', format('{"action": "add", "value": %s}', v)) FROM unnest(ARRAY['1', '[1]', '"x"', '[{}, null]', 'true']) v;		-- 400
SELECT t.fun('ao', '[{"a": 1}, {"a": 1}]', '{"action": "add", "value": {"a": 2}}');		-- repeats that are there stay
SELECT f, t.fun(f, NULL, '{"action": "add"}') FROM unnest(ARRAY['tg', 'phones', 'ao']) f;

--
-- delete: removes what is there
--
SELECT v, t.fun('tg', '["b", "a", "c"]', format('{"action": "delete", "value": %s}', v)), t.fun('tg', NULL, format('{"action": "delete", "value": %s}', v)) FROM unnest(ARRAY['"b"', '["c", "x", "c"]', '"a, c"', '"A"', '"x"', '""', '[]']) v;
SELECT v, t.fun('tg', '["a"]', format('{"action": "delete", "value": %s}', v)) FROM unnest(ARRAY['[1]', '1', '{}', '["a,b"]']) v;
SELECT v, t.fun('phones', '["+10000001", "+10000002"]', format('{"action": "delete", "value": %s}', v)), t.fun('phones', NULL, format('{"action": "delete", "value": %s}', v)) FROM unnest(ARRAY['"+1 000 00-01"', '["+10000003", "+10000002"]']) v;
SELECT v, t.fun('phones', '["+10000001"]', format('{"action": "delete", "value": %s}', v)) FROM unnest(ARRAY['"x"', '1', '{}']) v;
SELECT v, t.fun('ao', '[{"a": 1}, {"b": 1}, {"a": 1}]', format('{"action": "delete", "value": %s}', v)), t.fun('ao', NULL, format('{"action": "delete", "value": %s}', v)) FROM unnest(ARRAY['{"a": 1.0}', '[{"b": 1}, {"c": 1}]', '{}', '[]']) v;
SELECT v, t.fun('ao', '[{"a": 1}]', format('{"action": "delete", "value": %s}', v)) FROM unnest(ARRAY['1', '[1]', '"x"']) v;
-- the last one: SPEC leaves open whether an empty array stays
SELECT f, coalesce(nullif(t.fun(f, a, format('{"action": "delete", "value": %s}', a)), '[]'), 'unset') FROM t.type WHERE f IN ('tg', 'phones', 'ao') ORDER BY no;
SELECT f, t.fun(f, a, '{"action": "delete"}') FROM t.type WHERE f IN ('tg', 'phones', 'ao') ORDER BY no;

--
-- upsert in an object: missing parents are created, a missing object too; value null is written
--
SELECT s, t.fun('o', '{"a": 1, "b": {"c": 2, "d": {}}, "e": null, "f": [{"g": 1}], "h": "x"}', format('{"action": "upsert", "value": {"v": 1}, "submatch": %s}', to_jsonb(s))) FROM unnest(ARRAY['a', 'z', 'b', 'b.c', 'b.x', 'b.d.y.z', 'x.y.z', 'e', 'f', 'h', 'ключ.ы']) s;
SELECT v, t.fun('o', '{"a": 1}', format('{"action": "upsert", "value": %s, "submatch": "a"}', v)), t.fun('o', NULL, format('{"action": "upsert", "value": %s, "submatch": "x.y"}', v)) FROM unnest(ARRAY['null', '5', '"x"', 'true', '[1, {}]', '{}', '{"action": "incr", "value": 1}']) v;
SELECT t.fun('o', '{}', '{"action": "upsert", "value": 1, "submatch": "a.b"}');
-- a path through a non-object (null is one): 400
SELECT s, t.fun('o', '{"a": 1, "b": {"c": 2}, "e": null, "f": [{"g": 1}], "h": "x"}', format('{"action": "upsert", "value": 1, "submatch": %s}', to_jsonb(s))) FROM unnest(ARRAY['a.x', 'b.c.x', 'e.x', 'f.g', 'f.0', 'h.x']) s;
-- submatch required, not empty, a string; value required
SELECT f, v, t.fun('o', '{"a": 1}', v), t.fun('ao', '[{"a": 1}]', v)
FROM (VALUES (1, '{"action": "upsert", "value": 1}'), (2, '{"action": "upsert", "value": 1, "submatch": ""}'), (3, '{"action": "upsert", "value": 1, "submatch": null}'), (4, '{"action": "upsert", "value": 1, "submatch": 1}'),
	(5, '{"action": "upsert", "value": 1, "submatch": ["a"]}'), (6, '{"action": "upsert", "submatch": "a"}'), (7, '{"action": "upsert"}')) v (f, v) ORDER BY f;
--
-- upsert in an array of objects: every element that has the property; none is a success without change
--
SELECT s, t.fun('ao', '[{"a": 1}, {"b": {"c": 1}}, {"a": null, "b": {}}, {"b": 5}, {"b": null}, {"b": {"c": {"d": 1}}}]', format('{"action": "upsert", "value": 9, "submatch": %s}', to_jsonb(s))) FROM unnest(ARRAY['a', 'b', 'b.c', 'b.c.d', 'x', 'a.x', 'x.y']) s;
SELECT t.fun('ao', '[{"a": 1}, {"b": 2}]', '{"action": "upsert", "value": null, "submatch": "a"}');
SELECT t.fun('ao', NULL, '{"action": "upsert", "value": 1, "submatch": "a"}');
SELECT coalesce(nullif(t.fun('ao', '[]', '{"action": "upsert", "value": 1, "submatch": "a"}'), '[]'), 'unset');

--
-- what is a functional update: "action" is one of the words, no other keys than the three
--
-- on a field that is no object any other object is a 400
SELECT v, t.fun('n', '1', v), t.fun('s', '"a"', v), t.fun('tg', '["a"]', v), t.fun('ao', '[{}]', v), t.fun('phones', '["+10000001"]', v)
FROM unnest(ARRAY['{}', '{"value": 1}', '{"action": "SET", "value": 1}', '{"action": "none", "value": 1}', '{"action": 1, "value": 1}', '{"action": null}', '{"action": "unset", "more": 1}', '{"Action": "unset"}']) v;
-- on an object it is the value
SELECT v, t.fun('o', '{"a": 1}', v) FROM unnest(ARRAY['{}', '{"value": 1}', '{"action": "SET", "value": 1}', '{"action": "none", "value": 1}', '{"action": 1, "value": 1}', '{"action": null}', '{"action": "unset", "more": 1}', '{"Action": "unset"}']) v;
-- an object field too obeys the words, and refuses those that are not its own; set stores anything
SELECT v, t.fun('o', '{"a": 1}', v) FROM unnest(ARRAY['{"action": "incr"}', '{"action": "add", "value": {"x": 1}}', '{"action": "delete", "value": {"a": 1}}', '{"action": "set", "value": 1}', '{"action": "set", "value": {"action": "incr", "value": 1}}', '{"action": "set", "value": {"action": "unset"}}']) v;
-- there is no update within an update elsewhere
SELECT t.fun('n', '1', '{"action": "set", "value": {"action": "incr", "value": 1}}'), t.fun('n', '1', '{"action": "incr", "value": {"action": "set", "value": 1}}');

--
-- on creation: applied to the empty profile
--
SELECT t.imp('{"email": "new@x.io", "data": {"n": {"action": "incr", "value": 5}, "fl": {"action": "incr", "value": -0.5}, "tg": {"action": "add", "value": "a,b"}, "phones": {"action": "add", "value": ["+20000001"]},
	"ao": {"action": "add", "value": {"a": 1}}, "o": {"action": "upsert", "value": 1, "submatch": "x.y"}, "s": {"action": "set", "value": "s"}, "bo": {"action": "unset"}, "li": {"action": "set", "value": null}}}');
SELECT email, phones, data FROM t.profiles WHERE id = 'P1';
SELECT t.imp('{"email": "new2@x.io", "data": {"tg": {"action": "delete", "value": "a"}, "phones": {"action": "delete", "value": "+20000001"}, "ao": {"action": "upsert", "value": 1, "submatch": "a"}}}');
SELECT email, phones, data FROM t.profiles WHERE id = 'P2';
SELECT t.imp('{"email": "new3@x.io", "data": {"n": {"action": "upsert", "value": 5, "submatch": "a"}}}', 'n');
SELECT t.imp('{"email": "new3@x.io", "data": {"email": {"action": "set", "value": "New4@x.io"}}}');
SELECT email FROM t.profiles WHERE id = 'P3';

--
-- queue order, also inside one batch; unchanged is unchanged
--
SELECT * FROM t.bat('{"email": "q@x.io", "data": {"n": {"action": "incr", "value": 1}}}', '{"email": "q@x.io", "data": {"n": {"action": "incr", "value": "x"}}}', '{"email": "q@x.io", "data": {"n": {"action": "incr", "value": 1}, "tg": {"action": "add", "value": "a"}}}',
	'{"email": "q@x.io", "data": {"n": {"action": "incr", "value": 0}, "tg": {"action": "add", "value": "a"}, "ao": {"action": "upsert", "value": 1, "submatch": "x"}, "s": {"action": "unset"}, "fl": null}}',
	'{"email": "q@x.io", "data": {"n": {"action": "set", "value": 10}}}', '{"email": "q@x.io", "data": {"n": {"action": "incr", "value": 9223372036854775807}}}', '{"email": "q@x.io", "data": {"n": {"action": "incr", "value": -1}, "tg": {"action": "delete", "value": "b"}}}');
SELECT data FROM t.profiles WHERE email = 'q@x.io';
