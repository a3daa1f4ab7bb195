# Settings that the worker follows on reload.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::INET;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('reload');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('reload', url => $broker->url($vhost));

$node->configure(1, 1);
$node->wait_state('idle');

sub imports
{
	my ($what, %options) = @_;
	my $client = $options{client} || $amqp;
	my $in = $options{queue} // 'database_import';
	my $out = $options{results} // 'database_import_result';

	poll_until { ($client->exists($in), 'not yet') } "$what: queue $in";
	$client->publish($in, message(email => 'a@example.com', feedback_id => $what));
	poll_until { ($client->exists($out), 'not yet') } "$what: queue $out";
	my ($r) = $client->results(1, queue => $out);
	is($r->{json}{feedback_id}, $what, "$what: imported and answered");
	return $r;
}

sub queue
{
	my ($name, $in) = @_;
	my ($queue) = grep { $_->{name} eq $name } @{ $broker->queues($in // $vhost) };

	$queue->{arguments} = { map { $_->[0] => $_->[2] } @{ $queue->{arguments} } } if $queue;
	return $queue;
}

sub publish_at_once
{
	my (@messages) = @_;

	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled');
	$amqp->publish_many('database_import', \@messages);
	$node->set('profimport.enabled' => undef);
	return;
}

my $seen = 100;

# A reload is a signal, which a message may overtake.  That the worker has read the settings shows in a new prefetch,
# which it notes once it consumes with it.
sub set_and_see
{
	my (%settings) = @_;

	$node->set(%settings, 'profimport.prefetch' => ++$seen);
	$node->poll("the worker has read " . join(' ', sort keys %settings), 'SELECT prefetch FROM profimport.worker_run WHERE worker = 1', $seen);
	return;
}

imports('before');
my $pid = $node->worker->{pid};

# ---- queues

$node->set('profimport.import_queue' => 'in 2', 'profimport.result_queue' => 'out 2');
imports('other queues', queue => 'in 2', results => 'out 2');
poll_until { my $n = $amqp->consumers('database_import'); ($n == 0, "$n consumers") } 'no consumer of the old queue';
$node->set('profimport.import_queue' => undef, 'profimport.result_queue' => undef);
imports('back');

# ---- another virtual host, and a broker list whose first does not answer

my $other = $broker->new_vhost('reload2');
$node->set('profimport.amqp_url' => 'amqp://guest:guest@127.0.0.1:1/x, ' . $broker->url($other));
imports('second broker of a list', client => $broker->client($other));
like($node->worker->{broker}, qr{/reload2}, 'stat_worker names it');
unlike($node->worker->{broker}, qr/guest:guest/, 'without password');
$node->set('profimport.amqp_url' => $broker->url($vhost));
imports('first virtual host again');

# ---- while it connects to somebody who says nothing

{
	my $mute = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no port: $@";

	$node->set('profimport.connect_timeout' => '5min', 'profimport.amqp_url' => 'amqp://127.0.0.1:' . $mute->sockport);
	$node->wait_state('connecting');
	$mute->accept;
	$node->set('profimport.connect_timeout' => undef, 'profimport.amqp_url' => $broker->url($vhost));
	imports('an attempt to connect is given up for other settings');
}

# ---- prefetch and sizes

$node->set('profimport.prefetch' => 17);
poll_until {
	my ($c) = grep { ($_->{prefetch_count} // 0) == 17 } @{ $broker->consumers($vhost) };
	(!!$c, 'consumers: ' . join(' ', map { $_->{prefetch_count} // '?' } @{ $broker->consumers($vhost) }));
} 'a consumer with the new prefetch';
$node->set('profimport.prefetch' => undef, 'profimport.batch_size' => 10);
my $batches = 0 + ($node->sql('SELECT batches FROM profimport.stat_worker'));
publish_at_once(map { +{ body => message(email => "b$_\@example.com") } } 1 .. 100);
$amqp->results(100);
$batches = $node->worker->{batches} - $batches;
cmp_ok($batches, '>=', 10, 'batch_size 10: at least ten batches');
$node->set('profimport.batch_size' => undef, 'profimport.batch_bytes' => '1kB');
$batches = $node->worker->{batches};
publish_at_once(map { +{ body => message(email => "b$_\@example.com", data => { _city => 'x' x 1000 }) } } 1 .. 10);
$amqp->results(10);
is($node->worker->{batches} - $batches, 10, 'batch_bytes 1kB: a batch each');
$node->set('profimport.batch_bytes' => '3kB');
$batches = $node->worker->{batches};
publish_at_once(map { +{ body => message(email => "b$_\@example.com", data => { _city => 'y' x 1000 }) } } 1 .. 10);
$amqp->results(10);
cmp_ok($node->worker->{batches} - $batches, '>=', 5, 'batch_bytes 3kB: not exceeded by the last message');
$node->set('profimport.batch_bytes' => undef);
$pid = $node->worker->{pid};

# ---- batch_delay

set_and_see('profimport.batch_delay' => '300ms');
$batches = $node->worker->{batches};
$amqp->publish('database_import', message(email => "d$_\@example.com")) for 1 .. 5;
$amqp->results(5);
cmp_ok($node->worker->{batches} - $batches, '<=', 2, 'batch_delay: waits for more');
$node->set('profimport.batch_delay' => undef);

# ---- max_message_size

set_and_see('profimport.max_message_size' => '1kB');
$amqp->publish('database_import', message(email => 'big@example.com', data => { _city => 'x' x 2000 }));
my ($r) = $amqp->results(1);
is($r->{json}{error}, 400, 'max_message_size: a larger one is a 400');
is($node->sql('SELECT octet_length(body) FROM profimport.import_error'), 1024, 'kept up to there');
$node->set('profimport.max_message_size' => undef);

# ---- TTL

set_and_see('profimport.result_ttl' => '1h');
$r = imports('shorter TTL');
is($r->{expiration}, '3600000', 'result_ttl: results carry it');
is(queue('database_import_result')->{arguments}{'x-message-ttl'}, 86_400_000, 'the queue is as it was');
poll_until { (slurp_file($node->logfile) =~ /keeps messages for another time/, 'none') } 'a warning';
my $warnings = () = slurp_file($node->logfile) =~ /keeps messages for another time/g;
$broker->close_connections($vhost, '^profimport postgres');
imports('after a reconnect');
my $warnings_after = () = slurp_file($node->logfile) =~ /keeps messages for another time/g;
is($warnings_after, $warnings, 'which is not repeated');
set_and_see('profimport.result_ttl' => 0);
$r = imports('no TTL');
is($r->{expiration}, undef, 'result_ttl 0: no expiration');
$amqp->delete('database_import_result');
imports('no TTL, new queue');
is(queue('database_import_result')->{arguments}{'x-message-ttl'}, undef, 'result_ttl 0: no x-message-ttl either');
$node->set('profimport.result_ttl' => undef);

# ---- a queue made by somebody else, without any argument, is used as it is

# not under the worker's hands: it would declare the queue itself
$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
$amqp->delete('database_import_result');
$amqp->declare('database_import_result');
$node->set('profimport.enabled' => undef);
imports('a plain result queue');
$pid = $node->worker->{pid};
is(queue('database_import_result')->{arguments}{'x-message-ttl'}, undef, 'it is as it was');

# ---- queue type

$node->set('profimport.queue_type' => 'quorum', 'profimport.import_queue' => 'q in', 'profimport.result_queue' => 'q out');
imports('quorum queues', queue => 'q in', results => 'q out');
is(queue('q in')->{arguments}{'x-queue-type'}, 'quorum', 'the import queue');
is(queue('q out')->{arguments}{'x-queue-type'}, 'quorum', 'the result queue');
is(queue('q out')->{arguments}{'x-message-ttl'}, 86_400_000, 'with TTL');

# ---- declare_queues off

$node->set(
	'profimport.declare_queues' => 'off',
	'profimport.queue_type' => undef,
	'profimport.import_queue' => 'nobody made it',
	'profimport.result_queue' => undef);
$node->wait_state('error');
like($node->worker->{last_error}, qr/"nobody made it" does not exist/, 'declare_queues off: a missing queue is an error');
ok(!$amqp->exists('nobody made it'), 'and not declared');
$amqp->declare('nobody made it');
imports('made by hand', queue => 'nobody made it');
$node->set('profimport.declare_queues' => undef, 'profimport.import_queue' => undef);
imports('default again');

# ---- results to the import queue: refused

$node->set('profimport.result_queue' => 'database_import');
$node->wait_state('backoff');
like($node->worker->{last_error}, qr/results would be imported/, 'result_queue = import_queue is refused');
$node->set('profimport.result_queue' => undef);
imports('and back');
is($node->worker->{pid}, $pid, 'all of that without a new process');

# ---- workers

$node->set('profimport.workers' => 3);
$node->poll('three workers', "SELECT count(*) FROM profimport.stat_worker WHERE state = 'idle'", 3);
is($amqp->consumers('database_import'), 3, 'three consumers');
$node->set('profimport.workers' => 1);
poll_until { my $n = $amqp->consumers('database_import'); ($n == 1, "$n consumers") } 'one consumer again';

# ---- the password file

my $file = $node->data_dir . '/broker.pass';
PostgreSQL::Test::Utils::append_to_file($file, "guest\n");
chmod 0600, $file or die "chmod: $!";
(my $wrong = $broker->url($vhost)) =~ s/guest:guest/guest:wrong/;
$node->set('profimport.amqp_url' => $wrong);
$node->wait_state('backoff');
like($node->worker->{last_error}, qr/ACCESS_REFUSED|refused/i, 'a wrong password is told');
unlike($node->worker->{last_error}, qr/wrong/, 'but not which');
$node->set('profimport.amqp_password_file' => $file);
imports('password file');
chmod 0644, $file or die "chmod: $!";
$broker->close_connections($vhost, '^profimport postgres');
$node->poll('a file that others can read is refused', 'SELECT last_error FROM profimport.stat_worker', qr/mode must be 0600/);
chmod 0600, $file or die "chmod: $!";
imports('the right mode');

done_testing();
