# Synchronous replication: the primary is killed under load and the standby promoted; nothing that was acknowledged
# is lost, nothing is applied twice.  A worker that waits for a standby and has to stop does not acknowledge.

use strict;
use warnings;
use FindBin;
use POSIX ();
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

use constant { PROFILES => 50, SLICE => 100, LOAD => 3000, STUCK => 10 };

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('promotion');
my $amqp = $broker->client($vhost);
my $primary = ProfImport::Node->create(
	'primary',
	url => $broker->url($vhost),
	init => [ allows_streaming => 1 ],
	# only the record of the batch can tell what was applied
	conf => { 'profimport.batch_size' => 20, 'profimport.dedup_window' => 0 });
my $sent = 0;
my %answers;

$primary->configure(1, 1, fields => { points => { type => 'int' } });
$primary->backup('base');
my $standby = ProfImport::Node->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->set(synchronous_standby_names => 'standby');
$primary->poll('a synchronous standby', 'SELECT sync_state FROM pg_stat_replication', 'sync');
# Commits wait for it once the checkpointer has read the setting: a session that was started after the postmaster read
# it sees "sync" before.  What the checkpointer does after its second checkpoint from now it does with the setting.
$primary->sql('CHECKPOINT') for 1 .. 2;
$primary->wait_state('idle');

sub messages
{
	my ($n) = @_;

	return map {
		{
			body => message(
				email => 'p' . $_ % PROFILES . '@example.com',
				data => { points => { action => 'incr', value => 1 } },
				feedback_id => "f$_")
		}
	} $sent + 1 .. $sent + $n;
}

# A producer of its own; returns its pid.
sub start_load
{
	my @messages = messages(LOAD);
	my $pid = fork // die "fork: $!";

	$sent += LOAD;
	return $pid if $pid;
	my $producer = $broker->client($vhost);
	my $good = eval { $producer->publish_many('database_import', [ splice(@messages, 0, SLICE) ]) while @messages; 1 };
	print STDERR "the producer failed: $@" unless $good;
	POSIX::_exit($good ? 0 : 1);
}

sub sum { return $_[0]->sql("SELECT coalesce(sum((data->>'points')::int), 0) FROM profimport.profile") }

sub is_complete
{
	my ($node, $what) = @_;

	poll_until {
		for my $r ($amqp->drain('database_import_result', quiet => 0.2))
		{
			$answers{ $r->{json}{feedback_id} }{ $r->{message_id} }++;
			is($r->{json}{error_text}, '', "result of $r->{json}{feedback_id}") if $r->{json}{error};
		}
		(keys %answers >= $sent, scalar(keys %answers) . " of $sent");
	}
	"$what: every result";
	is(keys %answers, $sent, "$what: every message is answered");
	is(scalar(grep { keys %$_ > 1 } values %answers), 0, "$what: under one message_id");
	is(sum($node), $sent, "$what: every increment is there, and once");
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: nothing failed");
	return;
}

# ---- promotion under load

my $producer = start_load();
$primary->poll('a load', 'SELECT messages FROM profimport.stat_worker', qr/^\d{3,}$/);
my $worker = $primary->worker->{pid};
$primary->kill9;
$standby->promote;
waitpid $producer, 0;
is($?, 0, 'the producer went on');
# The worker of the dead server ends by itself; its connection gives back what it held.
poll_until { !kill 0, $worker } 'the end of the old worker';
is_complete($standby, 'promoted under load');
$standby->wait_settled;
my $row = $standby->worker;
note "the new primary imported $row->{messages} of $sent, $row->{redelivered} of them redelivered, $row->{duplicates} recognised";
cmp_ok($row->{messages}, '>', 0, 'the new primary took its part');

# ---- stopped while it waits for a standby

$standby->set(synchronous_standby_names => 'none_such');
$amqp->publish_many('database_import', [ messages(STUCK) ]);
$sent += STUCK;
my $waits = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event = 'SyncRep'};
$standby->poll('a worker that waits for a standby', $waits, 1);
my $pid = $standby->worker->{pid};
kill 'TERM', $pid;
$standby->poll('another worker', 'SELECT pid FROM profimport.stat_worker', qr/^(?!$pid$)\d/);
is($amqp->count('database_import_result') // 0, 0, 'terminated while it waits: no result');
$standby->poll('the next worker waits as well', $waits, 1);
$standby->stop('fast');
poll_until { my $n = $amqp->count('database_import'); ($n == STUCK, $n) } 'messages that are back';
pass('stopped while it waits: nothing was acknowledged');
$standby->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''\n");
$standby->start;
is_complete($standby, 'started again');

done_testing();
