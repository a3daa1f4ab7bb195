-- SPEC section 4: standard fields, declared fields, what they accept and how it is stored
\set ECHO none
\i sql/include/helper.sql
\set ECHO all
INSERT INTO profimport.account VALUES (1);
INSERT INTO profimport.database VALUES (1, 1), (1, 2);
INSERT INTO profimport.field (account_id, db_id, name, type, options) VALUES
	(1, 1, 's', 'string', NULL), (1, 1, 'n', 'int', NULL), (1, 1, 'fl', 'float', NULL), (1, 1, 'bo', 'bool', NULL), (1, 1, 'd', 'date', NULL), (1, 1, 'dt', 'datetime', NULL),
	(1, 1, 'li', 'list', '{red,green,two words,7}'), (1, 1, 'ip', 'ip', NULL), (1, 1, 'tg', 'tags', NULL), (1, 1, 'o', 'object', NULL), (1, 1, 'ao', 'arr_object', NULL);
INSERT INTO profimport.profile (account_id, db_id, profile_id, email) VALUES (1, 1, 'p', 'p@x.io');
-- every table below: what is sent, and what is stored or the 400 that names the field
CREATE FUNCTION t.puts(field text, VARIADIC v text[]) RETURNS TABLE (sent text, stored text) LANGUAGE sql AS
$$ SELECT v, t.put(field, v) FROM unnest(v) WITH ORDINALITY u (v, n) ORDER BY n $$;

--
-- declared fields
--
-- string: a JSON string, as it is
SELECT * FROM t.puts('s', '"abc"', '""', '"  x "', '"тест 😀 \u00e9 \"\\ \n\u0001"');
SELECT * FROM t.puts('s', '1', 'true', '[]', '["a"]', '{}', '{"a": "b"}');
-- int: a JSON int, or a string of one (optional -, digits), within 64 bits
SELECT * FROM t.puts('n', '1', '0', '-0', '-5', '1e2', '9223372036854775807', '-9223372036854775808', '"12"', '"-12"', '"0"', '"-0"', '"0012"', '"00000000000000000000000000012"', '"9223372036854775807"', '"-9223372036854775808"');
SELECT * FROM t.puts('n', '9223372036854775808', '-9223372036854775809', '1e30', '1.0', '1.5', '1e-1', '"9223372036854775808"', '"+12"', '" 12"', '"12 "', '"1 2"', '""', '"-"', '"--1"', '"1.0"', '"1e2"', '"0x10"', '"1_0"', '"١"', '"x"', 'true', '[1]', '{}', '{"a": 1}');
-- float: a JSON number, or a string of one; double precision, finite
SELECT * FROM t.puts('fl', '1', '0', '-1.5', '1e2', '1.5e-3', '"1.5"', '"-1.5e3"', '"1E+2"', '"12"', '"0.1"', '0.1', '1.0', '0.12345678901234567890', '123456789012345678', '-0.0', '1e308', '-1.7976931348623157e308', '123456789');
SELECT * FROM t.puts('fl', '1e309', '-1e309', '1e1000', '"1e309"', '"NaN"', '"Infinity"', '"-inf"', '".5"', '"+1"', '" 1"', '"1 "', '""', '"-"', '"1e"', '"e1"', '"1.5.5"', '"0x1p3"', '"1,5"', '"x"', 'true', '[1.5]', '{}');
-- bool
SELECT * FROM t.puts('bo', 'true', 'false', '"true"', '"FALSE"', '"tRuE"');
SELECT * FROM t.puts('bo', '1', '0', '"t"', '"yes"', '"on"', '"1"', '""', '" true"', '"true "', '[true]', '{}');
-- date: a date, or a datetime whose date as written is taken
SELECT * FROM t.puts('d', '"2001-12-31"', '"2000-02-29"', '"0001-01-01"', '"9999-12-31"', '"2001-12-31T23:59"', '"2001-12-31 23:59:59"', '"2001-12-31T23:30:00-05:00"', '"2001-12-31T00:30:00.123456+14:00"', '"2001-12-31T00:00:00Z"');
SELECT * FROM t.puts('d', '"2001-02-29"', '"1900-02-29"', '"2001-13-01"', '"2001-00-01"', '"2001-01-00"', '"2001-04-31"', '"0000-01-01"', '"10000-01-01"', '"-2001-01-01"', '"2001-1-1"', '"01-01-01"', '"20010101"', '"31.12.2001"', '"12/31/2001"', '"2001-12-31T"', '"2001-12-31T10"',
	'"2001-12-31T25:00"', '"2001-12-31T10:60"', '"2001-12-31Z"', '" 2001-12-31"', '"2001-12-31 "', '"2001-12-31x"', '"today"', '"now"', '"infinity"', '"epoch"', '""', '20011231', 'true', '["2001-12-31"]', '{}');
-- datetime: UTC if no zone is given; .fff only if a fraction (cut to ms) is not zero
SELECT * FROM t.puts('dt', '"2001-12-31"', '"2001-12-31T10:20"', '"2001-12-31 10:20"', '"2001-12-31T10:20:30"', '"2001-12-31T10:20:30Z"', '"2001-12-31 10:20:30.5"', '"2001-12-31T10:20:30.1239Z"', '"2001-12-31T10:20:30.0009Z"', '"2001-12-31T10:20:30.000"', '"2001-12-31T10:20:30.1234567890123"',
	'"2001-12-31T10:20+03:00"', '"2001-12-31T20:20:30-05:30"', '"2001-12-31T10:20:30.5+14:00"', '"2001-12-31T10:20Z"', '"2001-12-31T10:20:30-00:00"', '"0001-01-01"', '"9999-12-31T23:59:59.999"', '"0001-01-01T05:00-05:00"', '"2000-02-29T23:59:59.999-00:30"');
SELECT * FROM t.puts('dt', '"2001-02-29"', '"2001-12-31T"', '"2001-12-31T10"', '"2001-12-31T10:2"', '"2001-12-31T1:20"', '"2001-12-31T24:01"', '"2001-12-31T10:60"', '"2001-12-31T10:20:61"', '"2001-12-31T10:20:30."', '"2001-12-31T10:20:30.Z"', '"2001-12-31T10:20:30,5"', '"2001-12-31T10:20.5"',
	'"2001-12-31T10:20+03"', '"2001-12-31T10:20+0300"', '"2001-12-31T10:20+3:00"', '"2001-12-31T10:20 +03:00"', '"2001-12-31T10:20+03:60"', '"2001-12-31T10:20+99:00"', '"2001-12-31T10:20 UTC"', '"2001-12-31T10:20 Europe/Moscow"', '"2001-12-31Z"', '"2001-12-31+03:00"', '"2001-12-31  10:20"',
	'"0001-01-01T00:00+01:00"', '"9999-12-31T23:59-01:00"', '"0000-12-31T23:59"', '"10000-01-01"', '"2001-12-31T10:20ZZ"', '"2001-365"', '"now"', '"infinity"', '""', '1009843200', 'true', '[]', '{}');
-- list: a string that is one of the options
SELECT * FROM t.puts('li', '"red"', '"two words"', '"7"');
SELECT * FROM t.puts('li', '"Red"', '"blue"', '" red"', '""', '7', 'true', '["red"]', '{}');
-- ip: IPv4 or IPv6, no /; as PostgreSQL prints it
SELECT * FROM t.puts('ip', '"1.2.3.4"', '"255.255.255.255"', '"::1"', '"2001:DB8:0:0::00A"', '"::ffff:1.2.3.4"', '"::"');
SELECT * FROM t.puts('ip', '"1.2.3.4/32"', '"1.2.3.0/24"', '"::1/128"', '"256.1.1.1"', '"1.2.3"', '"1.2.3.4.5"', '"1.2.3.4."', '"::1.2.3"', '"1"', '""', '" 1.2.3.4"', '"1.2.3.4 "', '"fe80::1%eth0"', '"[::1]"', '":::1"', '"x"', '1', 'true', '[]', '{}');
-- tags: an array of strings without commas, or one string; trimmed, empties dropped, no repeats, order kept
SELECT * FROM t.puts('tg', '["b", "a", "b"]', '"b, a,b"', '[" a ", "", "  ", "b"]', '" a ,, b , "', '["a", "A"]', '["one tag"]', '"x"', '["тег"]');
SELECT coalesce(nullif(t.put('tg', v), '[]'), 'unset') FROM unnest(ARRAY['[]', '""', '","', '[" "]']) v;		-- nothing left: SPEC leaves open whether an empty array stays
SELECT * FROM t.puts('tg', '["a,b"]', '["a", ","]', '[1]', '["a", null]', '[true]', '[["a"]]', '[{}]', '1', 'true', '{}', '{"a": 1}');
-- object
SELECT * FROM t.puts('o', '{}', '{"b": 1, "a": {"x": null, "y": [1, "2", {}]}}', '{"a": 1, "a": 2}', '{"action": "x"}', '{"action": 1}', '{"action": "Set", "value": 1}', '{"action": "set", "value": {}, "more": 1}', '{"value": 1, "submatch": "a"}');
SELECT * FROM t.puts('o', '[]', '[{}]', '"x"', '"{}"', '1', 'true');
-- arr_object
SELECT * FROM t.puts('ao', '[{}]', '[{"a": 1}, {"a": 1}]', '[{"b": [1], "a": null}]', '[{"action": "set", "value": 1}]');
SELECT coalesce(nullif(t.put('ao', '[]'), '[]'), 'unset');
SELECT * FROM t.puts('ao', '[1]', '[{}, null]', '[[]]', '["x"]', '{}', '{"a": 1}', '{"action": "x", "value": []}', '"x"', '1', 'true');
-- null unsets, whatever the type
SELECT f, t.put(f, 'null') FROM unnest(ARRAY['s', 'n', 'fl', 'bo', 'd', 'dt', 'li', 'ip', 'tg', 'o', 'ao']) f;
-- undeclared: 400
SELECT f, t.put(f, v) FROM (VALUES ('nope', '1'), ('S', '"x"'), ('', '1'), ('profile_id', '"x"'), ('_fnam', '"x"'), ('_FNAME', '"x"'), ('id', '1'), ('created_at', '"2001-01-01"'), ('data', '{}')) v (f, v);
-- null for one as well
SELECT t.put('nope', 'null');
-- a field of another database is undeclared here
SELECT t.imp('{"db_id": 2, "email": "x@x.io", "data": {"s": "x"}}', 's');

--
-- standard fields
--
SELECT * FROM t.puts('email', '"New@x.io"', '" trim@x.io\t"', '"p@x.io"');
SELECT * FROM t.puts('email', 'null', '""', '" "', '"x"', '"x@y@z"', '"x y@z"', '1', 'true', '["p@x.io"]', '{}', '{"a": 1}');
-- phones: an array of phones without repeats, or one
SELECT * FROM t.puts('phones', '["+79991234567"]', '"+7 (999) 123-45.67"', '["+79991234568", "+7999-1234567", "+7 999 123 45 68"]');
SELECT coalesce(nullif(t.put('phones', '[]'), '[]'), 'unset');
SELECT * FROM t.puts('phones', 'null', '""', '" "', '"x"', '"+79991234567, +79991234568"', '["x"]', '["+79991234567", ""]', '["+79991234567", null]', '[79991234567]', '79991234567', '[["+79991234567"]]', 'true', '{}', '{"a": 1}');
-- strings
SELECT f, t.put(f, '"Ünï 1"'), t.put(f, '""'), t.put(f, '1'), t.put(f, 'true'), t.put(f, '[]'), t.put(f, '{"a": 1}'), t.put(f, 'null')
FROM unnest(ARRAY['_fname', '_lname', '_city', '_region', '_country', '_regcity', '_regcountry', '_regurl', '_vendor', '_browser', '_os']) f;
-- _postal_code: a JSON int is taken as its digits
SELECT * FROM t.puts('_postal_code', '"00016"', '190000', '0', '1e2', '"SW1A 1AA"', '123456789012345678901234567890');
SELECT * FROM t.puts('_postal_code', '1.5', '1.0', 'true', '[]', '{}');
-- _tz: any case, stored in the spelling of pg_timezone_names
SELECT * FROM t.puts('_tz', '"Europe/Moscow"', '"europe/moscow"', '"AMERICA/NEW_YORK"', '"utc"');
SELECT * FROM t.puts('_tz', '"Mars/Base"', '"Europe"', '" UTC"', '"+03:00"', '"<+03>-3"', '""', '3', 'true', '[]', '{}');
SELECT t.stored('_tz') = 'unset' OR EXISTS (SELECT FROM pg_timezone_names WHERE to_jsonb(name)::text = t.stored('_tz'));
-- _bdate, _regdate: datetime
SELECT f, t.put(f, '"2001-12-31"'), t.put(f, '"2001-12-31T10:20:30.25+03:00"'), t.put(f, '"2001-13-31"'), t.put(f, '1'), t.put(f, 'null') FROM unnest(ARRAY['_bdate', '_regdate']) f;
-- _sex
SELECT * FROM t.puts('_sex', '0', '1', '2', '"0"', '"1"', '"male"', '"MALE"', '"m"', '"M"', '"man"', '"Man"', '"м"', '"М"', '"муж"', '"Муж"', '"МУЖ"', '"2"', '"female"', '"Female"', '"f"', '"F"', '"w"', '"W"', '"woman"', '"WOMAN"', '"ж"', '"Ж"', '"жен"', '"ЖЕН"');
SELECT * FROM t.puts('_sex', '3', '-1', '1.0', '"3"', '"01"', '"x"', '" m"', '"male "', '"мужской"', '""', 'true', '[]', '{}', '4294967297');
-- _ip, _regip
SELECT f, t.put(f, '"10.0.0.1"'), t.put(f, '"2001:DB8::1"'), t.put(f, '"10.0.0.0/8"'), t.put(f, '"x"'), t.put(f, '""'), t.put(f, '1'), t.put(f, 'null') FROM unnest(ARRAY['_ip', '_regip']) f;
-- _status
SELECT * FROM t.puts('_status', '0', '1', '2', '3', '4', '5', '6', '"0"', '"6"', '"subscribed"', '"unsubscribed"', '"complained"', '"hardbounced"', '"unconfirmed"', '"suspended"', '"invalid"');
SELECT * FROM t.puts('_status', '7', '-1', '"7"', '"-1"', '"-0"', '1.0', '"x"', '" 1"', '""', 'true', '[]', '{}');
SELECT t.put('_sex', 'null'), t.put('_status', 'null'), t.put('_tz', 'null'), t.put('_postal_code', 'null');

--
-- an update merges; a plain value replaces the whole field
--
SELECT t.imp('{"email": "m@x.io", "data": {"s": "1", "n": 1, "o": {"a": 1, "b": 2}, "tg": "a,b", "phones": ["+10000001", "+10000002"], "_fname": "F"}}');
SELECT t.imp('{"email": "m@x.io", "data": {"n": 2}}');
SELECT email, phones, data FROM t.profiles WHERE email = 'm@x.io';
SELECT t.imp('{"email": "m@x.io", "data": {"o": {"c": 3}, "tg": ["c"], "phones": "+10000003", "s": null}}');
SELECT email, phones, data FROM t.profiles WHERE email = 'm@x.io';
SELECT t.imp('{"email": "m@x.io", "data": {"o": null, "tg": null, "phones": null, "n": null, "_fname": null, "fl": null}}');
SELECT email, phones, data FROM t.profiles WHERE email = 'm@x.io';

--
-- an update that changes nothing writes nothing
--
SELECT t.imp('{"email": "p@x.io", "data": {"s": "1", "n": 1, "fl": 1.5, "bo": true, "d": "2001-01-01", "dt": "2001-01-01", "li": "red", "ip": "::1", "tg": "a,b", "o": {"a": 1}, "ao": [{"a": 1}], "phones": "+10000001", "_sex": 1, "_status": 0, "_tz": "UTC", "_postal_code": 5}}');
SELECT t.state() AS before \gset
SELECT * FROM t.bat('{"email": "P@x.io", "data": {"s": "1", "n": "1", "fl": "1.50", "bo": "TRUE", "d": "2001-01-01T10:00", "dt": "2001-01-01 00:00", "li": "red", "ip": "0::1", "tg": " a ,b,a", "o": {"a": 1}, "ao": [{"a": 1}], "phones": ["+1 000 0001"], "_sex": "m", "_status": "subscribed", "_tz": "utc", "_postal_code": "5", "_fname": null}}',
	'{"email": "p@x.io"}', '{"email": "p@x.io", "data": {"email": "p@x.io"}}', '{"email": "p@x.io", "data": {"subscriptions": null}}', '{"email": "p@x.io", "data": {"subscriptions": []}}');
SELECT t.state() = :'before';
-- the order of tags is a change, and so is another case of the email
SELECT * FROM t.bat('{"email": "p@x.io", "data": {"tg": "b,a"}}', '{"email": "p@x.io", "data": {"email": "P@x.io"}}');

--
-- required: present on creation, never unset
--
INSERT INTO profimport.field (account_id, db_id, name, type, required, matching) VALUES (1, 2, 'must', 'int', true, true), (1, 2, 'tg', 'tags', false, false);
SELECT t.imp('{"db_id": 2, "email": "r@x.io"}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": null}}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": {"action": "unset"}}}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": {"action": "set", "value": null}}}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": "x"}}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": "1"}}');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"_fname": "R"}}');					-- an update need not name it
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": null}}', 'must');			-- but cannot unset it
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": {"action": "unset"}}}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r@x.io", "data": {"must": {"action": "set", "value": null}}}', 'must');
SELECT t.imp('{"db_id": 2, "email": "r2@x.io", "data": {"must": {"action": "incr", "value": 2}}}');
SELECT t.imp('{"db_id": 2, "matching": "custom", "field_name": "must", "field_value": 3}');		-- the match value is one
SELECT t.imp('{"db_id": 2, "email": "r3@x.io", "update_only": true}');							-- 404, no creation
