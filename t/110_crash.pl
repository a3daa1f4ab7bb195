# A worker that dies at each of the places where it hurts: every effect once,
# every result delivered.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::CrashBuild;
use ProfImport::Test;

use constant MESSAGES => 600;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('crash');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'crash',
	url => $broker->url($vhost),
	install_path => ProfImport::CrashBuild->install,
	conf => { 'profimport.batch_size' => 50, 'profimport.crash_point' => '' });

$node->configure(1, 1, fields => { points => { type => 'int' } });
$node->wait_state('idle');

my $sum = 0;
my $round = 0;

# Publishes messages that add, lets the worker die, looks at sum and results.
sub survive
{
	my ($what, $point, $make, %options) = @_;
	my $n = $options{messages} // MESSAGES;

	$round++;
	ProfImport::CrashBuild->arm($node, $point);
	$amqp->publish_many('database_import', [ map { { body => $make->($_), correlation_id => "$round-$_" } } 1 .. $n ])
	  unless $options{same};
	$amqp->publish_many('database_import', [ map { { body => $make->(1), correlation_id => "$round-1" } } 1 .. $n ])
	  if $options{same};
	ProfImport::CrashBuild->wait_for_crash($node);
	$node->wait_state('idle');
	$node->wait_settled;

	my (%by_correlation, %by_id);
	for my $r ($amqp->drain('database_import_result'))
	{
		$by_correlation{ $r->{correlation_id} }{ $r->{message_id} }++;
		$by_id{ $r->{message_id} }++;
	}
	$sum += $n;
	is($node->sql("SELECT sum((data->>'points')::bigint) FROM profimport.profile"), $sum, "$what: every effect once")
	  or BAIL_OUT('a sum is wrong, so the ones after it are');
	if ($options{same})
	{
		is(scalar(keys %by_id), $n, "$what: a result for each");
	}
	else
	{
		is(scalar(keys %by_correlation), $n, "$what: every message is answered");
		is(scalar(grep { keys %$_ > 1 } values %by_correlation), 0, "$what: and under one message_id");
	}
	my $twice = grep { $_ > 1 } values %by_id;
	note "$what: $twice results came twice";
	is($twice, 0, "$what: none twice") if $options{once};
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: no error");
	my ($queue) = grep { $_->{name} eq 'database_import' } @{ $broker->queues($vhost) };
	is($queue->{messages}, 0, "$what: the queue is empty");
	$node->poll('an empty journal', 'SELECT count(*) FROM profimport.batch', 0);
	return;
}

my $profile = sub { return 'p' . ($_[0] % 40) . '@example.com' };
my $add = { points => { action => 'incr', value => 1 } };
my $with_id = sub { return message(email => $profile->($_[0]), feedback_id => "$round-$_[0]", data => $add) };
my $without_id = sub { return message(email => $profile->($_[0]), data => $add) };

for my $point (qw(after-receive before-commit before-publish before-ack before-confirm before-forget))
{
	survive("$point, killed", "$point kill", $with_id);
	survive("$point, killed, no identity", "$point kill", $without_id);
	survive("$point, terminated", "$point exit", $without_id);
}

# A large batch is acknowledged before its results are sent, and not after as the small ones above.
$node->set('profimport.batch_size' => 300);
survive("$_, large batches", "$_ kill", $without_id) for qw(before-ack before-publish);
$node->set('profimport.batch_size' => 50);

# One batch: nothing else was on its way, so nothing may come twice.
survive("$_, one batch", "$_ kill", $without_id, messages => 40, once => 1)
  for qw(before-commit before-publish);

# Equal in body and properties: they are counted.  (Once an acknowledgement is
# under way it cannot be known which of several equal messages comes back.)
survive("$_, equal messages", "$_ kill", $without_id, same => 1) for qw(before-commit before-ack);

# The server dies, not only the worker.
$node->set('profimport.crash_point' => 'before-ack wait');
ProfImport::CrashBuild->arm($node, 'before-ack wait');
$amqp->publish_many('database_import', [ map { { body => $without_id->($_), correlation_id => "s$_" } } 1 .. 200 ]);
ProfImport::CrashBuild->wait_for_crash($node);
$node->stop('immediate');
$node->start;
$node->set('profimport.crash_point' => '');
$node->wait_settled;
$sum += 200;
is($node->sql("SELECT sum((data->>'points')::bigint) FROM profimport.profile"), $sum, 'server: every effect once');
my %answered = map { $_->{correlation_id} => 1 } $amqp->drain('database_import_result');
is(scalar(keys %answered), 200, 'server: every message is answered');

done_testing();
