-- What import_batch is measured against: the least that a hand-written
-- function does.  A SELECT, then an INSERT or an UPDATE per message.
CREATE TABLE bench_profile (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account_id int, db_id int, email text, data jsonb,
	updated_at timestamptz DEFAULT now()
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX ON bench_profile (lower(email), db_id, account_id);

CREATE FUNCTION bench_upsert(bodies bytea[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	body bytea;
	m jsonb;
	found_id bigint;
BEGIN
	FOREACH body IN ARRAY bodies LOOP
		m := convert_from(body, 'UTF8')::jsonb;
		SELECT id INTO found_id FROM bench_profile
			WHERE lower(email) = lower(m ->> 'email')
				AND db_id = (m ->> 'db_id')::int AND account_id = (m ->> 'account_id')::int;
		IF found_id IS NULL THEN
			INSERT INTO bench_profile (account_id, db_id, email, data)
				VALUES ((m ->> 'account_id')::int, (m ->> 'db_id')::int, m ->> 'email', m -> 'data')
				RETURNING id INTO found_id;
		ELSE
			UPDATE bench_profile SET data = data || (m -> 'data'), updated_at = now() WHERE id = found_id;
		END IF;
		RETURN NEXT jsonb_build_object('error', 0, 'error_text', '', 'feedback_id', m ->> 'feedback_id',
			'matching_field', 'email', 'profile_id', found_id::text)::text;
	END LOOP;
END
$$;

-- Nanoseconds of CPU that this backend has used.
CREATE FUNCTION bench_cpu() RETURNS bigint LANGUAGE sql VOLATILE AS
	$$SELECT split_part(pg_catalog.pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint$$;
