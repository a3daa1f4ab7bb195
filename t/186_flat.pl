# A worker that runs for long: neither its memory nor its file descriptors grow, with messages of
# every kind and with connections that come and go.
#
# PROFIMPORT_LONG=1 makes it a million messages and a thousand reconnects (some ten minutes).

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Relay;
use ProfImport::Test;

my $long = $ENV{PROFIMPORT_LONG};
my $WAVES = 5;
my $WAVE = $long ? 200_000 : 8000;
my $CUTS = $long ? 1000 : 200;
my $CLOSED = 5;

# What malloc keeps of a burst varies by some hundred kB; 100 bytes lost per message would be 2.4 MB,
# and a kB per reconnect is more than malloc's own unevenness there.
my $GROWTH_KB = 1024;
my $RECONNECT_KB = 192;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('flat');
my $amqp = $broker->client($vhost);
my $relay = ProfImport::Relay->new($broker->port);
my $node = ProfImport::Node->create(
	'flat',
	url => $broker->url($vhost, undef, undef, 'amqp', $relay->port),
	conf => {
		# up to 100 batches of results wait for confirms, in room that is kept; few here
		'profimport.batch_size' => 20,
		'profimport.reconnect_delay_max' => '20ms',
		'profimport.result_ttl' => '0',
		'log_min_messages' => 'fatal' });

$node->configure(
	1, 1,
	fields => { points => { type => 'int' }, labels => { type => 'tags' }, notes => { type => 'string' } },
	resources => { 1 => { categories => [ 'a', 'b' ], fields => { shop => { type => 'string' } } } });
$node->wait_state('idle');

my $pid = $node->worker->{pid};
my $psql = $node->background_psql('postgres');

# What belongs to the process alone, without the shared buffers it has touched.
sub memory
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb;
}

# Sockets, logs and the like. Files of tables the server opens and closes as it sees fit, within a limit.
sub descriptors
{
	my $data = $node->data_dir;
	return scalar grep { defined && !m{^\Q$data\E/(base|global|pg_)} } map { readlink } glob "/proc/$pid/fd/*";
}

# One message of a wave; the kinds take turns.
my $big = 'big ' x 20_000;

sub body
{
	my ($wave, $i) = @_;
	my $id = "$wave-$i";
	my $kind = $i % 8;
	my $email = "p$id\@example.com";
	my $known = 'p' . $i % 200 . '@example.com';

	return message(email => $known, feedback_id => $id, data => { notes => "$id $big" }) if $i % 200 == 0;
	return message(email => $email, feedback_id => $id, data => { _fname => $id, points => $i }) if $kind == 0;
	return message(email => $known, data => { points => { action => 'incr', value => 1 }, _city => "city $id" }) if $kind == 1;
	return message(email => $known, data => { labels => { action => $i % 3 ? 'add' : 'delete', value => [ 'l' . $i % 17 ] } }) if $kind == 2;
	return message(
		matching => 'email_sub', email => "s$i\@example.com", resource_id => 1, feedback_id => $id,
		data => { subscriptions => [
			{ resource_id => 1, channel => 'email', email => "s$i\@example.com", custom_fields => { shop => $id }, cats => ['a'] },
			{ resource_id => 1, channel => 'sms', phone => '+1202' . (5_000_000 + $i) } ] }) if $kind == 3;
	return message(email => $known, feedback_id => $id, data => { "no such field $i" => 1 }) if $kind == 4;
	return message(email => $known, db_id => 1000 + $i, feedback_id => $id) if $kind == 5;
	return qq({"account_id": 1, "db_id": [$i, "cut here) if $kind == 6;
	return message(email => $known, feedback_id => $id, data => { points => 'none', subscriptions => [ { resource_id => 2 } ] });
}

# ---- messages

my @kb;
my $sent = 0;
my $fds;
for my $wave (1 .. $WAVES)
{
	for (my $from = 0; $from < $WAVE; $from += 8000)
	{
		my @messages = map { { body => body($wave, $from + $_) } } 0 .. 7999;

		# A producer's identity for some, so that the records of repeats are in it too.
		$messages[ $_ * 5 ]{message_id} = "$wave-$from-$_" for 0 .. 999;
		$amqp->publish_many('database_import', \@messages);
		$sent += @messages;
		poll_until { my $n = $psql->query('SELECT messages FROM profimport.stat_worker'); ($n == $sent, "$n of $sent") }
		'all imported', 120;
		$node->wait_settled;
		$amqp->purge('database_import_result');
	}
	push @kb, memory();
	$fds = descriptors() if $wave == 2;
}
note "memory after each wave of $WAVE messages: @kb kB";
my %outcome = map { $_->{error} . ' ' . $_->{outcome} => $_->{messages} } $node->rows('SELECT error, outcome, messages FROM profimport.stat_result');
ok(!(grep { !$outcome{$_} } '0 created', '0 updated', '400 failed', '404 failed'), 'messages of all kinds')
  or diag explain \%outcome;
cmp_ok($kb[-1] - $kb[1], '<', $GROWTH_KB, 'memory is flat over messages') or diag "kB after each wave: @kb";
is(descriptors(), $fds, 'and so are file descriptors');

# ---- connections

# Whatever was cut off is over when a later message is answered; its own end is not worth waiting for.
my $asked = 0;

sub answered
{
	my $id = 'asked ' . ++$asked;
	my $result = { json => { feedback_id => '' } };

	$amqp->publish('database_import', message(email => 'last@example.com', feedback_id => $id));
	($result) = $amqp->results(1) until $result->{json}{feedback_id} eq $id;
	$node->wait_settled;
	return $result->{json}{error};
}

my $connects = sub { return $psql->query('SELECT connects FROM profimport.stat_worker') };
my $reconnect = sub {
	my ($times, $how) = @_;
	my $done = 0;
	my $last = 0;

	# Each ends as soon as it stands, so some of them at their first delivery.
	poll_until {
		my $now = $connects->();

		if ($now > $last)
		{
			$amqp->publish('database_import', body('c', $now % 3 + 1));
			$how->();
			($last, $done) = ($now, $done + 1);
		}
		($done > $times, "$done of $times");
	}
	'reconnects', $long ? 600 : 120;
	answered();
	return (descriptors(), memory());
};

# The first ones fill caches.
my ($before, $kb) = $reconnect->(20, sub { $relay->cut });
my ($after, $then) = $reconnect->($CUTS, sub { $relay->cut });

# A new connection's buffer counts as far as it was filled at once, 256 kB at most. What leaked stays,
# however often there is a new one.
sub growth
{
	for (1 .. 20)
	{
		last if memory() - $kb < $RECONNECT_KB;
		$relay->cut;
		answered();
	}
	return memory() - $kb;
}

is($after, $before, "file descriptors after $CUTS cut connections");
note "memory: $then kB, before: $kb kB";
cmp_ok(growth(), '<', $RECONNECT_KB, 'memory is flat over them');
($after, $then) = $reconnect->($CLOSED, sub { $broker->close_connections($vhost, '^profimport postgres') });
is($after, $before, 'file descriptors after connections closed by the operator');
cmp_ok(growth(), '<', $RECONNECT_KB, 'memory is flat over them');

is($node->worker->{pid}, $pid, 'the worker is the same');
is(answered(), 0, 'and it imports');
$psql->quit;

done_testing();
