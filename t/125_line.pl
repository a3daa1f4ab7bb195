# What a broker and the line to it can do under load, besides 120_broker.pl: channels closed by
# the broker, frames cut in two, a line that drips.  Every message adds, so that a double and a
# loss show.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Load;
use ProfImport::Relay;
use ProfImport::Test;

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

my $load = ProfImport::Load->new(node => $node, broker => $broker, vhost => $vhost);

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

	for my $bytes (5003, 1, 1000, 5)
	{
		my $connections = $relay->count;

		$relay->cut_after($bytes);
		poll_until { $relay->count > $connections || $load->left <= 100 } "a cut after $bytes bytes";
	}
	return cmp_ok($relay->count, '>', $first, 'the line was cut');
}

# Bytes trickle in both directions, so that no frame comes or goes in one piece for long.
sub drip
{
	my $connects = $node->worker->{connects};
	my $connections = $relay->count;

	$relay->drip(3000);
	my $left = $load->left;
	poll_until { my $now = $load->left; ($now <= $left - 30, $now) } 'it goes on in drops';
	cmp_ok($load->left, '>', 0, 'a line that drips: some are left');
	$relay->pass;
	is($node->worker->{connects}, $connects, 'a line that drips: no new connection');
	return is($relay->count, $connections, 'a line that drips: nor an attempt at one');
}

$load->survive('channels closed, no identity', sub { connects_after(sub { $broker->close_channels($vhost, 'consume$') }) }, identity => 'none');
# on either side of a frame's border, and within its header
$load->survive('frames cut in two, no identity', \&cut_frames, identity => 'none');
$load->survive('publisher\'s channel closed', sub { $broker->close_channels($vhost, 'publish$') });
$load->survive('a line that drips', \&drip);

# A frame that takes longer than the two heartbeats after which a silent peer is given up; the
# broker's have to wait behind it.  Whatever comes is a sign of life.
{
	my $amqp = $broker->client($vhost);
	my $connections = $relay->count;

	$relay->drip(2500);
	$amqp->publish('database_import', message(email => 'long@example.com', data => { _fname => 'x' x 15_000 }));
	my ($result) = $amqp->results(1);
	is($result->{json}{error}, 0, 'a frame that drips: imported');
	is($node->sql("SELECT length(data->>'_fname') FROM profimport.profile WHERE email = 'long\@example.com'"), 15_000, 'a frame that drips: whole');
	is($relay->count, $connections, 'a frame that drips: over the same connection');
	$relay->pass;
}

done_testing();
