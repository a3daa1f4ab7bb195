# profimport.trigger_queue: events go to the broker instead of the table, from the worker as well as from import().

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('events');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('main', url => $broker->url($vhost), conf => { 'profimport.workers' => 0, 'profimport.trigger_queue' => 'triggers' });
$node->configure(1, 1, fields => { n => { type => 'int' } }, resources => { 10 => {} });

# import() without a worker: kept in the database, not in the table
my $made = $node->import(message(email => 'a@example.com', feedback_id => 'f', data => { n => 1 }));
is($made->{error}, 0, 'imported');
is($node->import(message(email => 'a@example.com', data => { n => 2 }, skip_triggers => json_true))->{error}, 0, 'skip_triggers');
is($node->import(message(email => 'a@example.com', data => { n => 3 }), dry_run => 1)->{error}, 0, 'a dry run');
is($node->import(message(email => 'a@example.com', data => { n => 'x' }))->{error}, 400, 'a failure');
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 0, 'no row in the table');

$node->set('profimport.workers' => 1);
poll_until { $amqp->exists('triggers') } 'the queue, declared by the worker';
my ($event) = $amqp->consume('triggers', 1);
is($event->{type}, 'profile_created', 'type is the kind');
is($event->{delivery_mode}, 2, 'persistent');
is($event->{content_type}, 'application/json', 'JSON');
is($event->{app_id}, 'profimport', 'app_id');
ok($event->{message_id}, 'a message_id');
my @columns = split /\n/, $node->sql(q{SELECT attname FROM pg_attribute WHERE attrelid = 'profimport.trigger_event'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname});
is_deeply([ sort keys %{ $event->{json} } ], \@columns, 'the row: every column is a key');
is_json({ map { $_ => $event->{json}{$_} } qw(kind account_id db_id profile_id subscription_no resource_id channel changes feedback_id) },
	{ kind => 'profile_created', account_id => 1, db_id => 1, profile_id => $made->{profile_id}, subscription_no => undef, resource_id => undef, channel => undef,
		changes => { email => 'a@example.com', n => 1 }, feedback_id => 'f' }, 'what it says');

# through the queue
$amqp->publish_many('database_import', [ map { { body => JSON::PP->new->encode($_) } }
	message(email => 'b@example.com', data => { n => 1, subscriptions => [ { resource_id => 10, channel => 'email', email => 'b@example.com' } ] }),
	message(email => 'b@example.com', data => { n => 1 }),
	message(email => 'b@example.com', data => { n => 2, subscriptions => [ { resource_id => 10, channel => 'email', email => 'b@example.com', status => 1 } ] }),
	message(email => 'b@example.com', data => { n => 'x' }) ]);
my @results = $amqp->results(4);
is(join(' ', map { $_->{headers}{outcome} } @results), 'created unchanged updated failed', 'the results');
my @events = $amqp->consume('triggers', 4);
is(join(' ', map { $_->{type} } @events), 'profile_created subscription_created profile_updated subscription_updated', 'four events, in order');
is_json($events[3]{json}{changes}, { status => 1 }, 'changes');
is($events[1]{json}{channel}, 'email', 'channel');
my %seen;
is(scalar(grep { $seen{ $_->{message_id} }++ } $event, @events), 0, 'every message_id is another');
$node->wait_settled;
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 0, 'nothing in the table');
is($amqp->count('triggers'), 0, 'nothing more in the queue');

# a rollback sends nothing; back to the table
$node->sql(q{BEGIN; SELECT profimport.import('{"account_id":1,"db_id":1,"data":{"n":9},"email":"b@example.com"}'); ROLLBACK});
$node->set('profimport.trigger_queue' => '');
$node->poll('no queue', 'SHOW profimport.trigger_queue', '');
$node->import(message(email => 'b@example.com', data => { n => 10 }));
is($node->sql('SELECT kind FROM profimport.trigger_event'), 'profile_updated', 'in the table again');
$node->wait_settled;
is($amqp->count('triggers'), 0, 'and not in the queue');

# the queue is given up and deleted with events pending: they go there all the same
$node->set('profimport.workers' => 0, 'profimport.trigger_queue' => 'triggers');
$node->poll('no worker', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'", 0);
$node->poll('the queue again', 'SHOW profimport.trigger_queue', 'triggers');
$node->import(message(email => 'b@example.com', data => { n => 11 }));
$amqp->delete('triggers');
$node->set('profimport.workers' => 1, 'profimport.trigger_queue' => '');
poll_until { $amqp->exists('triggers') } 'the queue is declared for what is left';
my ($last) = $amqp->consume('triggers', 1);
is_json($last->{json}{changes}, { n => 11 }, 'an event of before');
$node->wait_settled;

done_testing();
