# What a broker can do to its queues under load, besides 120_broker.pl: a disk alarm, a deleted
# queue.  Every message adds, so that a double and a loss show.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Load;
use ProfImport::Test;

my $broker = ProfImport::Broker->private('queue');
my $vhost = $broker->new_vhost('queue');
my $node = ProfImport::Node->create(
	'queue',
	url => $broker->url($vhost),
	conf => {
		'profimport.batch_size' => 5,
		'profimport.heartbeat' => '2s',
		'profimport.reconnect_delay_max' => '200ms' });

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

my $load = ProfImport::Load->new(node => $node, broker => $broker, vhost => $vhost);

# ---- a disk alarm: import goes on until the results of 100 batches wait, then it pauses

$load->survive(
	'disk alarm',
	sub {
		# away until there is the alarm, or it could have imported everything by then
		$node->set('profimport.enabled' => 'off');
		$node->wait_state('disabled');
		my $left = $load->left;
		$broker->disk_alarm(1);
		$node->set('profimport.enabled' => undef);
		$node->poll('blocked by the alarm', 'SELECT blocked AND results_pending >= 500 FROM profimport.stat_worker', 't');
		$node->wait_state('paused');
		cmp_ok($load->left, '<', $left, 'disk alarm: import went on');
		cmp_ok($load->left, '>', 0, 'disk alarm: and paused');
		# and full again, while results go out
		$broker->disk_alarm($_) for 0, 1, 0;
	},
	left => 1500);

# ---- the queue deleted: what was in it is gone with it; what was in hand is applied once or not
# at all, and answered if it was

{
	my $amqp = $broker->client($vhost);
	my $before = $load->total;
	my $number = 0;
	my %answers;
	my $publish = sub {
		my ($n) = @_;

		$amqp->publish_many(
			'database_import',
			[
				map {
					$number++;
					{ body => message(email => "q$number\@example.com", feedback_id => "$number", data => { points => { action => 'incr', value => 1 } }) }
				} 1 .. $n
			]);
		return $number;
	};
	my $collect = sub {
		$answers{ $_->{json}{feedback_id} }{ $_->{message_id} }++ for $amqp->drain('database_import_result', quiet => 0.2);
	};

	for my $time (1, 2)
	{
		my $lost = 0;
		my $more = 1500;

		# until the queue was deleted with something in it
		while (!$lost)
		{
			my $some = $load->total + 40;

			$node->set('profimport.enabled' => 'off');
			$node->wait_state('disabled');
			$publish->($more);
			$more *= 2;
			$node->set('profimport.enabled' => undef);
			poll_until { my $total = $load->total; ($total >= $some, $total) } 'some are imported';
			$lost = $amqp->count('database_import');
			$broker->delete_queue($vhost, 'database_import');
			poll_until { $amqp->exists('database_import') } 'the queue is declared again';
		}
		my $last = $publish->(1);

		poll_until { $collect->(); ($answers{$last}, scalar(keys %answers) . ' answered') } 'the answer to a message in the new queue';
	}
	$node->wait_settled;
	$collect->();
	cmp_ok(scalar(keys %answers), '<', $number, 'queue deleted: in the middle');
	is($load->total - $before, scalar(keys %answers), 'queue deleted: what was applied was answered');
	is($node->sql("SELECT count(*) FROM profimport.profile WHERE data->>'points' <> '1' AND email LIKE 'q%'"), 0, 'queue deleted: and applied once');
	is(scalar(grep { keys %$_ > 1 } values %answers), 0, 'queue deleted: under one message_id');
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, 'queue deleted: no error');
	$node->poll('queue deleted: nothing pending', 'SELECT count(*) FROM profimport.batch WHERE outgoing IS NOT NULL', 0);
}

done_testing();
