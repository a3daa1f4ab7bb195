# stat_minute: the same numbers as the other views, by minute, from several
# workers; kept over a worker's end, gone after stat_reset().

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::CrashBuild;
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('minutes');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'minutes',
	url => $broker->url($vhost),
	conf => { 'profimport.workers' => 3, 'profimport.batch_size' => 10 });
my $sums = 'sum(messages), sum(succeeded), sum(failed), sum(redelivered), sum(duplicates), sum(batches),'
  . ' sum(results_published), sum(trigger_events), sum(connects)';

$node->configure(1, 1, fields => { n => { type => 'int' } });
$node->wait_settled;
is($node->sql('SELECT sum(connects), sum(messages) FROM profimport.stat_minute'), '3|0', 'connected, nothing imported');
my $began = $node->sql('SELECT min(minute) FROM profimport.stat_minute');

# ---- all kinds of outcomes, through three workers

sub load
{
	my ($round) = @_;
	my @messages = (
		(map { { body => message(email => "$round$_\@example.com", data => { n => 1 }), message_id => "$round$_" } } 1 .. 200),
		(map { { body => message(email => "none\@example.com", data => { nosuch => $_ }) } } 1 .. 30));

	$amqp->publish_many('database_import', \@messages);
	$amqp->results(230);
	# a repeat of each, one that changes nothing, one that changes something
	$amqp->publish_many('database_import',
		[ map { ($messages[ $_ - 1 ], { body => message(email => "$round$_\@example.com", data => { n => 1 }) }, { body => message(email => "$round$_\@example.com", data => { n => 2 }) }) } 1 .. 50 ]);
	$amqp->results(150);
	$node->wait_settled;
	return;
}

sub agree
{
	my ($what) = @_;

	# what is counted after the result is on its way: the confirm
	is($node->sql("SELECT $sums FROM profimport.stat_minute"),
		$node->sql("SELECT $sums FROM profimport.stat_worker"), "$what: as many as in stat_worker");
	is( $node->sql('SELECT sum(created), sum(updated), sum(unchanged), sum(failed) FROM profimport.stat_minute'),
		$node->sql("SELECT sum(messages) FILTER (WHERE outcome = 'created'), sum(messages) FILTER (WHERE outcome = 'updated'),"
			  . " sum(messages) FILTER (WHERE outcome = 'unchanged'), sum(messages) FILTER (WHERE outcome = 'failed') FROM profimport.stat_result"),
		"$what: as many as in stat_result");
	return;
}

load('a');
agree('one load');
is($node->sql('SELECT sum(messages), sum(created), sum(updated) + sum(unchanged), sum(failed), sum(duplicates), sum(results_published) FROM profimport.stat_minute'),
	'380|200|100|30|50|380', 'one load: what was sent');
is($node->sql('SELECT count(*) FROM profimport.stat_worker WHERE batches > 0') > 1 ? 1 : 0, 1, 'several workers took part');
is($node->sql("SELECT bool_and(minute = date_trunc('minute', minute) AND minute BETWEEN '$began' AND now()) FROM profimport.stat_minute"),
	't', 'minutes, those of the test');
is($node->sql('SELECT count(*) - count(DISTINCT minute) FROM profimport.stat_minute'), 0, 'one row each');
is( $node->sql('SELECT bool_and(longest_batch_ms > 0 AND longest_batch_ms <= import_ms AND import_ms <= batches * longest_batch_ms)'
	  . ' FROM profimport.stat_minute WHERE batches > 0'),
	't', 'times fit each other');
is($node->sql('SELECT max(longest_batch_ms) >= max(last_batch_ms) FROM profimport.stat_worker, profimport.stat_minute'), 't', 'no batch was longer');

# ---- not counted: what no worker did

$node->import(message(email => 'sql@example.com'));
is($node->sql('SELECT sum(messages) FROM profimport.stat_minute'), 380, 'import() is not among them');
$node->sql('SELECT profimport.stat_reset()');
is($node->sql('SELECT count(*) FROM profimport.stat_minute'), 0, 'stat_reset() leaves none');

# ---- a worker's end, and transactions that fail as a whole

load('b');
my $before = $node->sql("SELECT $sums FROM profimport.stat_minute");
my @pids = map { $_->{pid} } $node->workers;
$node->sql('SELECT pg_terminate_backend(pid) FROM profimport.stat_worker');
$node->poll('other processes, connected', 'SELECT count(*) FROM profimport.stat_worker WHERE NOT pid IN ('
	  . join(',', @pids) . ") AND state = 'idle'", 3);
is($node->sql("SELECT $sums FROM profimport.stat_minute") =~ s/\|\d+\z//r, $before =~ s/\|\d+\z//r, 'they survive the worker');
agree('after a restart of the workers');

is($node->sql('SELECT sum(retries) FROM profimport.stat_minute'), 0, 'no retry yet');
$node->sql(q{
CREATE TABLE lame ();
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_tables WHERE tablename = 'lame') THEN
		RAISE 'not now' USING ERRCODE = 'serialization_failure';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON profimport.profile FOR EACH ROW EXECUTE FUNCTION fail()});
$amqp->publish('database_import', message(email => 'late@example.com'));
$node->poll('retries', 'SELECT sum(retries) > 1 FROM profimport.stat_minute', 't');
$node->sql('DROP TABLE lame');
my ($late) = $amqp->results(1);
is($late->{json}{error}, 0, 'imported in the end');
$node->wait_settled;
agree('after retries');
$node->stop;

# ---- a day is over, in a build whose days have three minutes of two seconds

$vhost = $broker->new_vhost('days');
$amqp = $broker->client($vhost);
my $short = ProfImport::Node->create('days', url => $broker->url($vhost), install_path => ProfImport::CrashBuild->install);
$short->configure(1, 1);
$short->wait_settled;
my $many = 300;
$amqp->publish_many('database_import', [ map { { body => message(email => "x$_\@example.com") } } 1 .. $many ]);
$amqp->results($many);
$short->poll('the day is over', 'SELECT count(*) FROM profimport.stat_minute', 0);
is($short->worker->{messages}, $many, 'stat_worker still counts it');

# Every cell of the ring is used again, and has nothing of the day before.
my ($sent, %seen, @wrong) = (0);
poll_until {
	$amqp->publish('database_import', message(email => 'y@example.com'));
	$sent++;
	my @rows = $short->rows('SELECT extract(epoch FROM minute)::bigint / 2 % 3 AS cell, messages FROM profimport.stat_minute WHERE messages > 0');
	$seen{ $_->{cell} } = 1 for @rows;
	push @wrong, grep { $_->{messages} > $sent } @rows;
	(keys %seen == 3, join ' ', keys %seen);
}
'every cell is used again';
is(scalar(@wrong), 0, 'cells begin at zero');
cmp_ok($short->sql('SELECT count(*) FROM profimport.stat_minute'), '<=', 3, 'no more minutes than a day has');

done_testing();
