# A worker that cannot go on for long gives its deliveries back, and takes them
# again when it can.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::CrashBuild;
use ProfImport::Test;

my $broker = ProfImport::Broker->private('patience');
my $vhost = $broker->new_vhost('patience');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'patience',
	url => $broker->url($vhost),
	install_path => ProfImport::CrashBuild->install,
	conf => { 'profimport.crash_point' => '', 'profimport.reconnect_delay_max' => '300ms', 'profimport.batch_size' => 10 });

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

my $add = { points => { action => 'incr', value => 1 } };
my $sum = 0;
my $round = 0;

sub publish
{
	my ($n) = @_;

	# None equals an earlier one: given back, they come flagged redelivered.
	$round++;
	$amqp->publish_many('database_import',
		[ map { +{ body => message(email => "n$_\@example.com", feedback_id => "$round-$_", data => $add) } } 1 .. $n ]);
	$sum += $n;
	return;
}

sub is_sum
{
	my ($what) = @_;

	return is($node->sql("SELECT sum((data->>'points')::int) FROM profimport.profile"), $sum, "$what: every effect once");
}

sub wait_given_back
{
	my ($what, $n) = @_;

	poll_until {
		my ($queue) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
		($queue->{messages_ready} == $n && $queue->{messages_unacknowledged} == 0 && $queue->{consumers} == 0,
			"$queue->{messages_ready} ready, $queue->{messages_unacknowledged} held, $queue->{consumers} consumers");
	} "$what: deliveries given back";
	return;
}

publish(1);
$amqp->results(1);

# ---- a table is locked for long: nobody's fault, retried

my $application = $node->background_psql('postgres');
$node->set('profimport.batch_timeout' => '300ms');
$application->query_safe('BEGIN; LOCK TABLE profimport.batch IN ACCESS EXCLUSIVE MODE');
publish(5);
# The wait is for the record, not for a message, so none is to blame.
$node->wait_state(qr/importing|backoff/);
$application->query_safe('COMMIT');
is(scalar(grep { $_->{json}{error} } $amqp->results(5)), 0, 'a lock on the record: no message is to blame');
is_sum('a lock on the record');
$node->set('profimport.batch_timeout' => undef);

# ---- a transient failure that lasts

$node->sql(q{
	CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'secret' USING ERRCODE = 'disk_full';
	END $$;
	CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.full()});
publish(25);
$node->wait_state('backoff');
wait_given_back('a full disk', 25);
is($node->worker->{state}, 'backoff', 'a full disk: the state says so');
like($node->worker->{last_error}, qr/53100/, 'a full disk: last_error tells');
unlike($node->worker->{last_error}, qr/secret/, 'but not what a function says');
is($node->sql("SELECT count(*) FROM profimport.import_error"), 0, 'a full disk: no message failed');
$node->sql('DROP TRIGGER full_disk ON profimport.profile');
is(scalar(grep { $_->{json}{error} } $amqp->results(25)), 0, 'a full disk: all imported when there is room again');
is_sum('a full disk');
$node->wait_settled;

# ---- what fails for all, given back; a message that passes shows who is to blame

$node->sql(q{
	CREATE FUNCTION public.hits_one() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.email = 'n1@example.com' THEN
			PERFORM public.no_such_function();
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER hits_one BEFORE INSERT OR UPDATE ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.hits_one()});
publish(1);
$node->wait_state('error');
wait_given_back('a missing function', 1);
is($node->worker->{state}, 'error', 'a missing function: the state says so');
$amqp->publish('database_import', message(email => 'n2@example.com', feedback_id => 'passes', data => $add));
my %results = map { $_->{json}{feedback_id} => $_->{json}{error} } $amqp->results(2);
is_json(\%results, { "$round-1" => 500, passes => 0 }, 'a missing function: 500 once the consumer looks again and another passes');
# one more and one less
is_sum('a missing function');
$node->sql('DROP TRIGGER hits_one ON profimport.profile');
$node->wait_settled;

# ---- too many results wait

$node->set('profimport.enabled' => 'off', 'profimport.batch_size' => 1);
$node->wait_state('disabled');
publish(150);
$broker->memory_alarm(1);
$node->set('profimport.enabled' => undef);
$node->wait_state('paused');
cmp_ok($node->worker->{results_pending}, '>=', 100, 'a blocked broker: 100 batches of results wait');
cmp_ok($node->worker->{results_pending}, '<', 110, 'and not many more');
wait_given_back('a blocked broker', 150 - $node->worker->{results_pending});
is($node->sql('SELECT blocked FROM profimport.stat_worker'), 't', 'a blocked broker: stat_worker says so');
$broker->memory_alarm(0);
is(scalar(grep { $_->{json}{error} } $amqp->results(150)), 0, 'a blocked broker: all answered in the end');
is_sum('a blocked broker');
$node->wait_settled;

# ---- results of workers that are not wanted any more

$node->set('profimport.enabled' => 'off', 'profimport.batch_size' => 10, 'profimport.workers' => 3);
$node->wait_state('disabled');
publish(200);
$broker->memory_alarm(1);
$node->set('profimport.enabled' => undef);
$node->poll('all imported while nothing can be sent', 'SELECT results_pending FROM profimport.status', 200);
cmp_ok($node->sql('SELECT count(*) FROM profimport.stat_worker WHERE results_pending > 0'), '>', 1, 'several workers have results');
$node->set('profimport.workers' => 1);
$node->poll('one worker', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'", 1);
$broker->memory_alarm(0);
# What was under way when its worker ended may come twice, under one message_id.
my (%sent, %told);
poll_until {
	for my $r ($amqp->drain('database_import_result', quiet => 0.3))
	{
		$told{ $r->{json}{feedback_id} } = $r->{json}{error};
		$sent{ $r->{message_id} } = 1;
	}
	(keys %told >= 200, scalar(keys %told) . ' of 200 answered');
} 'results of workers that are gone';
$node->wait_settled;
$sent{ $_->{message_id} } = 1 for $amqp->drain('database_import_result', quiet => 0.3);
is(scalar(keys %sent), 200, 'fewer workers: the others send their results, each under one message_id');
is_sum('fewer workers');

$application->quit;
done_testing();
