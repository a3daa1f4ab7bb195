-- Every object of the extension, and every part of one, says what it is for: \dx+, \d+, \dd and \di+ show it
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS profimport;
\pset format unaligned
\pset tuples_only on
-- members of the extension: routines, tables, views, sequences, types and whatever else comes
SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
	WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'profimport') AND d.deptype = 'e'
		AND obj_description(d.objid, d.classid::regclass::text) IS NULL
		AND NOT (d.classid = 'pg_type'::regclass AND (SELECT typrelid <> 0 OR typelem <> 0 FROM pg_type WHERE oid = d.objid))
	ORDER BY 1;
-- columns, sequences and indexes of its relations (a constraint speaks for its index)
SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relnamespace = 'profimport'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
		AND col_description(a.attrelid, a.attnum) IS NULL ORDER BY 1;
SELECT pg_describe_object('pg_class'::regclass, oid, 0) FROM pg_class
	WHERE relnamespace = 'profimport'::regnamespace AND relkind IN ('i', 'I', 'S') AND obj_description(oid, 'pg_class') IS NULL
		AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid) ORDER BY 1;
-- constraints (NOT NULL is one since PostgreSQL 18, and explains itself), triggers, rules, policies
SELECT pg_describe_object('pg_constraint'::regclass, oid, 0) FROM pg_constraint
	WHERE connamespace = 'profimport'::regnamespace AND contype <> 'n' AND obj_description(oid, 'pg_constraint') IS NULL ORDER BY 1;
SELECT pg_describe_object('pg_trigger'::regclass, t.oid, 0) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'profimport'::regnamespace AND NOT t.tgisinternal AND obj_description(t.oid, 'pg_trigger') IS NULL ORDER BY 1;
SELECT pg_describe_object('pg_rewrite'::regclass, r.oid, 0) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
	WHERE c.relnamespace = 'profimport'::regnamespace AND r.rulename <> '_RETURN' AND obj_description(r.oid, 'pg_rewrite') IS NULL ORDER BY 1;
-- a comment says something, ends without a full stop, and is no copy of another object's name
SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description FROM pg_description d
	WHERE (d.classoid, d.objoid) IN (SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = 'profimport'::regnamespace
			UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = 'profimport'::regnamespace
			UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE connamespace = 'profimport'::regnamespace)
		AND (btrim(d.description) = '' OR d.description LIKE '%.') ORDER BY 1;
