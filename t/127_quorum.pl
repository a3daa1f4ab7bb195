# A quorum queue whose connection is closed and whose broker is killed, under load.  A killed broker may
# have taken acknowledgements that it had not yet logged, and then delivers these messages again, with a
# header of its own.  They carry no identity (no message_id, no feedback_id) and no headers, only their
# bodies tell them apart.  Every message adds, so that a double and a loss show.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Load;
use ProfImport::Test;

my $broker = ProfImport::Broker->private('quorum');
my $vhost = $broker->new_vhost('quorum');
# Not by the worker, whose setting says classic: what counts is what the queue is.
$broker->client($vhost)->declare('database_import', arguments => { 'x-queue-type' => 'quorum' });
my $node = ProfImport::Node->create(
	'quorum',
	url => $broker->url($vhost),
	conf => {
		'profimport.batch_size' => 5,
		'profimport.reconnect_delay_max' => '200ms' });

$node->configure(1, 1, fields => { points => { type => 'int' }, serial => { type => 'int' } });
$node->wait_state('idle');
is($_->{type}, $_->{name} eq 'database_import' ? 'quorum' : 'classic', "type of $_->{name}") for @{ $broker->queues($vhost) };

my $load = ProfImport::Load->new(node => $node, broker => $broker, vhost => $vhost);

sub messages_come_again
{
	my ($hurt) = @_;
	my $redelivered = $node->worker->{redelivered};

	$hurt->();
	return $node->poll('messages come again', "SELECT redelivered > $redelivered FROM profimport.stat_worker", 't');
}

$load->survive('connection closed', sub { messages_come_again(sub { $broker->close_connections($vhost, 'consume$') }) }, identity => 'serial', left => 3000);
$load->survive('broker killed', sub { messages_come_again(sub { $broker->kill9; $broker->start }) }, identity => 'serial', left => 3000);

done_testing();
