# A standby does nothing; promoted, it goes on where the primary was stopped:
# what comes again is recognised, results that were not confirmed go out.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

use constant N => 60;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('standby');
my $amqp = $broker->client($vhost);
my $relay = ProfImport::Relay->new($broker->port);

# A queue that takes nothing, so that results stay in the database.
sub refuse_results
{
	$amqp->delete('database_import_result');
	$amqp->declare('database_import_result',
		arguments => { 'x-max-length' => 0, 'x-overflow' => 'reject-publish' });
	return;
}

my $primary = ProfImport::Node->create(
	'primary',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	init => [ allows_streaming => 1 ],
	conf => { 'profimport.batch_size' => 1000 });

$primary->configure(1, 1, fields => { points => { type => 'int' } });
$primary->wait_state('idle');

$primary->backup('base');
my $standby = ProfImport::Node->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "profimport.amqp_url = '" . $broker->url($vhost) . "'");
$standby->start;

sub publish
{
	my ($name) = @_;

	# Without identity: only the record can tell what was applied.
	return $amqp->publish_many(
		'database_import',
		[
			map {
				{
					body => message(
						email => 'p' . $_ % 7 . '@example.com',
						data => { points => { action => 'incr', value => 1 } }),
					correlation_id => "$name-$_"
				}
			} 1 .. N
		]);
}

sub sum { return $_[0]->sql("SELECT coalesce(sum((data->>'points')::int), 0) FROM profimport.profile") }

sub is_answered
{
	my ($what, @names) = @_;
	my (%ids, %correlations);

	poll_until {
		for my $r ($amqp->drain('database_import_result', quiet => 0.2))
		{
			$correlations{ $r->{correlation_id} }{ $r->{message_id} } = 1;
			$ids{"$r->{json}{error}"}++;
		}
		(keys %correlations >= @names * N, scalar keys %correlations);
	}
	"results of @names";
	my @expected = map { my $name = $_; map { "$name-$_" } 1 .. N } @names;
	is_json([ sort keys %correlations ], [ sort @expected ], "$what: each message is answered");
	is(scalar(grep { keys %$_ > 1 } values %correlations), 0, "$what: under one message_id");
	is(join(' ', keys %ids), '0', "$what: with success");
	return;
}

# ---- while it is a standby

publish('first');
is_answered('primary', 'first');
$primary->wait_settled;
$primary->wait_for_catchup($standby);
is(sum($standby), N, 'standby: profiles are replicated');
is($standby->sql('SELECT pg_is_in_recovery()'), 't', 'standby: it is one');
is($standby->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'profimport'"), 0, 'standby: no process of ours');
is_json([ map { $_->{pid} } $standby->workers ], [undef], 'standby: the views can be read');
like($standby->worker->{state}, qr/^(stopped|waiting)$/, 'standby: stat_worker says that nothing runs');
my $connections = grep { ($_->{user_provided_name} // '') =~ /^profimport postgres/ } @{ $broker->connections($vhost) };
is($connections, 2, 'standby: the connections are those of the primary');
my ($status, undef, $stderr) =
  $standby->try(q{SELECT profimport.import('{"account_id":1,"db_id":1,"email":"a@example.com","data":{}}')});
isnt($status, 0, 'standby: import() is refused');
like($stderr, qr/read-only|recovery/, 'standby: for what it is');
is($standby->sql('SELECT count(*) FROM profimport.check()') > 5, 1, 'standby: check() works');

# ---- results that nobody took

refuse_results();
publish('pending');
$primary->poll('pending results', 'SELECT results_pending FROM profimport.stat_worker WHERE worker = 1', N);
poll_until { !grep { $_->{name} eq 'database_import' && $_->{messages} } @{ $broker->queues($vhost) } }
'an empty queue';
is(sum($primary), 2 * N, 'refused results: the messages are applied');

# ---- applied, and the broker does not know it

my $holder = $primary->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM profimport.profile FOR UPDATE');
publish('again');
# The queue is empty once they are all on their way through the relay.
poll_until { my $n = $amqp->count('database_import'); ($n == 0, $n) } 'deliveries';
$primary->poll('a batch that waits',
	q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'}, 1);
$relay->stall;
$holder->query_safe('COMMIT');
$holder->quit;
$primary->poll('the commit', "SELECT sum((data->>'points')::int) >= 2 * ${\N} + 1 FROM profimport.profile", 't');
my $applied = sum($primary) - 2 * N;
note "$applied messages were applied without an acknowledgement";
$primary->wait_for_catchup($standby);
$applied = sum($standby) - 2 * N;
cmp_ok($applied, '>=', 1, 'the record of what was applied is replicated');
my ($import) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
is($import->{messages_unacknowledged}, N, 'and the broker has no acknowledgement');
$primary->stop('immediate');
$relay->cut;

is($standby->sql('SELECT oldest_pending_result IS NOT NULL FROM profimport.status'), 't', 'standby: status knows of pending results');
$standby->promote;
$standby->poll('a worker', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'}, 1);
pass('promoted: a worker runs');
poll_until { !grep { $_->{name} eq 'database_import' && $_->{messages} } @{ $broker->queues($vhost) } } 'an empty queue';
is(sum($standby), 3 * N, 'promoted: what came again is recognised');

# Now there is a queue that takes results.
$amqp->delete('database_import_result');
is_answered('promoted', qw(pending again));
$standby->wait_settled;
is($standby->worker->{redelivered} >= $applied, 1, 'promoted: they were redelivered');
$standby->poll('an empty journal', 'SELECT count(*) FROM profimport.batch', 0);

publish('new');
is_answered('promoted, new messages', 'new');
is(sum($standby), 4 * N, 'promoted: new messages are imported');
is($standby->sql('SELECT count(*) FROM profimport.import_error'), 0, 'no error on the way');

done_testing();
