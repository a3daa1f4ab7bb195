# What becomes of a batch that does not go through as it is.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::CrashBuild;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('batch');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'batch',
	url => $broker->url($vhost),
	install_path => ProfImport::CrashBuild->install,
	conf => { 'deadlock_timeout' => '2s', 'profimport.crash_point' => '', 'profimport.reconnect_delay_max' => '200ms' });

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

# Publishes while the worker is away, so that it finds one batch.
sub publish_at_once
{
	my (@messages) = @_;

	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled');
	$amqp->publish_many('database_import', \@messages);
	$node->set('profimport.enabled' => undef);
	return;
}

sub numbered
{
	my ($n, %keys) = @_;

	return map { +{ body => message(email => "n$_\@example.com", feedback_id => "$_", %keys) } } 1 .. $n;
}

# Without showing the whole log when it is not as expected.
sub logged
{
	my ($pattern) = @_;
	my $count = () = slurp_file($node->logfile) =~ /$pattern/g;

	return $count;
}

# By feedback_id.  A result of now or of earlier may come twice when its worker
# dies, but then under the message_id it had.
my %seen;

sub results_of
{
	my ($n, %options) = @_;
	my %by_id;

	while (keys %by_id < $n)
	{
		for my $r ($amqp->results($n - keys %by_id, %options))
		{
			$by_id{ $r->{json}{feedback_id} } = $r unless $seen{ $r->{message_id} }++;
		}
	}
	return \%by_id;
}

# ---- a trigger of the user that raises for one message in the middle

$node->sql(q{
	CREATE FUNCTION public.no13() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.email = 'n13@example.com' THEN
			RAISE EXCEPTION 'the secret of %', NEW.email;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER no13 BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.no13()});
my $batches = $node->worker->{batches};
publish_at_once(numbered(100));
my $results = results_of(100);
is($results->{13}{json}{error}, 500, 'a trigger raises: 500 for that message');
like($results->{13}{json}{error_text}, qr/P0001.*no13/, 'which names SQLSTATE and function');
is(scalar(grep { $_->{json}{error} } values %$results), 1, 'and nobody else');
is($node->sql('SELECT error, sqlstate, feedback_id FROM profimport.import_error'), '500|P0001|13', 'kept in import_error');
my $headers = $node->row('SELECT headers FROM profimport.import_error')->{headers};
is($headers->{delivery_mode}, 2, 'with its properties');
is(logged(qr/secret of n13/), 0, 'nothing of it in the server log');
$node->sql('DROP TRIGGER no13 ON profimport.profile');

# ---- a trigger that raises at commit

$node->sql(q{
	CREATE OR REPLACE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.email = 'n7@example.com' THEN
			RAISE EXCEPTION 'too late';
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON profimport.profile DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION public.late()});
publish_at_once(numbered(20, data => { _city => 'late' }));
$results = results_of(20);
is_json([ map { $_->{json}{feedback_id} } grep { $_->{json}{error} == 500 } values %$results ],
	['7'], 'a deferred trigger raises: 500 for that message, and nobody else');
$node->sql('DROP TRIGGER late ON profimport.profile');

# ---- transient trouble: a lock held by an application, shorter than batch_timeout

my $application = $node->background_psql('postgres');

$application->query_safe("BEGIN; SELECT 1 FROM profimport.profile WHERE email = 'n5\@example.com' FOR UPDATE");
$amqp->publish_many('database_import', [ numbered(10, data => { _city => 'locked' }) ]);
$node->poll('the worker waits for the lock',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'", 1);
$application->query_safe('COMMIT');
$results = results_of(10);
is(scalar(grep { $_->{json}{error} } values %$results), 0, 'a lock held for a moment: all imported');

# ---- longer than batch_timeout: only the message that waits is held up, and
# answered 500 in the end

$node->set('profimport.batch_timeout' => '500ms');
$application->query_safe("BEGIN; SELECT 1 FROM profimport.profile WHERE email = 'n5\@example.com' FOR UPDATE");
publish_at_once(numbered(10, data => { _city => 'locked for long' }));
$results = results_of(10);
is($results->{5}{json}{error}, 500, 'a lock held for long: 500 for that message');
like($results->{5}{json}{error_text}, qr/57014/, 'because it was cancelled');
is(scalar(grep { $_->{json}{error} } values %$results), 1, 'and nobody else');
$application->query_safe('COMMIT');
$node->set('profimport.batch_timeout' => undef);

# ---- deadlocks with an application that updates the same profiles

# one batch of all twenty, or the worker would hold nothing the application wants
$node->set('profimport.batch_size' => 20, 'profimport.batch_delay' => '30s');
$application->query_safe("SET deadlock_timeout = '10s'; BEGIN; UPDATE profimport.profile SET data = data || '{\"_city\": \"app\"}' WHERE email = 'n20\@example.com'");
publish_at_once(numbered(20, data => { _region => 'dead' }));
$node->poll('the worker waits for the lock',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event = 'transactionid'", 1);
$application->query_safe("UPDATE profimport.profile SET data = data || '{\"_city\": \"app\"}' WHERE email = 'n1\@example.com'; COMMIT");
$results = results_of(20);
is(scalar(grep { $_->{json}{error} } values %$results), 0, 'a deadlock: all imported');
is($node->sql("SELECT count(*) FROM profimport.profile WHERE data->>'_region' = 'dead'"), 20, 'each of them');
cmp_ok(logged(qr/deadlock detected/), '>', 0, 'there was one');
$node->set('profimport.batch_size' => undef, 'profimport.batch_delay' => undef);

# ---- a missing object hits everybody: nothing is answered, the state says so

$node->sql('ALTER TABLE profimport.import_error RENAME TO import_error_away');
publish_at_once({ body => 'not JSON', correlation_id => 'bad' }, numbered(3));
$node->wait_state('error');
like($node->worker->{last_error}, qr/import_error.*does not exist/, 'last_error tells what is missing');
is(scalar($amqp->drain('database_import_result', quiet => 0.5)), 0, 'no result meanwhile');
$node->sql('ALTER TABLE profimport.import_error_away RENAME TO import_error');
is_json([ sort map { $_->{json}{error} } values %{ results_of(4) } ], [ 0, 0, 0, 400 ], 'mended: all are answered');

# ---- a message that needs what is missing, while others do not: it is to blame

$node->sql(q{
	CREATE OR REPLACE FUNCTION public.no13() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.email = 'n13@example.com' THEN
			PERFORM public.no_such_function();
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER no13 BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.no13()});
$amqp->publish('database_import', message(email => 'n13@example.com', feedback_id => 'lonely', data => { _city => 'x' }));
$node->wait_state('error');
$amqp->publish('database_import', message(email => 'n14@example.com', feedback_id => 'passes', data => { _city => 'x' }));
$results = results_of(2);
is($results->{lonely}{json}{error}, 500, 'a missing function: 500 once another message passes');
is($results->{passes}{json}{error}, 0, 'which it does');
$node->sql('DROP TRIGGER no13 ON profimport.profile');
$node->wait_settled;

# ---- a message that kills its worker: at the third death it is answered

my $poison = message(email => 'n50@example.com', feedback_id => '50', data => { _lname => 'POISON' });
$node->set('profimport.crash_point' => 'body=POISON kill');
my @messages = numbered(100, data => { _lname => 'x' });
$messages[49] = { body => $poison };
$amqp->publish_many('database_import', \@messages);
$results = results_of(100);
is($results->{50}{json}{error}, 500, 'poison: 500');
is(scalar(grep { $_->{json}{error} } values %$results), 1, 'and nobody else');
$node->poll('a server that answers', 'SELECT 1', 1);
is($node->sql("SELECT count(*) FROM profimport.import_error WHERE feedback_id = '50' AND sqlstate = '57P02'"),
	1, 'kept in import_error');
is(logged(qr/was terminated by signal 9/), 3, 'three workers died of it');
$node->wait_settled;
is($node->sql('SELECT count(*) FROM profimport.attempt'), 0, 'nothing of it is left');
$node->set('profimport.crash_point' => '');

# ---- a worker that ended cleanly leaves nothing to be careful about

my $careful = logged(qr/did not end cleanly/);
$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
is($node->sql('SELECT running FROM profimport.worker_run'), 'f', 'a clean end is noted');
$node->set('profimport.enabled' => undef);
$node->wait_state('idle');
is(logged(qr/did not end cleanly/), $careful, 'and seen');

# ---- one message after the other, each when the one before is answered: records are forgotten many at once, but in time

my $session = $node->background_psql('postgres');
my ($most, $batches_before) = (0, $node->worker->{batches});
for my $i (1 .. 400)
{
	$amqp->publish('database_import', message(email => 'line@example.com', feedback_id => "line $i"));
	results_of(1);
	next if $i % 10;
	my $count = $session->query_safe('SELECT count(*) FROM profimport.batch');
	$most = $count if $count > $most;
}
$session->quit;
is($node->worker->{batches} - $batches_before, 400, 'a batch for each');
cmp_ok($most, '<=', 80, 'of which few are remembered at any time');
$node->poll('and none when nothing comes any more', 'SELECT count(*) FROM profimport.batch', 0);

$application->quit;
done_testing();
