# Quorum queues on three brokers.  Twice in a load, the node that the worker is
# connected to and that leads both queues is killed: the worker goes on with the next URL, every message is applied
# once and answered.

use strict;
use warnings;
use FindBin;
use POSIX ();
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

use constant { PROFILES => 50, SLICE => 100, LOAD => 3000 };

# RabbitMQ 4.3 delivers again what a consumer on a dead node had about a minute after the death, not at once.
use constant REDELIVERED => 180;

my @brokers = ProfImport::Broker->cluster('quorum', 3);
my $vhost = $brokers[0]->new_vhost('cluster');
# A virtual host comes up on the other nodes in its own time, and stays down where that failed: then an operator starts it.
for my $broker (@brokers)
{
	my $client = $broker->client($vhost);
	my $tries = 0;
	poll_until
	{
		return 1 if eval { $client->exists('anything'); 1 };
		my $why = $@;
		eval { $broker->ctl('restart_vhost', '--vhost', $vhost) } if ++$tries % 10 == 0;
		(0, $why);
	}
	"the virtual host on " . $broker->port;
}
# the node that is never killed
my $amqp = $brokers[2]->client($vhost);
my $node = ProfImport::Node->create(
	'cluster',
	url => join(',', map { $_->url($vhost) } @brokers),
	conf => {
		'profimport.queue_type' => 'quorum',
		'profimport.batch_size' => 20,
		'profimport.reconnect_delay_max' => '200ms' });
my $sent = 0;
my %answers;

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

# A producer of its own, connected to the node that lives; returns its pid.
sub start_load
{
	my @bodies = map {
		message(
			email => 'p' . $_ % PROFILES . '@example.com',
			data => { points => { action => 'incr', value => 1 } },
			feedback_id => "f$_")
	} $sent + 1 .. $sent + LOAD;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		my $producer = $brokers[2]->client($vhost);

		eval { $producer->publish_many('database_import', [ map { { body => $_ } } splice(@bodies, 0, SLICE) ]) while @bodies; 1 }
		  or print STDERR "the producer failed: $@";
		POSIX::_exit($@ ? 1 : 0);
	}
	$sent += LOAD;
	return $pid;
}

sub processed { return $node->sql('SELECT coalesce(sum(messages), 0) FROM profimport.stat_worker') }
sub sum { return $node->sql("SELECT coalesce(sum((data->>'points')::int), 0) FROM profimport.profile") }

sub queue
{
	my ($name) = @_;
	my ($found) = grep { $_->{name} eq $name } @{ $brokers[2]->queues($vhost) };

	return $found;
}

sub uses
{
	my ($broker, $what) = @_;
	my $port = $broker->port;

	return $node->poll($what, q{SELECT state || ' ' || coalesce(broker, '') FROM profimport.stat_worker WHERE worker = 1},
		qr/^(?:idle|importing) .*:$port\b/);
}

# What lies in the queue of results; by the message's own id and the result's.
sub collect
{
	for my $r ($amqp->drain('database_import_result', quiet => 0.3))
	{
		$answers{ $r->{json}{feedback_id} }{ $r->{message_id} }++;
		is($r->{json}{error}, 0, "result of $r->{json}{feedback_id}") if $r->{json}{error};
	}
	return;
}

sub is_complete
{
	my ($what) = @_;

	poll_until {
		collect();
		# what to look at if it never comes
		my $worker = $node->worker;
		(keys %answers >= $sent, scalar(keys %answers) . " of $sent; worker " . join(' ', map { $worker->{$_} // '' } qw(state broker messages results_pending last_error)));
	}
	"$what: every result", REDELIVERED;
	is(join(' ', sort keys %answers), join(' ', sort map { "f$_" } 1 .. $sent), "$what: every message is answered");
	is(scalar(grep { keys %$_ > 1 } values %answers), 0, "$what: under one message_id");
	is(sum(), $sent, "$what: every increment is there, and once");
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: nothing failed");
	my $repeated = grep { (values %$_)[0] > 1 } values %answers;
	note "$what: $repeated results came twice, under their one message_id";
	return;
}

sub kill_under_load
{
	my ($victim, $what) = @_;
	my $before = processed();
	my $producer = start_load();

	poll_until { processed() >= $before + SLICE } "$what: the load is on";
	$victim->kill9;
	note sprintf '%s: killed after %d of %d messages', $what, processed() - $before, LOAD;
	waitpid $producer, 0;
	is($?, 0, "$what: the producer could go on");
	return;
}

is($brokers[0]->running_nodes, 3, 'three nodes are one cluster');
ok(uses($brokers[0], 'the worker on the first URL'), 'the worker uses the first URL');
is(queue($_)->{type}, 'quorum', "$_ is a quorum queue") for qw(database_import database_import_result);
# a list of the members' nodes; a map by node since RabbitMQ 4.3
is($brokers[0]->erl('Count = fun(Nodes) when is_map(Nodes) -> maps:size(Nodes); (Nodes) -> length(Nodes) end,'
	  . ' length([Q || Q <- rabbit_amqqueue:list(), Count(maps:get(nodes, amqqueue:get_type_state(Q))) == 3])'),
	2, 'with a member on every node');

kill_under_load($brokers[0], 'first node');
ok(uses($brokers[1], 'the worker on the second URL'), 'the worker goes on with the second URL');
is_complete('first node killed');

$brokers[0]->start;
poll_until { $brokers[2]->running_nodes == 3 } 'a cluster of three again';
kill_under_load($brokers[1], 'second node');
ok(uses($brokers[0], 'the worker on the first URL'), 'the worker goes on with the first URL');
is_complete('second node killed');

$node->wait_settled;
# Digests may stay for a while: the queue still counts the consumer that was on
# the dead node, which might hold deliveries.
$node->poll('nothing is left to send', 'SELECT count(*) FROM profimport.batch WHERE outgoing IS NOT NULL', 0);
# A quorum queue counts anew every few seconds, and an acknowledgement that died with a node is given again.
poll_until { my $n = queue('database_import')->{messages}; ($n == 0, "$n messages") } 'the import queue is empty', REDELIVERED;

done_testing();
