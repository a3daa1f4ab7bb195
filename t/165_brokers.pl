# Several brokers, a login that is mended, queues that vanish, are of another
# kind or missing.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('brokers');
my $amqp = $broker->client($vhost);
my $relay = ProfImport::Relay->new($broker->port);
my $first = $broker->url($vhost, undef, undef, 'amqp', $relay->port);
my $number = 0;

$relay->refuse;
my $node = ProfImport::Node->create(
	'brokers',
	url => "$first," . $broker->url($vhost),
	conf => { 'profimport.reconnect_delay_max' => '200ms' });
$node->configure(1, 1);

sub publish { return $amqp->publish('database_import', message(email => 'b' . ++$number . '@example.com'), correlation_id => "$number") }

sub imports
{
	my ($what) = @_;

	$node->wait_state('idle');
	poll_until { ($amqp->consumers('database_import') // 0) == 1 } 'a consumer';
	publish();
	my ($result) = $amqp->results(1);
	return is("$result->{correlation_id} $result->{json}{error}", "$number 0", $what);
}

sub last_error
{
	my ($what, $pattern) = @_;

	ok($node->poll($what, 'SELECT last_error FROM profimport.stat_worker WHERE worker = 1', $pattern), $what);
	return;
}

sub check
{
	my ($item) = @_;

	return $node->row("SELECT * FROM profimport.check() WHERE item = '$item'");
}

# ---- several brokers

imports('the first broker is dead: the second is used');
like($node->worker->{broker}, qr/:${\$broker->port}\b/, 'stat_worker names the second');
$relay->pass;
$broker->close_connections($vhost);
$node->poll('the first again', 'SELECT broker FROM profimport.stat_worker WHERE worker = 1', qr/:${\$relay->port}\b/);
imports('a reconnect begins with the first again');
$relay->refuse;
$node->poll('the second again', 'SELECT broker FROM profimport.stat_worker WHERE worker = 1', qr/:${\$broker->port}\b/);
imports('it fails over while running');

# ---- queues that vanish

$amqp->delete('database_import');
imports('import queue deleted: declared and consumed from again');
$amqp->delete('database_import');
$amqp->declare('database_import');
imports('consumer cancelled, queue recreated by somebody else: consumed from again');

$amqp->delete('database_import_result');
$amqp->declare('database_import_result', arguments => { 'x-max-length' => 0, 'x-overflow' => 'reject-publish' });
publish() for 1 .. 20;
$node->poll('pending results', 'SELECT results_pending FROM profimport.stat_worker WHERE worker = 1', 20);
# A channel that refuses whatever it is given may be what is wrong.
my $publisher = sub { join ' ', map { $_->{pid} } grep { $_->{user_provided_name} =~ /publish$/ } @{ $broker->connections($vhost) } };
my $first_publisher = $publisher->();
ok(poll_until { my $now = $publisher->(); ($now && $now ne $first_publisher, $now) } 'another connection', 'refused again and again: tried over a new connection');
$amqp->delete('database_import_result');
my %answered;
poll_until {
	$answered{ $_->{correlation_id} } = 1 for $amqp->drain('database_import_result', quiet => 0.2);
	(keys %answered == 20, scalar keys %answered);
}
'the pending results';
$node->wait_settled;
pass('result queue deleted with results pending: declared again, all delivered');

# ---- a result queue of another kind

$amqp->delete('database_import_result');
$amqp->declare('database_import_result', arguments => { 'x-message-ttl' => 60_000 });
$broker->close_connections($vhost);
ok($node->wait_for_log(qr/WARNING: .*database_import_result.* keeps messages for another time/), 'another TTL: a warning');
imports('another TTL: the queue is used as it is');
my ($queue) = grep { $_->{name} eq 'database_import_result' } @{ $broker->queues($vhost) };
# RabbitMQ 4 adds the type that nobody named
is_json({ map { $_->[0] => $_->[2] } grep { $_->[0] ne 'x-queue-type' } @{ $queue->{arguments} } }, { 'x-message-ttl' => 60_000 }, 'another TTL: nothing is altered');
my $check = check('result_ttl');
is($check->{ok}, json_false, 'another TTL: check() says so');
like($check->{detail}, qr/another TTL.*60000/, 'another TTL: with the value');

# ---- declare_queues = off

$node->set('profimport.declare_queues' => 'off');
$amqp->delete('database_import');
last_error('declare_queues = off: a missing queue is an error', qr/queue "database_import" does not exist, and profimport.declare_queues is off/);
ok($node->wait_state('error'), 'declare_queues = off: the state says error');
is(check('import_queue')->{ok}, json_false, 'declare_queues = off: check() says so');
ok(!$amqp->exists('database_import'), 'declare_queues = off: not declared');
$amqp->declare('database_import');
imports('declare_queues = off: recovers when the queue appears');
$amqp->delete('database_import_result');
publish();
ok($node->wait_state('error'), 'declare_queues = off: so it does without a result queue');
$amqp->declare('database_import_result');
is(($amqp->results(1))[0]{correlation_id}, $number, 'declare_queues = off: the result arrives when the queue appears');

# ---- a password that is not right yet

$broker->add_user('late', 'not-yet', $vhost);
$node->set('profimport.amqp_url' => $broker->url($vhost, 'late', 'right'));
last_error('a wrong password is told', qr/late.*(ACCESS_REFUSED|refused)/i);
isnt($node->worker->{state}, 'idle', 'wrong password: not idle');
unlike($node->worker->{last_error}, qr/:right/, 'wrong password: not shown');
my $pid = $node->worker->{pid};
$broker->change_password('late', 'right');
imports('recovers when the password is right');
is($node->worker->{pid}, $pid, 'without a restart of the worker');

done_testing();
