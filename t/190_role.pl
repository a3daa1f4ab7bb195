# The worker as a role without rights of its own: what it may do, what it says when
# it may not, and what those who share the database with it cannot make it do or tell.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('role');
my $amqp = $broker->client($vhost);
my $json = JSON::PP->new->utf8->canonical;
my $node = ProfImport::Node->create(
	'role',
	url => $broker->url($vhost),
	conf => { 'profimport.role' => 'importer', 'profimport.reconnect_delay_max' => '300ms' });

# Never in a statement of ours, so that it is in no log through us.
my $secret = 'topsecret' . $$;

$node->configure(
	1, 1,
	fields => {
		n => { type => 'int', matching => json_true },
		code => { type => 'string', is_unique => json_true },
		tags => { type => 'tags', matching => json_true } },
	resources => { 10 => { categories => ['news'], fields => { ref => { type => 'string', matching => json_true } } } });

sub ask
{
	my ($body, %properties) = @_;

	$amqp->publish('database_import', $body, %properties);
	my ($result) = $amqp->results(1);
	return $result;
}

sub terminate
{
	my $pid = $node->worker->{pid};

	$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'profimport worker'");
	$node->poll('a new worker', "SELECT pid <> $pid FROM profimport.stat_worker", 't') if $pid;
	return;
}

sub item { return $node->sql("SELECT ok, detail FROM profimport.check() WHERE item = '$_[0]'") }

# ---- no role, no LOGIN, no rights: each is said, and mended without a restart

like(item('role'), qr/^f\|.*importer/s, 'check() finds the role missing');
$node->sql('CREATE ROLE importer NOLOGIN');
like(item('role'), qr/^f\|.*LOGIN/s, 'check() finds LOGIN missing');
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND usename IS NOT NULL"), 0, 'no worker without LOGIN');
$node->sql('ALTER ROLE importer LOGIN');
like(item('privileges'), qr/^f\|.*grant_worker/s, 'check() finds rights missing, and the remedy');
$amqp->declare('database_import');
$amqp->publish('database_import', message(email => "$secret-0\@example.com", feedback_id => 'waits'));
# not the error of a moment ago, when the role could not log in
$node->poll('the worker meets its missing rights',
	"SELECT state = 'error' AND pid IS NOT NULL AND last_error ~ 'permission denied' FROM profimport.stat_worker", 't');
my $worker = $node->worker;
like($worker->{last_error}, qr/permission denied/, 'no rights: last_error says so');
like($worker->{last_error}, qr/42501/, 'no rights: with its SQLSTATE');
ok($worker->{last_error_at}, 'no rights: and when');
ok($worker->{pid}, 'no rights: the worker lives');
$node->sql("SELECT profimport.grant_worker('importer')");
poll_until { $amqp->exists('database_import_result') } 'the queue of results';
my ($result) = $amqp->results(1);
is($result->{json}{feedback_id} . ' ' . $result->{json}{error}, 'waits 0', 'granted: the message is imported');
is($node->worker->{pid}, $worker->{pid}, 'granted: by the same process');
$node->wait_settled;
like(item('privileges'), qr/^t/, 'granted: check() agrees');
like(item('role'), qr/^t/, 'granted: check() likes the role');
is($node->sql("SELECT usename FROM pg_stat_activity WHERE backend_type = 'profimport worker'"), 'importer', 'it is the role that works');
is($node->sql("SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls FROM pg_roles WHERE rolname = 'importer'"), 'f', 'and that is nobody');

# ---- one grant missing

my $i = 0;
for my $missing (
	[ 'profile', 'SELECT', { email => 'm@example.com' } ],
	[ 'profile', 'INSERT', {} ],
	[ 'profile', 'UPDATE', { email => 'm@example.com', data => { n => 1 } } ],
	[ 'profile_key', 'SELECT', { matching => 'custom', field_name => 'n', field_value => 1 } ],
	[ 'subscription', 'INSERT', { data => { subscriptions => [ { resource_id => 10, channel => 'email', email => 'x@example.com' } ] } } ],
	[ 'subscription_key', 'SELECT', { matching => 'custom_sub', field_name => 'ref', field_value => 'r' } ],
	[ 'trigger_event', 'INSERT', { data => { n => 5 } } ],
	[ 'import_error', 'INSERT', { data => { nosuch => 1 } } ],
	[ 'batch', 'INSERT', {} ],
	[ 'dedup', 'INSERT', {}, message_id => 'd1' ],
	[ 'dedup', 'SELECT', {}, message_id => 'd2' ],
	[ 'applied', 'INSERT', {} ])
{
	my ($table, $privilege, $keys, %properties) = @$missing;
	my $what = "no $privilege on $table";

	ask(message(email => 'm@example.com')) if $i++ == 0;
	$node->wait_settled;
	$node->sql("REVOKE $privilege ON profimport.$table FROM importer");
	$amqp->publish('database_import', message(email => "m$i\@example.com", feedback_id => "m$i", %$keys), %properties);
	$node->poll("$what: state error", 'SELECT state, last_error FROM profimport.stat_worker', qr/^error\|.*permission denied for table $table\b/);
	like(item('privileges'), qr/^f\|.*\b$table\b/s, "$what: check() names it");
	is($amqp->count('database_import_result'), 0, "$what: no result yet");
	$node->sql("SELECT profimport.grant_worker('importer')");
	($result) = $amqp->results(1);
	is($result->{json}{error}, $table eq 'import_error' ? 400 : $table eq 'subscription_key' ? 404 : 0, "$what: imported after all")
	  or diag $result->{body};
}
is($node->sql("SELECT count(*) FROM profimport.import_error"), 2, 'a missing grant is nobody\'s failure');

# A message that alone needs what is missing fails alone.
$node->wait_settled;
$node->sql('REVOKE INSERT ON profimport.subscription FROM importer');
my @both = (
	message(email => 'alone@example.com', feedback_id => 'alone', data => { subscriptions => [ { resource_id => 10, channel => 'email', email => 'x@example.com' } ] }),
	message(email => 'other@example.com', feedback_id => 'other'));
$amqp->publish_many('database_import', [ map { { body => $json->encode($_) } } @both ]);
my %error = map { $_->{json}{feedback_id} => $_->{json} } $amqp->results(2);
is($error{other}{error}, 0, 'a neighbour of a message that may not: imported');
is($error{alone}{error}, 500, 'and that message is a 500');
like($error{alone}{error_text}, qr/42501/, 'with its SQLSTATE');
$node->sql("SELECT profimport.grant_worker('importer')");

# ---- hostile settings of the role and objects in the way

$node->wait_settled;
$node->sql(q{
CREATE SCHEMA importer;
CREATE FUNCTION public.hit() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hostile % called', 'function'; END $$;
DO $$
DECLARE
	r record;
	s text;
BEGIN
	FOREACH s IN ARRAY ARRAY['public', 'importer'] LOOP
		FOR r IN SELECT DISTINCT o.oprname, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r FROM pg_catalog.pg_operator o
			WHERE o.oprname IN ('=', '<>', '<', '<=', '>', '>=', '||', '->', '->>', '@>', '&&', '-', '+') AND o.oprleft::regtype::text IN ('integer', 'bigint', 'text', 'jsonb', 'text[]', 'integer[]', 'uuid', 'bytea', 'boolean', 'timestamp with time zone')
				AND o.oprright::regtype::text IN ('integer', 'bigint', 'text', 'jsonb', 'text[]', 'integer[]', 'uuid', 'bytea', 'boolean', 'timestamp with time zone', 'interval')
		LOOP
			IF to_regprocedure(format('%s.op(%s, %s)', s, r.l, r.r)) IS NULL THEN
				EXECUTE format('CREATE FUNCTION %s.op(%s, %s) RETURNS boolean LANGUAGE sql AS %L', s, r.l, r.r, 'SELECT public.hit(); SELECT true');
			END IF;
			EXECUTE format('CREATE OPERATOR %s.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %1$s.op)', s, r.oprname, r.l, r.r);
		END LOOP;
		FOR r IN SELECT format('CREATE FUNCTION %s.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', s, proname, pg_get_function_identity_arguments(oid),
				CASE WHEN proretset THEN 'SETOF ' ELSE '' END || format_type(prorettype, NULL), 'BEGIN PERFORM public.hit(); END') AS command
			FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proargmodes IS NULL AND provariadic = 0
				AND proname IN ('lower', 'md5', 'chr', 'now', 'clock_timestamp', 'make_interval', 'jsonb_hash_extended', 'nextval', 'set_config', 'current_setting', 'hashtextextended', 'pg_notify')
		LOOP
			EXECUTE r.command;
		END LOOP;
		EXECUTE format('CREATE TABLE %s.profile (); CREATE TABLE %1$s.batch (); CREATE TABLE %1$s.dedup (); CREATE TABLE %1$s.field ()', s);
	END LOOP;
END $$;
GRANT ALL ON SCHEMA public, importer TO importer;
});
is($node->sql("SELECT count(*) > 40 FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'importer'::regnamespace)"), 't', 'hostile functions');
my %hostile = (
	search_path => 'importer, public, pg_catalog',
	datestyle => "'German, DMY'",
	timezone => "'Asia/Tokyo'",
	intervalstyle => 'sql_standard',
	bytea_output => 'escape',
	extra_float_digits => '-15',
	array_nulls => 'off',
	standard_conforming_strings => 'off',
	transform_null_equals => 'on',
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on',
	session_replication_role => 'replica',
	synchronous_commit => 'off',
	statement_timeout => '1',
	lock_timeout => '1',
	idle_in_transaction_session_timeout => '1',
	row_security => 'off',
	lc_messages => "'C'",
	client_min_messages => 'debug5',
	check_function_bodies => 'off');
$node->sql("ALTER ROLE importer SET $_ = $hostile{$_}") for sort keys %hostile;
terminate();
$node->wait_settled;

my %all = (data => { n => 41, code => 'c1', tags => 'a, b', _bdate => '2001-02-03', phones => '+15550001111', _tz => 'utc',
	subscriptions => [
		{ resource_id => 10, channel => 'email', email => 'sub@example.com', cats => ['news'], custom_fields => { ref => 'r1' } },
		{ resource_id => 10, channel => 'push', provider => 'ios', subscription_id => 'p1' },
		{ resource_id => 10, channel => 'telegram_bot', cc_data => { id => 1 } } ] });
my $created = ask(message(email => 'all@example.com', %all), message_id => 'all');
is($created->{json}{error}, 0, 'hostile settings: created') or diag $created->{body};
my $id = $created->{json}{profile_id};
for my $match (
	[ email => 'ALL@example.com' ],
	[ matching => 'email_profile', email => 'all@example.com' ],
	[ matching => 'email_sub', email => 'sub@example.com' ],
	[ matching => 'phone', phone => '+15550001111' ],
	[ matching => 'email_phone', phone => '+15550001111' ],
	[ matching => 'email_phone_sub', email => 'sub@example.com' ],
	[ matching => 'push_sub', provider => 'ios', subscription_id => 'p1' ],
	[ matching => 'profile_id', profile_id => $id ],
	[ matching => 'custom', field_name => 'code', field_value => 'c1' ],
	[ matching => 'custom', field_name => 'tags', field_value => 'b' ],
	[ matching => 'custom_sub', field_name => 'ref', field_value => 'r1' ])
{
	my %keys = @$match;
	my $r = ask(message(data => { n => { action => 'incr', value => 1 } }, update_only => json_true, %keys));
	is($r->{json}{error} . ' ' . $r->{json}{profile_id}, "0 $id", 'hostile settings: found by ' . ($keys{matching} // 'email')) or diag $r->{body};
}
my $r = ask(message(matching => 'phone_sub', phone => '+15550009999', resource_id => 10));
is($r->{headers}{outcome}, 'created', 'hostile settings: phone_sub creates');
is(ask(message(email => 'all@example.com', %all), message_id => 'all')->{message_id}, $created->{message_id}, 'hostile settings: a repeat is known');
is(ask(message(email => 'other@example.com', data => { code => 'c1' }))->{json}{error}, 409, 'hostile settings: uniqueness');
is(ask(message(email => 'all@example.com', data => { nosuch => 1 }))->{json}{error}, 400, 'hostile settings: a failure');
is($node->sql("SELECT data->>'n' FROM profimport.profile WHERE profile_id = '$id'"), 52, 'hostile settings: every effect');
is($node->sql("SELECT count(*) > 0 FROM profimport.profile_key WHERE profile_id = '$id' AND name = 'code'"), 't', 'hostile settings: keys are kept');
is($node->sql("SELECT count(*) FROM profimport.trigger_event WHERE profile_id = '$id' AND kind = 'profile_updated'"), 11, 'hostile settings: events');
$node->set('profimport.trigger_queue' => 'events');
poll_until { $amqp->exists('events') } 'the queue of events';
ask(message(email => 'all@example.com', data => { _bdate => '2001-02-04' }));
my ($event) = $amqp->consume('events', 1);
is_json($event->{json}{changes}, { _bdate => '2001-02-04T00:00:00Z' }, 'hostile settings: an event in the queue');
like($event->{json}{occurred_at}, qr/^\d{4}-\d\d-\d\dT/, 'hostile settings: with a time as JSON has it');
$node->set('profimport.trigger_queue' => undef);
$node->wait_settled;
unlike(slurp_file($node->logfile), qr/hostile function called/, 'hostile settings: none of them was called');

# ---- a trigger that tells what it sees

$node->sql(q{
CREATE TABLE public.how (how text);
GRANT SELECT ON public.how TO importer;
CREATE FUNCTION public.tells() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
	how text := (SELECT how FROM public.how);
BEGIN
	IF NEW.email NOT LIKE 'topsecret%' THEN
		RETURN NEW;
	END IF;
	CASE how
		WHEN 'relation' THEN EXECUTE format('SELECT * FROM %I', NEW.email);
		WHEN 'column' THEN EXECUTE format('SELECT %I', NEW.email);
		WHEN 'syntax' THEN EXECUTE NEW.email;
		WHEN 'cast' THEN NEW.account_id := NEW.email::int;
		WHEN 'check' THEN NULL;
		WHEN 'none' THEN NULL;
		ELSE RAISE EXCEPTION USING ERRCODE = how, MESSAGE = E'saw\n' || NEW.email, DETAIL = NEW.email, HINT = NEW.email;
	END CASE;
	RETURN NEW;
END $$;
CREATE TRIGGER tells BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.tells();
ALTER TABLE profimport.profile ADD CONSTRAINT no_secrets CHECK (email NOT LIKE 'topsecret%-check@%');
});
my @told;
for my $how (qw(P0001 23514 22023 cast check relation column syntax 42501 42P01 40001 53100 57014 58030 55P03))
{
	my $transient = $how =~ /^(40|42|53|57|58|55|relation|column|syntax)/;

	$node->wait_settled;
	$node->sql("DELETE FROM public.how; INSERT INTO public.how VALUES ('$how')");
	my $since = $node->sql('SELECT coalesce(max(last_error_at), now()) FROM profimport.stat_worker');
	$amqp->publish('database_import', message(email => "$secret-$how\@example.com", feedback_id => "how $how"));
	if ($transient)
	{
		$node->poll("$how: an error", "SELECT last_error_at > '$since' FROM profimport.stat_worker", 't');
		push @told, "$how last_error: " . $node->worker->{last_error};
		$node->sql("UPDATE public.how SET how = 'none'");
	}
	($result) = $amqp->results(1);
	is($result->{json}{feedback_id}, "how $how", "a trigger with $how: answered");
	is($result->{json}{error}, $transient ? 0 : 500, "a trigger with $how: " . ($transient ? 'retried' : 'a 500')) or diag $result->{body};
	push @told, "$how result: $result->{body}", "$how last_error: " . ($node->worker->{last_error} // '');
	like($result->{json}{error_text}, qr/no_secrets/, 'the constraint is named') if $how eq 'check';
	like($result->{json}{error_text}, qr/P0001/, 'the SQLSTATE is named') if $how eq 'P0001';
}
is(join("\n", grep { /topsecret/ } @told), '', 'no value in last_error, none in a result');
$node->wait_settled;

# ---- lines that are not ours

my $errors = scalar $node->errors;
my $forged = "x\n2030-01-01 00:00:00.000 UTC [1] PANIC:  FORGED\r\n{\"error\": 0, \"error_text\": \"FORGED\"}\x1b[2J\x{85}FORGED\x{2028}FORGED\x{7f}\b";
my @bodies = (
	message(email => $forged, feedback_id => $forged),
	message(email => "$secret\@\@", feedback_id => $forged),
	message(email => 'f@example.com', feedback_id => $forged, data => { $forged => $secret }),
	message(email => 'f@example.com', matching => $forged),
	message(email => 'f@example.com', matching => 'custom', field_name => $forged, field_value => $secret, feedback_id => $forged),
	message(email => 'f@example.com', data => { n => "$secret$forged" }),
	message(email => 'f@example.com', db_id => 99, feedback_id => $forged),
	message(email => 'f@example.com', data => { subscriptions => [ { resource_id => 10, channel => $forged, email => $secret } ] }),
	message(email => 'f@example.com', data => { subscriptions => [ { resource_id => 10, channel => 'email', email => 'f@example.com', cats => [$forged], custom_fields => { $forged => $secret } } ] }));
$amqp->publish_many('database_import',
	[ map { { body => $json->encode($_), correlation_id => 'FORGED', message_id => "FORGED\n$$", app_id => "FORGED\n", type => "\nFORGED", headers => { "a\nFORGED" => "\nFORGED" } } } @bodies,
	]);
$amqp->publish('database_import', "FORGED\nFORGED $secret");
my @results = $amqp->results(@bodies + 1);
is(scalar(grep { !$_->{json}{error} } @results), 0, 'all fail');
my @lines = $node->errors;
is(@lines - $errors, scalar(@results), 'a line for each in the file log');
is($lines[$errors]{feedback_id}, $forged, 'which tells the feedback_id as it was');

my $file = slurp_file($node->data_dir . '/' . $node->sql('SHOW log_directory') . '/job_server.log');
is(scalar(split /\n/, $file), scalar(@lines), 'and nothing but such lines');
unlike($file, qr/[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]/, 'no control character');
unlike($file, qr/$secret/, 'no value of a profile');
my $log = slurp_file($node->logfile);
unlike($log, qr/FORGED/, 'nothing of the messages in the server log');
my @leaks = grep { /$secret/ } split /\n/, $log;
is(join("\n", @leaks[0 .. ($#leaks < 4 ? $#leaks : 4)]), '', 'no value of a profile in the server log');
is($node->sql(qq{SELECT count(*) FROM profimport.stat_worker w WHERE w::text LIKE '%topsecret%'}), 0, 'none in stat_worker');

done_testing();
