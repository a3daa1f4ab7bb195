# The worker and the database: an extension that is not there yet, goes and
# comes back; databases and servers that are not held up.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;
use Time::HiRes qw(time);

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('absence');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('absence', url => $broker->url($vhost), extension => 0);

# How long something takes, in seconds.
sub seconds
{
	my ($code) = @_;
	my $start = time;

	$code->();
	return time - $start;
}

# ---- not there yet

sub process_state
{
	return $node->sql("SELECT state FROM pg_stat_activity WHERE backend_type = 'profimport worker'");
}
$node->poll('a worker', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'", 1);
is($node->sql("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'profimport worker'"),
	0, 'absent: the worker holds no lock');
is($amqp->exists('database_import') ? 1 : 0, 0, 'absent: no queue was declared');
$amqp->declare('database_import');
$amqp->publish('database_import', message(email => 'a@example.com', feedback_id => 'early'));
is($amqp->count('database_import'), 1, 'absent: a message waits');

$node->sql('CREATE EXTENSION profimport');
$node->configure(1, 1);
my ($r) = $amqp->results(1);
is($r->{json}{feedback_id}, 'early', 'there: the message is imported');
$node->wait_settled;
is(process_state(), 'idle', 'idle, not in a transaction');
is($node->sql("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'profimport worker'"),
	0, 'idle: no lock');

# ---- goes and comes back

cmp_ok(seconds(sub { $node->sql('DROP EXTENSION profimport CASCADE') }), '<', 2, 'DROP EXTENSION is not held up');
$amqp->publish('database_import', message(email => 'b@example.com', feedback_id => 'between'));
poll_until {
	my ($queue) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
	($queue->{messages_ready} == 1, "$queue->{messages_ready} ready, $queue->{messages_unacknowledged} held");
} 'dropped: the message was given back';
$node->sql('CREATE EXTENSION profimport');
$node->configure(1, 1);
($r) = $amqp->results(1);
is($r->{json}{feedback_id}, 'between', 'created again: the message is imported');
is($r->{json}{error}, 0, 'into the new tables');
is($node->sql('SELECT count(*) FROM profimport.profile'), 1, 'one profile there');

# Dropped and created between two messages: the worker must not notice only
# half of it.
$node->wait_settled;
$node->sql("DROP EXTENSION profimport CASCADE");
$node->sql("CREATE EXTENSION profimport");
$node->configure(1, 1);
$amqp->publish('database_import', message(email => "c$_\@example.com", feedback_id => "anew $_")) for 1 .. 3;
my @results = $amqp->results(3);
is_json([ sort map { $_->{json}{feedback_id} } @results ], [ 'anew 1', 'anew 2', 'anew 3' ], 'replaced: imported');
$node->wait_settled;
$node->poll('an empty journal', 'SELECT count(*) FROM profimport.batch', 0);
is(scalar($amqp->drain('database_import_result', quiet => 0.3)), 0, 'replaced: no result twice');

# ---- others are not held up while it is idle

$node->sql('CREATE DATABASE other');
cmp_ok(seconds(sub { $node->sql('DROP DATABASE other') }), '<', 2, 'DROP DATABASE of another one is not held up');
cmp_ok(
	seconds(sub { $node->sql('BEGIN; LOCK TABLE profimport.profile, profimport.batch IN ACCESS EXCLUSIVE MODE; COMMIT') }),
	'<', 2, 'nor is a lock on its tables');

# ---- in states in which it might hang

sub quick
{
	my ($what) = @_;

	$node->sql('CREATE DATABASE other');
	cmp_ok(seconds(sub { $node->sql('DROP DATABASE other') }), '<', 2, "$what: DROP DATABASE is not held up");
	my $pid = $node->worker->{pid};
	cmp_ok(
		seconds(
			sub {
				$node->sql("SELECT pg_terminate_backend($pid)");
				$node->poll("$what: the end of the worker", "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 0);
			}),
		'<', 2, "$what: pg_terminate_backend");
	$node->poll("$what: another worker", "SELECT count(*) FROM profimport.stat_worker WHERE pid <> $pid", 1);
	cmp_ok(seconds(sub { $node->stop('fast') }), '<', 2, "$what: pg_ctl stop");
	$node->start;
	return;
}

quick('idle');

# A port where nobody answers: the kernel takes the connection, and that is all.
require IO::Socket::INET;
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!";
$node->set('profimport.amqp_url' => 'amqp://guest:guest@127.0.0.1:' . $silent->sockport, 'profimport.connect_timeout' => '30s');
$node->wait_state('connecting');
quick('connecting to a port that does not answer');
$node->set('profimport.amqp_url' => 'amqps://guest:guest@127.0.0.1:' . $silent->sockport);
$node->wait_state('connecting');
quick('TLS handshake that does not answer');
$silent->close;
$node->set('profimport.amqp_url' => 'amqp://guest:guest@127.0.0.1:1', 'profimport.reconnect_delay_max' => '30s');
$node->wait_state('backoff');
quick('backoff');

# In a batch that waits for a lock.
$node->set('profimport.amqp_url' => $broker->url($vhost), 'profimport.connect_timeout' => undef);
$node->wait_state('idle');
my $application = $node->background_psql('postgres');
$application->query_safe("BEGIN; SELECT 1 FROM profimport.profile FOR UPDATE");
$amqp->publish('database_import', message(email => 'c1@example.com', feedback_id => 'held', data => { _city => 'x' }));
$node->poll('the worker waits for the lock',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'", 1);
cmp_ok(seconds(sub { $node->stop('fast') }), '<', 2, 'in a batch: pg_ctl stop');
$node->start;
($r) = $amqp->results(1);
is($r->{json}{feedback_id}, 'held', 'and the message is imported afterwards');

# ---- enabled = off leaves the database

$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'"), 0,
	'enabled off: no process in the database');
is($amqp->consumers('database_import'), 0, 'and no consumer');

done_testing();
