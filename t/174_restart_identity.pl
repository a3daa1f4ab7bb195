# TRUNCATE profimport.batch RESTART IDENTITY under a running worker: numbers of batches are given out again.  Messages are
# imported and answered as before, and what was in memory does not take records away that have got its numbers.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('restart');
my $relay = ProfImport::Relay->new($broker->port);
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'restart',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	conf => { 'profimport.reconnect_delay_max' => '200ms', 'profimport.declare_queues' => 'off' });

$amqp->declare($_) for qw(database_import database_import_result other);
$node->configure(1, 1, fields => { n => { type => 'int' } });
$node->wait_settled;

sub n_of { return $node->sql("SELECT data->>'n' FROM profimport.profile WHERE email = '$_[0]\@example.com'") }

sub publish
{
	my ($name, %keys) = @_;

	$amqp->publish('database_import', message(email => "$name\@example.com", data => { n => { action => 'incr', value => 1 } }, %keys));
	return;
}

sub imports
{
	my ($name, %keys) = @_;

	publish($name, %keys);
	poll_until { n_of($name) eq '1' } "$name is imported";
	return;
}

# some messages that are remembered by their feedback_id, and one whose result waits for a queue
imports("f$_", feedback_id => "f$_") for 1 .. 3;
$amqp->results(3);
$node->wait_settled;
$amqp->delete('database_import_result');
imports('g', feedback_id => 'g');
my $number = $node->sql('SELECT max(batch_id) FROM profimport.batch WHERE outgoing IS NOT NULL');
$node->sql('TRUNCATE profimport.batch RESTART IDENTITY');
imports("h$_", feedback_id => "h$_") for 1 .. $number - 1;
is($node->sql('SELECT last_value FROM profimport.batch_batch_id_seq'), $number - 1, 'the numbers start anew');
is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, 'nothing fails');
is($node->sql('SELECT count(*) FROM profimport.applied'), 4 + $number - 1, 'everything is remembered');

# the next has the number of the one in memory, and its acknowledgement does not arrive
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE profimport.profile IN SHARE MODE');
publish('k');
$node->poll('the import waits',
	q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'), 1);
$relay->stall;
$lock->query_safe('COMMIT');
$lock->quit;
poll_until { n_of('k') eq '1' } 'k is imported';
$node->set('profimport.import_queue' => 'other');
$node->poll('the setting', 'SHOW profimport.import_queue', 'other');
$relay->refuse;
poll_until { $amqp->count('database_import') == 1 } 'k is back in its queue';
$amqp->declare('database_import_result');
$relay->pass;
is(join(' ', sort map { "$_->{json}{error}$_->{json}{feedback_id}" } $amqp->results($number + 1)), join(' ', '0', '0g', map { "0h$_" } 1 .. $number - 1), 'all are answered');
$node->poll('nothing is pending', 'SELECT count(*) FROM profimport.batch WHERE outgoing IS NOT NULL', 0);
is($node->sql("SELECT count(*) FROM profimport.batch WHERE batch_id = $number AND digests <> ''"), 1, 'the record with that number is kept');
$node->set('profimport.import_queue' => undef);
poll_until { $amqp->count('database_import') == 0 } 'k is delivered again';
$node->wait_settled;
is(n_of('k'), 1, 'and recognised');

done_testing();
