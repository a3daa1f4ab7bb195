# The life of a message: from the queue to a profile, a result and the views.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('life');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('life', url => $broker->url($vhost));

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

# ---- what the worker sets up

my %queues = map { $_->{name} => $_ } @{ $broker->queues($vhost) };
is_json([ sort keys %queues ], [ 'database_import', 'database_import_result' ], 'both queues are declared');
is($queues{$_}{durable}, JSON::PP::true, "$_ is durable") for sort keys %queues;

# a list of [name, type, value]
my %arguments = map { my $q = $_; ($q => { map { $_->[0] => $_->[2] } @{ $queues{$q}{arguments} } }) } keys %queues;
is($arguments{database_import}{'x-message-ttl'}, undef, 'messages to import do not expire');
is($arguments{database_import_result}{'x-message-ttl'}, 86_400_000, 'results live 24 hours');
is_json(
	[ sort map { $_->{user_provided_name} } grep { ($_->{user_provided_name} // "") =~ /^profimport/ } @{ $broker->connections($vhost) } ],
	[ 'profimport postgres worker 1 consume', 'profimport postgres worker 1 publish' ],
	'two connections with names');
like($broker->consumers($vhost)->[0]{consumer_tag},
	qr/profimport/, 'the consumer tag says profimport');

# ---- one message, as the format's own example has it

my $example = '{"account_id":1,"data":{"_fname":"John","_lname":"Doe"},"db_id":1,"email":"example@example.com",'
  . '"feedback_id":"abcdefghijklmnqrstuvwxyz","update_only":true}';

$amqp->publish('database_import', $example);
my ($result) = $amqp->results(1);
is($result->{json}{error}, 404, 'no profile yet');

$amqp->publish('database_import', message(email => 'example@example.com'), correlation_id => 'c1', message_id => 'm1');
($result) = $amqp->results(1);
is($result->{json}{error}, 0, 'created') or diag $result->{body};
my $id = $result->{json}{profile_id};
like($id, qr/\A[0-9a-f]{24}\z/, 'a profile id');
is($result->{headers}{outcome}, 'created', 'header outcome');
is($result->{correlation_id}, 'c1', "the input's correlation_id");

$amqp->publish('database_import', $example);
($result) = $amqp->results(1);
is_json(
	$result->{json},
	{ error => 0, error_text => '', feedback_id => 'abcdefghijklmnqrstuvwxyz', matching_field => 'email', profile_id => $id },
	'the example gives its result');
is($result->{delivery_mode}, 2, 'persistent');
is($result->{content_type}, 'application/json', 'content_type');
is($result->{app_id}, 'profimport', 'app_id');
is($result->{expiration}, '86400000', 'expiration');
is($result->{correlation_id}, 'abcdefghijklmnqrstuvwxyz', 'the feedback_id serves as correlation_id');
is($result->{headers}{outcome}, 'updated', 'header outcome');
ok($result->{message_id}, 'a message_id');

$amqp->publish('database_import', $example, message_id => 'only an id');
($result) = $amqp->results(1);
is($result->{correlation_id}, 'only an id', 'the message_id serves as correlation_id');
is($result->{headers}{outcome}, 'unchanged', 'nothing to change');

# ---- ten thousand, published while the worker is away, some bad

$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
my $before = $node->row('SELECT sum(messages)::int AS n FROM profimport.stat_result')->{n};
my $errors_before = $node->sql('SELECT count(*) FROM profimport.import_error');
my (@messages, %expected);
my %bad = (
	1 => [ 400, 'not JSON' ],
	2 => [ 400, message(email => 'x@example.com', data => { nosuch => 1 }) ],
	3 => [ 400, message(email => 'x@example.com', data => { points => 'many' }) ],
	4 => [ 404, message(email => 'x@example.com', db_id => 77) ],
	5 => [ 400, '{"account_id":1,"db_id":1,"email":"x@example.com","feedback_id":"%s","data":{"_fname":"a\u0000b"}}' ],
	6 => [ 400, 'x' x 2_000_000 ]);

for my $i (1 .. 10_000)
{
	my $feedback_id = "f$i";
	my ($error, $body) = (0, undef);

	if ($i % 500 >= 1 && $i % 500 <= 6 && ($i % 500 != 6 || $i < 3000))
	{
		($error, my $template) = @{ $bad{ $i % 500 } };
		if (ref $template)
		{
			$body = JSON::PP->new->utf8->canonical->encode({ %$template, feedback_id => $feedback_id });
		}
		else
		{
			$body = $template;
			$feedback_id = '' unless $body =~ s/%s/$feedback_id/;
		}
	}
	else
	{
		$body = JSON::PP->new->utf8->canonical->encode(
			message(
				email => 'u' . ($i % 3000) . '@example.com',
				feedback_id => $feedback_id,
				data => { points => { action => 'incr', value => 1 } }));
	}
	push @messages, { body => $body, correlation_id => "c$i" };
	$expected{"c$i"} = [ $error, $feedback_id ];
}
$amqp->publish_many('database_import', \@messages);
is($amqp->count('database_import'), 10_000, 'published');
$node->set('profimport.enabled' => undef);

my @results = $amqp->results(10_000);
my (%ids, @wrong);
for my $r (@results)
{
	my $e = delete $expected{ $r->{correlation_id} };

	$ids{ $r->{message_id} }++;
	push @wrong, "$r->{correlation_id}: $r->{body}"
	  unless $e && $r->{json}{error} == $e->[0] && $r->{json}{feedback_id} eq $e->[1];
}
is(scalar(@wrong), 0, 'each with the right code') or diag join "\n", @wrong[0 .. ($#wrong < 9 ? $#wrong : 9)];
is(scalar(keys %expected), 0, 'every message is answered');
is(scalar(keys %ids), 10_000, 'ten thousand distinct message_ids');
ok(!(grep { $results[$_]{correlation_id} ne 'c' . ($_ + 1) } 0 .. $#results), 'in the order of the queue');
$node->wait_settled;
is(scalar($amqp->drain('database_import_result')), 0, 'no result more');
my ($queue) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
is($queue->{messages}, 0, 'the queue is empty, nothing unacknowledged');

my $bad = grep { $_->{json}{error} } @results;
is($node->sql('SELECT count(*) FROM profimport.import_error') - $errors_before, $bad, 'every bad one is in import_error');
is( $node->sql('SELECT count(*) FROM profimport.import_error WHERE octet_length(body) = 1024 * 1024'),
	6, 'large bodies are cut at max_message_size');
is($node->sql("SELECT sum((data->>'points')::int) FROM profimport.profile"), 10_000 - $bad, 'every good one counts once');
my @lines = $node->errors;
is(scalar(@lines), $node->sql('SELECT count(*) FROM profimport.import_error'), 'and in the file log');

# ---- what the views say

is( $node->row('SELECT sum(messages)::int AS n FROM profimport.stat_result')->{n} - $before,
	10_000, 'stat_result counts all of them');
my $worker = $node->worker;
is($worker->{messages}, 10_004, 'so does stat_worker');
is($worker->{failed}, $bad + 1, 'and the failed ones');
is($worker->{results_published}, 10_004, 'and the results');
cmp_ok($worker->{batches}, '<', 200, 'in batches');
is($node->row('SELECT queue_messages AS n FROM profimport.status')->{n}, 0, 'status tells the depth of the queue');
$node->poll('an empty journal', 'SELECT count(*) FROM profimport.batch', 0);
is( $node->sql("SELECT application_name || ' ' || state FROM pg_stat_activity WHERE backend_type = 'profimport worker'"),
	'profimport idle', 'pg_stat_activity shows the worker idle, by its name');
$node->poll(
	'statistics of the tables',
	"SELECT n_tup_ins >= (SELECT count(*) FROM profimport.profile) FROM pg_stat_user_tables"
	  . " WHERE relid = 'profimport.profile'::regclass",
	't');

done_testing();
