# examples/producer.py, as a user would run it: results come back to whom they belong, a run that is
# repeated writes nothing twice, and what belongs to others stays on the queue.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Utils ();
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('examples');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('examples', url => $broker->url($vhost));
my $examples = "$FindBin::RealBin/../examples";
my $json = JSON::PP->new->utf8->canonical;

$node->configure(1, 1, fields => { visits => { type => 'int' } });
$node->wait_state('idle');

# Exit status, and the lines of its answer by key.
sub produce
{
	my ($file) = @_;
	my ($out, $err, %answer) = ('', '');

	IPC::Run::run([ "$examples/producer.py", $broker->url($vhost) ], '<', $file, '>', \$out, '2>', \$err);
	my $status = $? >> 8;
	note $err if $err;
	for (split /\n/, $out)
	{
		my ($key, $outcome, $result) = split / /, $_, 3;
		$answer{$key} = { outcome => $outcome, result => $json->decode($result) };
	}
	return ($status, \%answer);
}

sub outbox
{
	my %messages = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/outbox.tsv';

	open(my $fh, '>:raw', $file) or die "$file: $!";
	print $fh "$_\t", $json->encode(message(%{ $messages{$_} })), "\n" for sort keys %messages;
	close($fh);
	return $file;
}

# a result of somebody else waits there first
$amqp->publish('database_import', $json->encode(message(email => 'other@example.com', feedback_id => 'other')));
poll_until { ($amqp->count('database_import_result') // 0) == 1 } 'the result of somebody else';

my ($status, $answer) = produce("$examples/outbox.tsv");
is($status, 1, 'a message failed, and the status says so');
is_json(
	[ map { $answer->{"order-$_"}{outcome} } 1001 .. 1003 ],
	[ 'created', 'created', 'failed' ],
	'the outcome of each message');
is($answer->{'order-1003'}{result}{error}, 400, 'the code of the failed one');
is($answer->{'order-1001'}{result}{profile_id},
	$node->sql("SELECT profile_id FROM profimport.profile WHERE email = 'example\@example.com'"),
	'the result names the profile');
is_json(
	$node->row('SELECT headers FROM profimport.import_error')->{headers},
	{ content_type => 'application/json', delivery_mode => 2, message_id => 'order-1003', correlation_id => 'order-1003' },
	'persistent, with an identity');

my %visits = (map { ("visit-$_" => { email => 'visitor@example.com', data => { visits => { action => 'incr', value => 1 } } }) } 1 .. 3);
my $visits = outbox(%visits);
($status, $answer) = produce($visits);
is($status, 0, 'all succeeded');
my ($again, $same) = produce($visits);
is($again, 0, 'all are answered when the run is repeated');
is_json($same, $answer, 'with the same results');
is($node->sql("SELECT data->>'visits' FROM profimport.profile WHERE email = 'visitor\@example.com'"), 3, 'and none was applied twice');

# by now everything of ours is acknowledged, and nothing else
poll_until { $amqp->count('database_import_result') == 1 } 'the result of somebody else is back';
my ($other) = $amqp->results(1);
is($other->{json}{feedback_id}, 'other', 'the result of somebody else is left to them');

# without a queue the message is not lost silently
$node->stop;
$amqp->delete('database_import');
($status, $answer) = produce($visits);
is($status, 1, 'a message that no queue takes is an error');
is_json($answer, {}, 'and has no answer');

done_testing();
