# A message that comes again is recognised although profimport.max_message_size has changed; one in the midst of whose
# delivery it changes is not put together from what is left.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('limits');
my $relay = ProfImport::Relay->new($broker->port);
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'limits',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	conf => {
		'profimport.max_message_size' => '1kB',
		'profimport.reconnect_delay_max' => '200ms' });
my $ttl = 3600;

$node->configure(1, 1);
$node->wait_settled;

sub body { return message(email => "$_[0]\@example.com", data => { _city => 'x' x $_[1] }) }

# The worker has read it when it connects to publish results with another TTL.
sub set_limit
{
	my ($limit) = @_;
	my $connections = $relay->count;

	$node->set('profimport.max_message_size' => $limit, 'profimport.result_ttl' => ++$ttl);
	poll_until { $relay->count > $connections } 'the publisher connects anew';
	return;
}

# Delivered and answered under one limit, delivered again under the other.
sub comes_again
{
	my ($what, $after, $table, $error) = @_;
	my $lock = $node->background_psql('postgres');

	$lock->query_safe("BEGIN; LOCK TABLE profimport.$table IN SHARE MODE");
	$amqp->publish('database_import', body($what, 2000));
	$node->poll("$what: the import waits",
		q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'), 1);
	$relay->stall;
	$lock->query_safe('COMMIT');
	$lock->quit;
	$node->poll("$what: the batch is committed", q(SELECT count(*) FROM profimport.batch WHERE pending = 1), 1);
	set_limit($after);
	$relay->refuse;
	poll_until { $amqp->count('database_import') == 1 } "$what: the message is back in its queue";
	$relay->pass;
	poll_until { $amqp->count('database_import') == 0 } 'it is delivered again';
	$node->wait_settled;
	my @results = $amqp->drain('database_import_result', quiet => 0.3);
	is(join(' ', map { $_->{json}{error} } @results), $error, "$what: answered once");
	$node->poll("$what: the record is settled", q(SELECT count(*) FROM profimport.batch WHERE digests <> ''), 0);
	return;
}

comes_again('larger', '1MB', 'import_error', 400);
is($node->sql('SELECT count(*) FROM profimport.profile'), 0, 'a message that was too large is not imported when the limit is raised');
comes_again('smaller', '1kB', 'profile', 0);
is($node->sql('SELECT count(*) FROM profimport.import_error'), 1, 'a message that was imported does not fail when the limit is lowered');
is($node->sql('SELECT count(*) FROM profimport.profile'), 1, 'and is imported once');
is($node->worker->{duplicates}, 2, 'both were recognised');

# ---- between two frames of one message

set_limit('1MB');
$node->wait_settled;
$relay->stall_after(2_000_000);
$amqp->publish('database_import', body('frames', 3_000_000));
set_limit('8MB');
$relay->pass;
my ($result) = $amqp->results(1);
is($result->{json}{error}, 400, 'what began to come under a lower limit is too large') or diag $result->{body};
is($node->sql("SELECT count(*) FROM profimport.profile WHERE email LIKE 'frames%'"), 0, 'and nothing of it is imported');

done_testing();
