# What a broker and the line to it can do under load, besides 120_broker.pl: channels closed by
# the broker, frames cut in two.  Every message adds, so that a double and a loss show.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

use constant MESSAGES => 1500;

my $broker = ProfImport::Broker->private('line');
my $vhost = $broker->new_vhost('line');
my $relay = ProfImport::Relay->new($broker->port);
my $node = ProfImport::Node->create(
	'line',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	conf => {
		'profimport.batch_size' => 5,
		'profimport.heartbeat' => '2s',
		'profimport.reconnect_delay_max' => '200ms' });

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

my $round = 0;
my $target = 0;	# the sum when all of a round is imported

sub total { return $node->sql("SELECT coalesce(sum((data->>'points')::bigint), 0) FROM profimport.profile") }

sub connects_after
{
	my ($hurt) = @_;
	my $connects = $node->worker->{connects};

	$hurt->();
	return $node->poll('a new connection', "SELECT connects > $connects FROM profimport.stat_worker WHERE worker = 1", 't');
}

# One cut after the other, as long as there is something to cut.
sub cut_frames
{
	my $first = $relay->count;
	my $all = $target - 100;

	for my $bytes (5003, 1, 1000, 5)
	{
		my $connections = $relay->count;

		$relay->cut_after($bytes);
		poll_until { $relay->count > $connections || total() >= $all } "a cut after $bytes bytes";
	}
	return cmp_ok($relay->count, '>', $first, 'the line was cut');
}

# Publishes, does harm while it is imported, and looks at every message.
sub survive
{
	my ($what, $hurt, %options) = @_;
	my $amqp = $broker->client($vhost);
	my $before = total();
	my %answers;

	$round++;
	$target = $before + MESSAGES;
	# away meanwhile, or little would be left to be imported
	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled');
	$amqp->publish_many(
		'database_import',
		[
			map {
				{
					body => message(
						email => 'p' . ($_ % 40) . '@example.com',
						($options{no_identity} ? () : (feedback_id => "$round-$_")),
						data => { points => { action => 'incr', value => 1 } }),
					correlation_id => "$round-$_"
				}
			} 1 .. MESSAGES
		]);
	$node->set('profimport.enabled' => undef);
	poll_until { total() >= $before + 40 } "$what: some are imported";
	$hurt->();
	poll_until {
		$answers{ $_->{correlation_id} }{ $_->{message_id} }++ for $amqp->drain('database_import_result', quiet => 0.2);
		(keys %answers >= MESSAGES, scalar(keys %answers) . ' answered');
	}
	"$what: answers", 120;
	$node->wait_settled;
	$answers{ $_->{correlation_id} }{ $_->{message_id} }++ for $amqp->drain('database_import_result', quiet => 0.2);
	my @again = grep { keys %{ $answers{$_} } > 1 } keys %answers;
	is(scalar(keys %answers), MESSAGES, "$what: every message is answered");
	is(scalar(@again), 0, "$what: and under one message_id");
	is(total() - $before, MESSAGES, "$what: every effect once");
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: no error");
	$node->poll("$what: nothing pending", 'SELECT count(*) FROM profimport.batch WHERE outgoing IS NOT NULL', 0);
	return;
}

survive('channels closed, no identity', sub { connects_after(sub { $broker->close_channels($vhost, 'consume$') }) }, no_identity => 1);
# on either side of a frame's border, and within its header
survive('frames cut in two, no identity', \&cut_frames, no_identity => 1);
survive('publisher\'s channel closed', sub { $broker->close_channels($vhost, 'publish$') });

done_testing();
