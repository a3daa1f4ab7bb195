# The queue of results vanishes while the result of a message and that of its repeat, which have one message_id, are on
# their way: both come back, and both are sent again, each under the correlation_id that its sender waits for.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('returned');
my $relay = ProfImport::Relay->new($broker->port);
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'returned',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	conf => { 'profimport.reconnect_delay_max' => '200ms' });

$node->configure(1, 1, fields => { n => { type => 'int' } });
$node->wait_settled;

my $body = message(email => 'a@example.com', data => { n => { action => 'incr', value => 1 } });
my @callers = qw(first second third);
my $lock = $node->background_psql('postgres');

$lock->query_safe('BEGIN; LOCK TABLE profimport.profile IN SHARE MODE');
$amqp->publish('database_import', $body, message_id => 'one', correlation_id => $_) for @callers;
$node->poll('the import waits',
	q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'), 1);
poll_until {
	my ($queue) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
	($queue->{messages_unacknowledged} == @callers, $queue->{messages_unacknowledged});
} 'all are delivered';
$broker->delete_queue($vhost, 'database_import_result');
$relay->stall;
$lock->query_safe('COMMIT');
$lock->quit;
$node->poll('all results are written', 'SELECT coalesce(sum(pending), 0) FROM profimport.batch', scalar @callers);
$node->poll('and sent', q(SELECT state FROM profimport.stat_worker), 'idle');
$relay->pass;

my @results = $amqp->results(scalar @callers);
is(join(' ', sort map { $_->{correlation_id} } @results), join(' ', sort @callers), 'each caller is answered');
is(scalar(keys %{ { map { $_->{message_id} => 1 } @results } }), 1, 'under one message_id');
is(scalar(keys %{ { map { $_->{body} => 1 } @results } }), 1, 'with one result');
$node->wait_settled;
is($amqp->count('database_import_result'), 0, 'nobody twice');
is($node->sql(q(SELECT data->>'n' FROM profimport.profile)), 1, 'it is applied once');

done_testing();
