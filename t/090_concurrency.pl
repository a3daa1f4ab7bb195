# Four sessions and two workers at once, for some ten seconds, on a few hot and many other profiles: import() and
# import_batch() in every mode, INSERT, UPDATE and DELETE by ordinary SQL, takers of trigger events, a field that is
# switched between matching and not.  Then nothing may be lost, there twice, or out of step.
#
# PROFIMPORT_SEED=N repeats the choices (not the timing); PROFIMPORT_SECONDS=N runs longer.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run ();
use ProfImport::Test;

my $seed = $ENV{PROFIMPORT_SEED} // 20240229;
my $seconds = $ENV{PROFIMPORT_SECONDS} // 8;
my $sessions = 4;
my $messages = 250 * $seconds;
note "seed $seed";

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('concurrency');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('main',
	url => $broker->url($vhost),
	conf => {
		'profimport.workers' => 0,
		'profimport.batch_size' => 20,
		'deadlock_timeout' => '20ms',
		'log_min_messages' => 'warning',
	});

$node->configure(1, 1,
	fields => {
		n => { type => 'int' },
		note => { type => 'string' },
		flip => { type => 'int' },
		code => { type => 'int', matching => json_true },
		labels => { type => 'tags', matching => json_true },
		card => { type => 'string', is_unique => json_true },
	},
	resources => {
		1 => { fields => { visits => { type => 'int' }, login => { type => 'string', matching => json_true } } },
		2 => {},
	});

# Each kind of value is looked for by modes that find what each other creates, and nobody writes it in another way.  So
# no two profiles may have it, but for emails and cards, which are unique whatever happens.
$node->sql(<<'SQL');
CREATE SCHEMA stress;

CREATE TABLE stress.log (session int, op text, outcome text, error int, n int, visits int);
CREATE TABLE stress.failure (session int, op text, sqlstate text, message text);
CREATE TABLE stress.taken (LIKE profimport.trigger_event, PRIMARY KEY (event_id));

-- one of few in half of the cases, else one of many
CREATE FUNCTION stress.pick() RETURNS int LANGUAGE sql VOLATILE AS
	$$ SELECT CASE WHEN random() < 0.5 THEN 1 + floor(random() * 4)::int ELSE 5 + floor(random() * 1500)::int END $$;

CREATE FUNCTION stress.message() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	k text := stress.pick();
	mail text := format('%s%s@example.com', CASE WHEN random() < 0.5 THEN 'm' ELSE 'M' END, k);
	phone text := format('+1555%s', lpad(k, 7, '0'));
	m jsonb := jsonb '{"account_id": 1, "db_id": 1}';
	d jsonb := jsonb '{"n": {"action": "incr", "value": 1}}';
BEGIN
	m := m || CASE floor(random() * 13)::int
		WHEN 0 THEN jsonb_build_object('email', mail)
		WHEN 1 THEN jsonb_build_object('matching', 'email_profile', 'email', mail)
		WHEN 2 THEN jsonb_build_object('matching', 'email_sub', 'email', 's' || mail, 'resource_id', 1)
		WHEN 3 THEN jsonb_build_object('matching', 'phone', 'phone', phone)
		WHEN 4 THEN jsonb_build_object('matching', 'phone_sub', 'phone', replace(phone, '+1555', '+1666'), 'resource_id', 1)
		WHEN 5 THEN jsonb_build_object('matching', 'email_phone', 'email', mail, 'phone', phone)
		WHEN 6 THEN jsonb_build_object('matching', 'email_phone_sub', 'email', 's' || mail,
				'phone', replace(phone, '+1555', '+1666'), 'resource_id', 1)
		WHEN 7 THEN jsonb_build_object('matching', 'push_sub', 'provider', 'fcm', 'subscription_id', k, 'resource_id', 2)
		WHEN 8 THEN jsonb_build_object('matching', 'custom', 'field_name', 'code', 'field_value', k)
		WHEN 9 THEN jsonb_build_object('matching', 'custom', 'field_name', 'card', 'field_value', k)
		WHEN 10 THEN jsonb_build_object('matching', 'custom', 'field_name', 'labels', 'field_value', format('%s, all', k))
		WHEN 11 THEN jsonb_build_object('matching', 'custom_sub', 'field_name', 'login', 'field_value', k)
		ELSE jsonb_build_object('matching', 'profile_id', 'profile_id',
			coalesce((SELECT profile_id FROM profimport.profile WHERE lower(email) = lower(mail)), 'none'))
	END;
	IF random() < 0.1 THEN
		m := m || '{"update_only": true}';
	END IF;
	IF random() < 0.2 THEN
		d := d || jsonb_build_object('note', md5(random()::text));
	END IF;
	IF random() < 0.1 THEN
		d := d || jsonb_build_object('card', stress.pick()::text);
	END IF;
	IF random() < 0.3 THEN
		d := d || jsonb_build_object('flip', floor(random() * 10));
	END IF;
	IF random() < 0.3 THEN
		d := d || jsonb_build_object('subscriptions', jsonb_build_array(jsonb_build_object('resource_id', 1,
			'channel', 'viber', 'phone', '+17770000' || floor(100 + random() * 3), 'custom_fields',
			jsonb_build_object('visits', jsonb '{"action": "incr", "value": 1}', 'login', k))));
	END IF;
	RETURN m || jsonb_build_object('data', d);
END $$;

-- what a message that succeeded has added: one to n, and maybe one visit
CREATE FUNCTION stress.visits(message jsonb) RETURNS int LANGUAGE sql IMMUTABLE AS
	$$ SELECT (message #> '{data,subscriptions}' IS NOT NULL)::int $$;

CREATE PROCEDURE stress.sql(session int, op text) LANGUAGE plpgsql AS $$
DECLARE
	mail text := format('m%s@example.com', stress.pick());
	changed int;
	lost_n int;
	lost_visits int;
	id text;
BEGIN
	CASE op
		WHEN 'insert' THEN
			INSERT INTO profimport.profile (account_id, db_id, email, data) VALUES (1, 1, mail, '{"n": 1}');
			INSERT INTO stress.log VALUES (session, op, 'done', 0, 1, 0);
		WHEN 'update' THEN
			UPDATE profimport.profile SET data = jsonb_set(data, '{n}', to_jsonb(coalesce((data->>'n')::int, 0) + 1))
				WHERE lower(email COLLATE "C") = mail AND (account_id, db_id) = (1, 1);
			GET DIAGNOSTICS changed = ROW_COUNT;
			INSERT INTO stress.log VALUES (session, op, 'done', 0, changed, 0);
		WHEN 'flip' THEN
			UPDATE profimport.profile SET data = data || jsonb_build_object('flip', floor(random() * 10))
				WHERE lower(email COLLATE "C") = mail AND (account_id, db_id) = (1, 1);
		WHEN 'delete' THEN
			SELECT profile_id INTO id FROM profimport.profile
				WHERE lower(email COLLATE "C") = mail AND (account_id, db_id) = (1, 1) FOR UPDATE;
			IF FOUND THEN
				PERFORM FROM profimport.subscription WHERE profile_id = id FOR UPDATE;
				SELECT coalesce(sum((custom_fields->>'visits')::int), 0) INTO lost_visits
					FROM profimport.subscription WHERE profile_id = id;
				DELETE FROM profimport.profile WHERE profile_id = id RETURNING (data->>'n')::int INTO lost_n;
				INSERT INTO stress.log VALUES (session, op, 'done', 0, -coalesce(lost_n, 0), -lost_visits);
			END IF;
		WHEN 'visit' THEN
			UPDATE profimport.subscription
				SET custom_fields = jsonb_set(custom_fields, '{visits}', to_jsonb((custom_fields->>'visits')::int + 1))
				WHERE contact = '+17770000100' AND custom_fields ? 'visits' AND random() < 0.1;
			GET DIAGNOSTICS changed = ROW_COUNT;
			INSERT INTO stress.log VALUES (session, op, 'done', 0, 0, changed);
		WHEN 'subscribe' THEN
			INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, custom_fields)
				SELECT 1, 1, profile_id, 1, 'viber', '+17770000102', jsonb_build_object('visits', 1, 'login', 'sql')
				FROM profimport.profile WHERE lower(email COLLATE "C") = mail AND (account_id, db_id) = (1, 1);
			GET DIAGNOSTICS changed = ROW_COUNT;
			INSERT INTO stress.log VALUES (session, op, 'done', 0, 0, changed);
		WHEN 'take' THEN
			INSERT INTO stress.taken SELECT * FROM profimport.take_trigger_events(50);
		WHEN 'switch' THEN
			UPDATE profimport.field SET matching = NOT matching WHERE name = 'flip';
	END CASE;
END $$;

CREATE PROCEDURE stress.one(session int, op text) LANGUAGE plpgsql AS $$
DECLARE
	batch jsonb[];
	r jsonb;
BEGIN
	IF op = 'import' THEN
		batch := ARRAY[stress.message()];
		r := profimport.import(batch[1]);
		INSERT INTO stress.log VALUES (session, op, NULL, (r->>'error')::int,
			(r->'error' = '0')::int, CASE WHEN r->'error' = '0' THEN stress.visits(batch[1]) ELSE 0 END);
	ELSIF op = 'batch' THEN
		SELECT array_agg(stress.message()) INTO batch FROM generate_series(1, 2 + floor(random() * 8)::int);
		INSERT INTO stress.log
			SELECT session, op, outcome, (result->>'error')::int, (result->'error' = '0')::int,
				CASE WHEN result->'error' = '0' THEN stress.visits(batch[ordinal]) ELSE 0 END
			FROM profimport.import_batch((SELECT array_agg(convert_to(b::text, 'UTF8') ORDER BY i)
				FROM unnest(batch) WITH ORDINALITY AS u (b, i)));
	ELSE
		CALL stress.sql(session, op);
	END IF;
END $$;

-- A transaction each: one thing, seldom two.  What PostgreSQL asks to repeat is counted, what a
-- unique value or a profile that went away refuses to ordinary SQL, too; all else is a failure.
CREATE PROCEDURE stress.run(session int, seed float8, seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + make_interval(secs => seconds);
	op text;
	dice float8;
BEGIN
	PERFORM setseed(seed);
	WHILE clock_timestamp() < deadline LOOP
		dice := random();
		op := CASE
			WHEN dice < 0.50 THEN 'import'
			WHEN dice < 0.70 THEN 'batch'
			WHEN dice < 0.76 THEN 'insert'
			WHEN dice < 0.86 THEN 'update'
			WHEN dice < 0.88 THEN 'flip'
			WHEN dice < 0.92 THEN 'delete'
			WHEN dice < 0.94 THEN 'visit'
			WHEN dice < 0.96 THEN 'subscribe'
			WHEN dice < 0.99 THEN 'take'
			ELSE 'switch' END;
		BEGIN
			CALL stress.one(session, op);
			IF op <> 'switch' AND random() < 0.1 THEN
				CALL stress.one(session, 'update');
			END IF;
		EXCEPTION
			WHEN deadlock_detected OR serialization_failure THEN
				INSERT INTO stress.log VALUES (session, op, 'repeat ' || SQLSTATE, 0, 0, 0);
			WHEN unique_violation OR foreign_key_violation THEN
				IF op IN ('insert', 'subscribe') THEN
					INSERT INTO stress.log VALUES (session, op, 'refused ' || SQLSTATE, 0, 0, 0);
				ELSE
					INSERT INTO stress.failure VALUES (session, op, SQLSTATE, SQLERRM);
				END IF;
			WHEN OTHERS THEN
				INSERT INTO stress.failure VALUES (session, op, SQLSTATE, SQLERRM);
		END;
		COMMIT;
	END LOOP;
END $$;
SQL

# The workers' share waits in the queue when the sessions start.
my (undef, @bodies) = split /\n/,
  $node->sql("SELECT setseed(0.5); SELECT stress.message() || jsonb_build_object('feedback_id', i::text) FROM generate_series(0, $messages - 1) i");
$amqp->declare('database_import');
$amqp->publish_many('database_import', \@bodies);

my @runs;
for my $session (1 .. $sessions)
{
	my $output = '';
	my $run = IPC::Run::start(
		[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-c', sprintf('CALL stress.run(%d, %f, %f)', $session, ($seed * $session % 1000) / 1000, $seconds) ],
		'>', \$output, '2>&1', IPC::Run::timeout(30 + 4 * $seconds));
	push @runs, [ $session, $run, \$output ];
}
$node->set('profimport.workers' => 2);
for (@runs)
{
	my ($session, $run, $output) = @$_;
	ok($run->finish, "session $session ran to its end") or diag $$output;
}
my @results = $amqp->results($messages, timeout => 120);
$node->wait_settled;

my %count;
$count{"$_->{op} $_->{outcome}"} = $_->{count}
  for $node->rows(q(SELECT op, coalesce(outcome, '') || ' ' || error AS outcome, count(*) FROM stress.log GROUP BY 1, 2));
$count{"queue $_->{headers}{outcome} $_->{json}{error}"}++ for @results;
note "$_: $count{$_}" for sort keys %count;

is($node->sql('SELECT op, sqlstate, count(*), min(message) FROM stress.failure GROUP BY 1, 2'), '', 'nothing failed but what may be repeated');
is($node->sql('SELECT DISTINCT error FROM stress.log WHERE error NOT IN (0, 404, 409)'), '', 'no code but 0, 404, 409 in the sessions');
is(join(' ', grep { !/^(0|404|409)$/ } map { $_->{json}{error} } @results), '', 'nor from the workers');
for my $op (qw(import batch))
{
	cmp_ok($count{"$op " . ($op eq 'batch' ? 'updated' : '') . ' 0'} // 0, '>', 100, "$op: there was something to see");
}

# every success adds one to n, and one visit if it has subscriptions
my @done = grep { $_->{json}{error} == 0 } @results;
my $visits = grep { $bodies[ $_->{json}{feedback_id} ] =~ /"subscriptions"/ } @done;
my $logged = $node->row('SELECT sum(n) AS n, sum(visits) AS visits, sum((op = $$insert$$)::int * n) AS inserted, count(*) FILTER (WHERE op = $$delete$$ AND outcome = $$done$$) AS deleted, sum(n) FILTER (WHERE op IN ($$import$$, $$batch$$)) AS imported FROM stress.log');
is($node->sql('SELECT sum((data->>$$n$$)::int) FROM profimport.profile'), $logged->{n} + @done, 'every increment counts, once');
is($node->sql('SELECT sum((custom_fields->>$$visits$$)::int) FROM profimport.subscription'), $logged->{visits} + $visits, 'of subscriptions, too');

# each of them leaves one event of the profile, and nobody takes one twice (event_id is the key of stress.taken)
my $events = $node->row('SELECT count(*) FILTER (WHERE kind = $$profile_created$$) AS created, count(*) FILTER (WHERE kind LIKE $$profile%$$) AS events, count(*) - count(DISTINCT event_id) AS twice FROM (TABLE stress.taken UNION ALL TABLE profimport.trigger_event) e');
is($events->{events}, $logged->{imported} + @done, 'an event of the profile for every success');
is($events->{twice}, 0, 'none handed out and still there');
is($node->sql('SELECT count(*) FROM profimport.profile'), $events->{created} + $logged->{inserted} - $logged->{deleted}, 'as many profiles as were created and not deleted');

# one profile a value
my %unique = (
	email => 'SELECT lower(email) AS v, profile_id FROM profimport.profile WHERE email IS NOT NULL',
	phone => 'SELECT unnest(phones) AS v, profile_id FROM profimport.profile',
	code => 'SELECT data->>$$code$$ AS v, profile_id FROM profimport.profile WHERE data ? $$code$$',
	card => 'SELECT data->>$$card$$ AS v, profile_id FROM profimport.profile WHERE data ? $$card$$',
	label => 'SELECT jsonb_array_elements_text(data->$$labels$$) AS v, profile_id FROM profimport.profile WHERE data ? $$labels$$',
	contact => 'SELECT channel || lower(contact) AS v, profile_id FROM profimport.subscription WHERE channel <> $$viber$$');
for my $kind (sort keys %unique)
{
	is($node->sql("SELECT v, count(*) FROM ($unique{$kind}) u WHERE v <> 'all' GROUP BY v HAVING count(DISTINCT profile_id) > 1"), '', "one profile per $kind");
	cmp_ok($node->sql("SELECT count(*) FROM ($unique{$kind}) u"), '>', 50, "and some with a $kind");
}
is($node->sql('SELECT count(*) FROM profimport.subscription s WHERE NOT EXISTS (SELECT FROM profimport.profile p WHERE p.profile_id = s.profile_id)'), 0, 'no subscription without its profile');
is($node->sql('SELECT profile_id, channel, contact, resource_id FROM profimport.subscription GROUP BY 1, 2, 3, 4 HAVING count(*) > 1'), '', 'no subscription twice');

$node->sql('CREATE SCHEMA iso;' . PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../specs/include/keys.sql"));
is($node->sql('SELECT * FROM iso.wrong_keys() LIMIT 10'), '', 'the keys are what the rows say');

done_testing();
