# Equal messages without any identity, and ends in order: every one of them
# is a message.  What was delivered and not imported comes back flagged
# redelivered, and must not be taken for one that was imported.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $n      = 6000;
my $broker = ProfImport::Broker->shared;
my $vhost  = $broker->new_vhost('equal');
my $amqp   = $broker->client($vhost);
my $node   = ProfImport::Node->create('equal', url => $broker->url($vhost),
	conf => { 'profimport.batch_size' => 50, 'profimport.prefetch' => 500, 'profimport.enabled' => 'off' });
$node->configure(1, 1, fields => { points => { type => 'int' } });
$amqp->declare('database_import');

my $message = message(email => 'one@example.com', data => { points => { action => 'incr', value => 1 } });

# What is done once some hundred messages are through, and again later.
my %ends = (
	'pg_terminate_backend' => sub { $node->sql('SELECT pg_terminate_backend(pid) FROM profimport.stat_worker WHERE pid IS NOT NULL') },
	'a reload that reconnects' => sub { my ($i) = @_; $node->set('profimport.heartbeat' => 50 + $i) },
	'more and fewer workers' => sub { my ($i) = @_; $node->set('profimport.workers' => $i % 2 ? 3 : 1) },
	'off and on' => sub { $node->set('profimport.enabled' => 'off'); $node->wait_state('disabled'); $node->set('profimport.enabled' => 'on') },
);

for my $end (sort keys %ends)
{
	$node->sql('DELETE FROM profimport.profile');
	$amqp->publish_many('database_import', [ map { { body => $message } } 1 .. $n ]);
	$node->set('profimport.enabled' => 'on');
	for my $i (1 .. 4)
	{
		my $mark = $i * 900;
		$node->poll("$mark messages", "SELECT coalesce(max((data->>'points')::int), 0) >= $mark FROM profimport.profile", 't');
		$ends{$end}->($i);
	}
	$amqp->results($n);
	is($node->sql("SELECT data->>'points' FROM profimport.profile"), $n, "$end: every message counts once");
	is($amqp->count('database_import'), 0, "$end: the queue is empty");
	$node->set('profimport.enabled' => 'off', 'profimport.workers' => 1);
	$node->wait_state('disabled');
}
done_testing();
