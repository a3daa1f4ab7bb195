# A worker that is no longer wanted leaves more results behind than it can hand over while it ends:
# the ones that go on send them soon, not when they happen to look.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

use constant MESSAGES => 3000;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('fewer');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'fewer',
	url => $broker->url($vhost),
	conf => {
		'profimport.workers' => 2,
		# a record for each message, and room for all of them
		'profimport.prefetch' => 1,
		'profimport.batch_size' => 50,
		# nothing else to look after every minute
		'profimport.dedup_window' => 0 });

$node->configure(1, 1);
$node->wait_settled;

# results have nowhere to go
$node->set('profimport.declare_queues' => 'off');
$node->poll('no declaring', 'SHOW profimport.declare_queues', 'off');
$broker->delete_queue($vhost, 'database_import_result');
$amqp->publish_many('database_import', [ map { { body => message(email => "p$_\@example.com") } } 1 .. MESSAGES ]);
$node->poll('all are imported', 'SELECT count(*) FROM profimport.profile', MESSAGES, timeout => 90);
cmp_ok($node->sql('SELECT count(*) FROM profimport.batch WHERE worker = 2 AND outgoing IS NOT NULL'),
	'>', 1000, 'the second worker has more records than it hands over');

$node->set('profimport.workers' => 1);
$node->poll('one worker', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'", 1);
$node->poll('nothing belongs to the other', 'SELECT count(*) FROM profimport.batch WHERE worker IS DISTINCT FROM 1', 0, timeout => 20);
$amqp->declare('database_import_result');
poll_until { my $n = $amqp->count('database_import_result'); ($n >= MESSAGES, $n) } 'every message is answered', 30;
$node->wait_settled;
is($amqp->count('database_import_result'), MESSAGES, 'once');

done_testing();
