# What a broker can do to a worker, under load: every effect once, every result
# delivered.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

use constant MESSAGES => 3000;

my $broker = ProfImport::Broker->private('faults');
my $vhost = $broker->new_vhost('faults');
my $node = ProfImport::Node->create(
	'faults',
	url => $broker->url($vhost),
	conf => {
		'profimport.batch_size' => 50,
		'profimport.heartbeat' => '2s',
		'profimport.reconnect_delay_max' => '300ms' });

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

my $sum = 0;
my $round = 0;

# Publishes messages that add, does something to the broker while they are
# imported, looks at sum and results.
sub survive
{
	my ($what, $hurt, %options) = @_;
	my $n = $options{messages} // MESSAGES;
	my $amqp = $broker->client($vhost);

	$round++;
	my $before = $node->worker->{messages};
	if ($options{disabled})
	{
		$node->set('profimport.enabled' => 'off');
		$node->wait_state('disabled');
	}
	$amqp->publish_many(
		'database_import',
		[
			map {
				{
					body => message(
						email => 'p' . ($_ % 40) . '@example.com',
						($options{identity} && $_ % 2 ? (feedback_id => "$round-$_") : ()),
						data => { points => { action => 'incr', value => 1 } }),
					($options{identity} && $_ % 2 == 0 ? (message_id => "$round-$_") : ()),
					correlation_id => "$round-$_"
				}
			} 1 .. $n
		]);
	$node->poll('some are imported', "SELECT messages >= $before + 100 FROM profimport.stat_worker WHERE worker = 1", 't')
	  unless $options{disabled};
	my $lost = $hurt->() // 0;
	$amqp = $broker->client($vhost) if $options{new_client};

	my (%by_correlation, %by_id);
	poll_until {
		for my $r ($amqp->drain('database_import_result', quiet => 0.2))
		{
			$by_correlation{ $r->{correlation_id} }{ $r->{message_id} }++;
			$by_id{ $r->{message_id} }++;
		}
		(keys %by_correlation >= $n - $lost, scalar(keys %by_correlation) . " of $n answered");
	}
	"$what: every message is answered", 120;
	$node->wait_settled;
	$sum += $n - $lost;
	is($node->sql("SELECT sum((data->>'points')::bigint) FROM profimport.profile"), $sum, "$what: every effect once")
	  or $sum = $node->sql("SELECT sum((data->>'points')::bigint) FROM profimport.profile");
	is(scalar(keys %by_correlation), $n - $lost, "$what: every message is answered");
	is(scalar(grep { keys %$_ > 1 } values %by_correlation), 0, "$what: and under one message_id");
	note "$what: " . (grep { $_ > 1 } values %by_id) . ' results came twice';
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: no error");
	my ($queue) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
	is($queue->{messages}, 0, "$what: the queue is empty");
	$node->poll('an empty journal', 'SELECT count(*) FROM profimport.batch', 0);
	return;
}

my $ours = '^profimport postgres worker';

survive('nothing happens', sub { });
survive('connections closed', sub { $broker->close_connections($vhost, $ours); return 0 });
survive('consumer closed', sub { $broker->close_connections($vhost, 'consume$'); return 0 });
survive('publisher closed', sub { $broker->close_connections($vhost, 'publish$'); return 0 });
survive(
	'closed many times',
	sub {
		for (1 .. 10)
		{
			my $connects = $node->worker->{connects};
			$broker->close_connections($vhost, $ours);
			$node->poll('a new connection', "SELECT connects > $connects FROM profimport.stat_worker WHERE worker = 1", 't');
		}
		return 0;
	});
survive('graceful restart', sub { $broker->restart; return 0 }, new_client => 1);
survive('kill -9', sub { $broker->kill9; $broker->start; return 0 }, new_client => 1, identity => 1);

# frozen for longer than two heartbeats
survive(
	'frozen',
	sub {
		$broker->freeze;
		$node->wait_state(qr/backoff|connecting/);
		$broker->thaw;
		return 0;
	},
	new_client => 1);
like($node->worker->{last_error}, qr/heartbeat|silent|no sign|timed out|timeout/i, 'frozen: seen by heartbeat or timeout');

# A memory alarm stops publishing; import goes on.  What is to be imported must
# be there before, since nobody can publish then.
survive(
	'memory alarm',
	sub {
		my $before = $node->row('SELECT sum(messages)::int AS n FROM profimport.stat_result')->{n};

		$broker->memory_alarm(1);
		$node->set('profimport.enabled' => undef);
		$node->wait_state('blocked');
		is($node->sql('SELECT blocked FROM profimport.stat_worker'), 't', 'memory alarm: stat_worker says blocked');
		$node->poll('import goes on',
			'SELECT sum(messages) - ' . ($before + MESSAGES) . ' FROM profimport.stat_result', 0);
		is($node->worker->{results_pending}, MESSAGES, 'memory alarm: results wait');
		$broker->memory_alarm(0);
		return 0;
	},
	disabled => 1);

# The result queue vanishes: declared again, what is pending is sent again.
# Results that were in it are gone with it, so take nothing for granted but
# the effects.
{
	my $amqp = $broker->client($vhost);

	$node->sql("SELECT count(*) FROM profimport.profile");
	$amqp->delete('database_import_result');
	$amqp->publish('database_import', message(email => 'p1@example.com', feedback_id => 'gone'));
	$node->wait_settled;
	my ($r) = $amqp->results(1);
	is($r->{json}{feedback_id}, 'gone', 'result queue deleted: declared again, the result is there');
	is($r->{expiration}, '86400000', 'with its expiration');
}

# The import queue vanishes with what is in it.
{
	my $amqp = $broker->client($vhost);

	$amqp->delete('database_import');
	$node->poll('a new queue', 'SELECT connects > 0 FROM profimport.stat_worker WHERE worker = 1', 't');
	poll_until { ($amqp->exists('database_import'), 'it does not exist') } 'import queue deleted: declared again';
	$amqp->publish('database_import', message(email => 'p2@example.com', feedback_id => 'anew'));
	my ($r) = $amqp->results(1);
	is($r->{json}{feedback_id}, 'anew', 'import queue deleted: consumed from again');
}

# Down for a while: results wait, and go out in the end.
{
	$broker->stop;
	$node->wait_state('backoff');
	is($node->sql('SELECT connected_since FROM profimport.stat_worker'), '', 'down: not connected');
	like($node->worker->{last_error}, qr{amqp://guest\@}, 'down: last_error names the broker');
	unlike($node->worker->{last_error}, qr{guest:guest}, 'but not the password');
	$broker->start;
	$node->wait_state('idle');
}

done_testing();
