# The acknowledgement of a batch is unknown, and then the worker consumes from another queue, from another virtual
# host, or from another broker.  What it finds there says nothing of the first queue: the message that comes back
# when the worker is back is recognised, and one that only equals it is another message.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('switch');
my $vhost2 = $broker->new_vhost('switch');
my $relay = ProfImport::Relay->new($broker->port);
my $first = $broker->client($vhost);
my $node = ProfImport::Node->create('switch', url => through($relay, $vhost), conf => { 'profimport.reconnect_delay_max' => '200ms' });
# Two records without a queue: as version 1.0.0 wrote it, and as of a queue that nobody knows.
my $old = q(FROM profimport.batch WHERE digests = decode(repeat('ab', 16), 'hex'));
my $unknown = q(FROM profimport.batch WHERE digests = decode(repeat('ab', 16) || repeat('cd', 8), 'hex'));

$node->configure(1, 1, fields => { n => { type => 'int' } });
$node->wait_settled;

sub through
{
	my ($line, $where) = @_;
	return $broker->url($where, undef, undef, 'amqp', $line->port);
}

sub n_of { return $node->sql("SELECT data->>'n' FROM profimport.profile WHERE email = '$_[0]\@example.com'") }

# What is written twice shows, and nothing tells one such message from another.
sub add { return message(email => "$_[0]\@example.com", data => { n => { action => 'incr', value => 1 } }) }

# A batch that is committed and whose acknowledgement does not arrive.  Behind it a record that any empty queue settles.
sub commit_unacknowledged
{
	my ($client, $line, $name) = @_;
	my $lock = $node->background_psql('postgres');

	$lock->query_safe('BEGIN; LOCK TABLE profimport.profile IN SHARE MODE');
	$client->publish('database_import', add($name));
	$node->poll("$name: the import waits",
		q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'), 1);
	$line->stall;
	$lock->query_safe('COMMIT');
	$lock->quit;
	poll_until { n_of($name) eq '1' } "$name: imported";
	$node->sql("INSERT INTO profimport.batch (digests) VALUES (decode(repeat('ab', 16), 'hex'))");
	my $record = $node->sql("SELECT batch_id FROM profimport.batch WHERE length(digests) = 16 + 8 ORDER BY batch_id DESC LIMIT 1");
	like($record, qr/^\d+$/, "$name: the record is kept");
	return "SELECT count(*) FROM profimport.batch WHERE batch_id = $record AND digests <> ''";
}

# A message that comes back before anybody has seen it.
sub publish_redelivered
{
	my ($client, $queue, $body) = @_;

	$client->declare($queue);
	$client->publish($queue, $body);
	$client->get($queue, ack => 0);
	return;
}

sub is_back
{
	my ($client, $name) = @_;

	poll_until { $client->count('database_import') == 1 } "$name: the message is back in its queue";
	return;
}

# Away, at an empty queue; then back.
sub is_kept
{
	my ($name, $record) = @_;

	$node->poll("$name: the other queue was seen empty", "SELECT count(*) $old", 0);
	is($node->sql($record), 1, "$name: the record of the first queue is kept");
	return;
}

sub is_recognised
{
	my ($client, $name, $record, $n) = @_;

	poll_until { $client->count('database_import') == 0 } "$name: the message is delivered again";
	$node->wait_settled;
	$node->poll("$name: its record is settled", $record, 0);
	is(n_of($name), $n, "$name: it is applied once");
	return;
}

# ---- another queue

my $record = commit_unacknowledged($first, $relay, 'queue');
publish_redelivered($first, 'other', add('queue'));
$node->set('profimport.import_queue' => 'other');
$node->poll('the setting', 'SHOW profimport.import_queue', 'other');
$relay->refuse;
is_back($first, 'queue');
$relay->pass;
is_kept('queue', $record);
is(n_of('queue'), 2, 'queue: an equal message of another queue is another message');
is(scalar($first->results(2)), 2, 'queue: both are answered');
$node->set('profimport.import_queue' => undef);
is_recognised($first, 'queue', $record, 2);
is($first->count('database_import_result'), 0, 'queue: the first is not answered again');

# ---- another virtual host

my $second = $broker->client($vhost2);
$record = commit_unacknowledged($first, $relay, 'vhost');
publish_redelivered($second, 'database_import', add('vhost'));
$node->set('profimport.amqp_url' => through($relay, $vhost2));
$node->poll('the setting', 'SHOW profimport.amqp_url', through($relay, $vhost2));
$relay->refuse;
is_back($first, 'vhost');
$relay->pass;
is_kept('vhost', $record);
is(n_of('vhost'), 2, 'vhost: an equal message of another virtual host is another message');
is(scalar($second->results(2)), 2, 'vhost: both are answered there');
$node->set('profimport.amqp_url' => undef);
is_recognised($first, 'vhost', $record, 2);
is($first->count('database_import_result'), 0, 'vhost: the first is not answered again');

# ---- another broker, whose queue has the same name

my $other = ProfImport::Broker->private('other');
$other->new_vhost('switch');
my $other_relay = ProfImport::Relay->new($other->port);
my $there = $other->client($vhost);
$node->set('profimport.amqp_url' => join(',', through($relay, $vhost), through($other_relay, $vhost)));
$node->wait_settled;

$record = commit_unacknowledged($first, $relay, 'broker');
$relay->refuse;
is_back($first, 'broker');
is_kept('broker', $record);
is(scalar($there->results(1)), 1, 'broker: the result went to the other broker');
$relay->pass;
$other_relay->refuse;
is_recognised($first, 'broker', $record, 1);
is($first->count('database_import_result'), 0, 'broker: it is not answered again');

# ---- the same broker under another name, as the nodes of a cluster to which nobody gave one announce it

$other_relay->pass;
$relay->refuse;
$node->poll('at the other broker', q(SELECT broker FROM profimport.stat_worker WHERE worker = 1 AND state = 'idle'),
	qr/:@{[ $other_relay->port ]}\b/);
$node->wait_settled;
$record = commit_unacknowledged($there, $other_relay, 'name');
$other->erl('rabbit_nodes:set_cluster_name(<<"renamed">>)');
$other_relay->refuse;
is_back($there, 'name');
$other_relay->pass;
$node->poll('name: the queue was seen empty', "SELECT count(*) $old", 0);
is_recognised($there, 'name', $record, 1);
is(scalar($there->results(1)), 1, 'name: it is answered');
is($there->count('database_import_result'), 0, 'name: and not again');

# ---- a queue that is never used again

$node->sql(q(INSERT INTO profimport.batch (committed_at, digests)
	SELECT now() - interval '1 hour' * age, decode(repeat('ab', 16) || repeat('cd', 8), 'hex') FROM unnest('{23, 25}'::int[]) age));
$node->set('profimport.batch_size' => 100);
$node->poll('what is older than a day is forgotten', "SELECT count(*) $unknown", 1);
$other_relay->cut;
$node->sql("INSERT INTO profimport.batch (digests) VALUES (decode(repeat('ab', 16), 'hex'))");
$node->poll('an empty queue is seen', "SELECT count(*) $old", 0);
is($node->sql("SELECT now() - committed_at BETWEEN interval '23 hours' AND interval '24 hours' $unknown"), 't', 'what is not is kept');

done_testing();
