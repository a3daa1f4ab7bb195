# What an operator reads in the server log: a line for each change, none for each
# attempt, what to do about it, and nothing of the data.  And an extension that
# gets another owner.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

# The server speaks German, as far as its catalogs are installed: nothing may depend on its language.
$ENV{LANGUAGE} = 'de';

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('log');
my $amqp = $broker->client($vhost);
my $relay = ProfImport::Relay->new($broker->port);
my $node = ProfImport::Node->create(
	'log',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	conf => { 'lc_messages' => 'C.UTF-8', 'profimport.reconnect_delay_max' => '100ms' });
my $secret = "topsecret$$";

$node->configure(1, 1, fields => { n => { type => 'int' } });
$node->wait_settled;

sub count_lines
{
	my ($pattern) = @_;

	return scalar(grep { /$pattern/ } split /\n/, slurp_file($node->logfile));
}

my $asked = 0;

sub ask
{
	my (@keys) = @_;

	# A worker that another role replaces may leave results that come twice.
	my $id = 'ask ' . ++$asked;
	$amqp->publish('database_import', message(@keys), correlation_id => $id);
	while (1)
	{
		my ($result) = $amqp->results(1);
		return $result if ($result->{correlation_id} // '') eq $id;
	}
}

# ---- connections

is(count_lines(qr/LOG: .*profimport worker 1 is connected to amqp:/), 1, 'the first connection: a line');
$relay->refuse;
$node->wait_state(qr/backoff/);
# many attempts
my $before = $relay->count;
poll_until { $relay->count >= $before + 10 } 'ten attempts';
is(count_lines(qr/worker 1 can no longer (consume|publish)/), 2, 'a lost connection: a line for each of the two');
my $failures = count_lines(qr/profimport worker 1 cannot (consume|publish)/);
cmp_ok($failures, '<=', 4, 'attempts: a line for each reason');
$relay->pass;
$node->wait_settled;
is(count_lines(qr/LOG: .*profimport worker 1 is connected again to amqp:/), 1, 'connected again: a line');

# ---- a batch that fails for a while

$node->sql('CREATE ROLE importer LOGIN');
$node->sql("SELECT profimport.grant_worker('importer')");
$node->set('profimport.role' => 'importer');
$node->poll('the role', "SELECT usename FROM pg_stat_activity WHERE backend_type = 'profimport worker'", 'importer');
$node->wait_settled;
$node->sql('REVOKE INSERT ON profimport.profile FROM importer');
$amqp->publish('database_import', message(email => "$secret\@example.com"));
$node->wait_state('error');
my $tries = sub { $node->sql("SELECT last_error_at FROM profimport.stat_worker") };
my %seen;
poll_until { $seen{ $tries->() } = 1; keys %seen >= 4 } 'four attempts';
is(count_lines(qr/could not import 1 message yet: permission denied for table profile \(SQLSTATE 42501\)/),
	1, 'a batch that fails: one line, singular');
is(count_lines(qr/DETAIL: +It is tried again\./), 1, 'with a sentence of its own');
is(count_lines(qr/HINT: .*profimport\.grant_worker\(\).*profimport\.check\(\)/), 1, 'and a hint to grant_worker()');
is(count_lines(qr/profimport worker 1 imports again/), 0, 'not yet');
$node->sql("SELECT profimport.grant_worker('importer')");
$amqp->results(1);
$node->wait_settled;
is(count_lines(qr/LOG: .*profimport worker 1 imports again/), 1, 'it works again: one line');

# ---- functions of the user: where it failed, and no data

$node->sql(q{
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE SCHEMA "odd schema";
GRANT USAGE ON SCHEMA "odd schema" TO PUBLIC;
CREATE FUNCTION "odd schema".deny(email text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'no, %', email USING ERRCODE = 'P0007', CONSTRAINT = email;
END $$;
CREATE FUNCTION public.sqlfn(email text) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT email::int';
CREATE FUNCTION public.tells() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.email LIKE '%-deny@%' THEN
		PERFORM "odd schema".deny(NEW.email);
	ELSIF NEW.email LIKE '%-sql@%' THEN
		PERFORM public.sqlfn(NEW.email);
	ELSIF NEW.email LIKE '%-exec@%' THEN
		EXECUTE format(E'SELECT 1 / 0, %L', E' function topsecret(');
	ELSIF NEW.email LIKE '%-missing@%' THEN
		EXECUTE format('SELECT * FROM %I', NEW.email);
	ELSIF NEW.email LIKE '%-sqlmissing@%' THEN
		PERFORM public.lateral_missing(NEW.email);
	END IF;
	RETURN NEW;
END $$;
CREATE FUNCTION public.lateral_missing(email text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS %L', format('SELECT %I', email));
END $$;
CREATE TRIGGER tells BEFORE INSERT ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.tells();
});
# The SQLSTATE, and the innermost function.
for my $case (
	[ deny => 'P0007', 'function "odd schema".deny' ],
	[ sql => '22P02', 'function "sqlfn"' ],
	[ exec => '22012', 'function "public.tells"' ])
{
	my ($how, $sqlstate, $place) = @$case;
	my $result;

	for (1 .. 3)
	{
		$result = ask(email => "$secret-$how\@example.com");
		is($result->{json}{error_text}, "The import failed with SQLSTATE $sqlstate, $place.", "$how: the result tells SQLSTATE and function");
	}
	is(count_lines(qr/LOG: .*answered a message with error 500: The import failed with SQLSTATE $sqlstate, \Q$place\E$/),
		1, "$how: so does the log, once");
	my $session = $node->import(message(email => "$secret-$how\@example.com"));
	# which names are qualified depends on search_path
	s/public\.// for $session->{error_text}, $result->{json}{error_text};
	is($session->{error_text}, $result->{json}{error_text}, "$how: import() in a session says the same");
}
like($node->sql(q{DO $$ BEGIN RAISE NOTICE '%', current_setting('lc_messages'); END $$; SHOW lc_messages}), qr/C\.UTF-8/, 'and leaves its language alone');

# What is retried quotes data in the server's own message.
for my $how (qw(missing sqlmissing))
{
	my $at = $node->sql("SELECT coalesce(max(last_error_at), now()) FROM profimport.stat_worker");
	$amqp->publish('database_import', message(email => "$secret-$how\@example.com"));
	$node->poll("$how: an error", "SELECT last_error_at > '$at' FROM profimport.stat_worker", 't');
	like($node->worker->{last_error}, qr/^SQLSTATE 42/, "$how: last_error has the SQLSTATE alone");
	$amqp->publish('database_import', message(email => "passes.$how\@example.com"));
	$amqp->results(2);
}
$node->wait_settled;
my @leaks = grep { /topsecret/ } split /\n/, slurp_file($node->logfile);
is(join("\n", grep { !/profimport\.import\(|^\s+EXECUTE format/ } @leaks), '', 'no data in the log, but what a session of the test said');

# ---- another owner

$node->sql('DROP TRIGGER tells ON profimport.profile');
$node->set('profimport.role' => undef);
my $owner = $node->sql('SELECT current_user');
$node->poll('the owner', "SELECT usename FROM pg_stat_activity WHERE backend_type = 'profimport worker'", $owner);
$node->wait_settled;
is(count_lines(qr/did not end cleanly/), 0, 'another role: the worker before has ended cleanly');
$node->sql('CREATE ROLE second LOGIN SUPERUSER; CREATE ROLE third LOGIN SUPERUSER');
$node->sql('SET client_min_messages = warning; DROP EXTENSION profimport CASCADE; DROP SCHEMA profimport; SET ROLE second; CREATE EXTENSION profimport');
$node->sql('ALTER ROLE second NOSUPERUSER');
$node->configure(1, 1);
my $result = ask(email => 'owned@example.com', feedback_id => 'second owner');
is("$result->{json}{feedback_id} $result->{json}{error}", 'second owner 0', 'created by another role: a message is imported');
is($node->sql("SELECT usename FROM pg_stat_activity WHERE backend_type = 'profimport worker'"), 'second', 'by a worker that is that role');
# The old role may not write any more, so what is recorded would be sent again.
$node->wait_settled;
$node->poll('no record is left', 'SELECT count(*) FROM profimport.batch', 0);
$node->sql('REASSIGN OWNED BY second TO third');
$result = ask(email => 'owned@example.com', feedback_id => 'third owner');
is("$result->{json}{feedback_id} $result->{json}{error}", 'third owner 0', 'reassigned: a message is imported');
is($node->sql("SELECT usename FROM pg_stat_activity WHERE backend_type = 'profimport worker'"), 'third', 'by the new owner');
$node->wait_settled;
is(count_lines(qr/PANIC|TRAP/), 0, 'nothing went wrong');

done_testing();
