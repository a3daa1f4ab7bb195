# Many who write at once: four workers on hot and spread keys, workers ended and
# lowered under load, applications in the same profiles, two servers on one queue.
# Every effect once, every result once, no profile twice.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run ();
use ProfImport::Test;

my $seed = $ENV{PROFIMPORT_SEED} // time;
srand $seed;
note "PROFIMPORT_SEED=$seed";

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('workers');
my $amqp = $broker->client($vhost);
my %conf = (
	'profimport.workers' => 4,
	# small, so that the workers share even a short queue
	'profimport.batch_size' => 20,
	'profimport.batch_timeout' => '5s',
	'deadlock_timeout' => '50ms');
my %fields = (n => { type => 'int' }, code => { type => 'string', is_unique => json_true });
my $node = ProfImport::Node->create('workers', url => $broker->url($vhost), conf => \%conf);

$node->configure(1, 1, fields => \%fields);
$node->wait_settled;

my @modes = (
	sub { (email => "p$_[0]\@example.com") },
	sub { (matching => 'email', email => "P$_[0]\@Example.com") },
	sub { (matching => 'email_profile', email => " p$_[0]\@example.com ") },
	sub { (matching => 'phone', phone => phone($_[0])) },
	sub { (matching => 'email_phone', email => "p$_[0]\@example.com", phone => phone($_[0])) },
	sub { (matching => 'custom', field_name => 'code', field_value => "c$_[0]") });
my $round = 0;
my $sum = 0;

sub phone { return sprintf '+1555%07d', $_[0] }

# Messages that add, on keys of which a few are hot.  Each carries all that
# identifies its profile, so that it does not matter which mode creates it.
sub load
{
	my ($n, $first, $last) = @_;
	my ($adds, %keys, @messages) = (0);

	$round++;
	for my $i (1 .. $n)
	{
		my $key = $first + int rand(rand() < 0.5 ? 4 : $last - $first + 1);
		my $value = 1 + int rand 5;

		$adds += $value;
		$keys{$key}++;
		push @messages,
		  {
			body => message(
				$modes[ rand @modes ]->($key),
				feedback_id => "$round-$i",
				data => {
					email => "p$key\@example.com",
					phones => [ phone($key) ],
					code => "c$key",
					n => { action => 'incr', value => $value } }),
			correlation_id => "c$round-$i" };
	}
	return ($adds, \%keys, \@messages);
}

# Collects results until every message has one and nothing is left to send.
sub collect
{
	my ($what, $n, @nodes) = @_;
	my (%answers, %outcomes, @wrong, $twice);

	poll_until {
		for my $r ($amqp->drain('database_import_result', quiet => 0.2))
		{
			$outcomes{ $r->{headers}{outcome} }++ unless $answers{ $r->{correlation_id} };
			$twice++ if $answers{ $r->{correlation_id} }{ $r->{message_id} }++;
			push @wrong, $r->{body} if $r->{json}{error} || "c$r->{json}{feedback_id}" ne $r->{correlation_id};
		}
		(keys %answers >= $n, scalar(keys %answers) . " of $n");
	}
	"$what: every message is answered", 90;
	$_->wait_settled for @nodes;
	push @wrong, map { $_->{body} }
	  grep { !delete $answers{ $_->{correlation_id} }{ $_->{message_id} } } $amqp->drain('database_import_result', quiet => 0.2);
	is(scalar(@wrong), 0, "$what: every message succeeds") or diag "$seed: $wrong[0]";
	is(scalar(keys %answers), $n, "$what: every message is answered");
	is(scalar(grep { keys %$_ > 1 } values %answers), 0, "$what: with one result");
	note "$what: " . ($twice // 0) . ' results came twice';
	return ($twice // 0, \%outcomes);
}

sub total
{
	return $_[0]->sql("SELECT coalesce(sum((data->>'n')::bigint), 0) FROM profimport.profile");
}

sub no_duplicates
{
	my ($what, @nodes) = @_;

	for my $server (@nodes)
	{
		is( $server->sql(
				"SELECT count(*) - count(DISTINCT lower(email)), count(*) - count(DISTINCT data->>'code'),"
				  . ' count(phones) - count(DISTINCT phones) FROM profimport.profile WHERE email IS NOT NULL'),
			'0|0|0',
			"$what: no profile twice");
	}
	is($amqp->count('database_import'), 0, "$what: the queue is empty");
	return;
}

# ---- four workers, all modes, profiles that none has created yet

{
	my ($adds, $keys, $messages) = load(2500, 1000, 1400);

	# away while it is published, so that they start at the same moment
	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled', worker => $_) for 1 .. 4;
	$amqp->publish_many('database_import', $messages);
	$node->set('profimport.enabled' => undef);

	my ($twice, $outcomes) = collect('four workers', scalar @$messages, $node);
	$sum += $adds;
	is($twice, 0, 'four workers: no result twice when nothing happens');
	is(total($node), $sum, 'four workers: every effect once');
	is($node->sql('SELECT count(*) FROM profimport.profile'), scalar(keys %$keys), 'four workers: a profile per key');
	is($outcomes->{created}, scalar(keys %$keys), 'four workers: created once each');
	is($outcomes->{updated}, @$messages - keys %$keys, 'four workers: the rest are updates');
	is(scalar(grep { $_->{messages} > 0 } $node->workers), 4, 'four workers: all take part');
	is( $node->sql('SELECT sum(messages) FROM profimport.stat_worker'),
		scalar(@$messages), 'four workers: counted once each, however often a batch was retried');
	no_duplicates('four workers', $node);
}

# ---- workers are terminated, their number falls and rises

{
	my ($adds, undef, $messages) = load(4000, 1000, 2000);
	my @numbers = (2, 4, 0, 3, 1, 4);

	$amqp->publish_many('database_import', $messages);
	for my $i (0 .. 17)
	{
		my $done = total($node);

		if ($i % 3 == 0)
		{
			my $number = $numbers[ $i / 3 ];

			$node->set('profimport.workers' => $number);
			$node->poll("$number workers",
				"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker'", $number);
			next if $number == 0;
		}
		else
		{
			$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
				  . " WHERE backend_type = 'profimport worker' ORDER BY random() LIMIT 2");
		}
		# Some of it is imported between two blows, as long as some is left.
		poll_until {
			my $now = total($node);
			($now > $done || $now >= $sum + $adds, $now);
		}
		'the import goes on';
	}
	collect('workers ended', scalar @$messages, $node);
	$sum += $adds;
	is(total($node), $sum, 'workers ended: every effect once');
	is(scalar(grep { $_->{pid} } $node->workers), 4, 'workers ended: four are there again');
	no_duplicates('workers ended', $node);
}

# ---- applications write into the same profiles, and insert what is about to be created

{
	my ($adds, undef, $messages) = load(2500, 1000, 1003);
	my ($new_adds, $new_keys, $new_messages) = load(800, 5000, 5200);
	my @all = (@$messages, @$new_messages);

	# adds 1 to several profiles in a transaction, each time in another order
	my $add = q{
CREATE TABLE added (n int);
CREATE PROCEDURE add_until_told() LANGUAGE plpgsql AS $$
DECLARE
	id text;
	ids text[];
BEGIN
	WHILE NOT EXISTS (SELECT FROM enough) LOOP
		ids := ARRAY(SELECT q.profile_id FROM (SELECT p.profile_id FROM profimport.profile p
			WHERE p.email IN ('p1000@example.com', 'p1001@example.com', 'p1002@example.com', 'p1003@example.com')) q ORDER BY random());
		BEGIN
			FOREACH id IN ARRAY ids LOOP
				UPDATE profimport.profile SET data = jsonb_set(data, '{n}', to_jsonb((data->>'n')::bigint + 1))
					WHERE account_id = 1 AND db_id = 1 AND profile_id = id;
			END LOOP;
			INSERT INTO added VALUES (cardinality(ids));
		EXCEPTION WHEN deadlock_detected THEN
			NULL;
		END;
		COMMIT;
	END LOOP;
END $$;
CREATE TABLE inserted (n int);
CREATE PROCEDURE insert_all() LANGUAGE plpgsql AS $$
DECLARE
	i int;
BEGIN
	FOR i IN SELECT g FROM generate_series(5000, 5100) g ORDER BY random() LOOP
		BEGIN
			INSERT INTO profimport.profile (account_id, db_id, email, phones, data)
				VALUES (1, 1, 'p' || i || '@example.com', ARRAY['+1555' || lpad(i::text, 7, '0')], jsonb_build_object('code', 'c' || i));
			INSERT INTO inserted VALUES (i);
		EXCEPTION WHEN unique_violation OR deadlock_detected THEN
			NULL;
		END;
		COMMIT;
	END LOOP;
END $$;
CREATE TABLE enough (n int);
};
	$node->sql($add);
	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled', worker => $_) for 1 .. 4;
	# shuffled, so that new and old come together
	my @shuffled = map { $_->[0] } sort { $a->[1] <=> $b->[1] } map { [ $_, rand ] } @all;
	$amqp->publish_many('database_import', \@shuffled);
	my $call = sub {
		IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL $_[0]()" ], '<', '/dev/null');
	};
	my @writers = map { $call->('add_until_told') } 1 .. 2;
	$node->poll('an application that writes', 'SELECT count(*) > 10 FROM added', 't');
	$node->set('profimport.enabled' => undef);
	push @writers, $call->('insert_all');
	my (undef, $outcomes) = collect('applications', scalar @all, $node);
	$node->sql('INSERT INTO enough VALUES (1)');
	ok(IPC::Run::finish($_), 'applications: no error but those it expects') for @writers;
	$sum += $adds + $new_adds;
	is(total($node) - $node->sql('SELECT sum(n) FROM added'), $sum, 'applications: every effect once, theirs and ours');
	cmp_ok($node->sql('SELECT count(*) FROM inserted'), '>', 0, 'applications: inserted some before the import did');
	my $new = join ',', keys %$new_keys;
	is( $outcomes->{created} // 0,
		$node->sql("SELECT count(*) FROM unnest(ARRAY[$new]) k WHERE k NOT IN (SELECT n FROM inserted)"),
		'applications: what they inserted was found, the rest created');
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, 'applications: no error');
	no_duplicates('applications', $node);
}

# ---- an INSERT that is not yet committed when the import looks: found after all

{
	my $writer = $node->background_psql('postgres');

	for my $case (
		[ 'a unique email', [ 'race1@example.com', 'x1' ], { email => 'race1@example.com' } ],
		[ 'a unique field', [ 'race2@example.com', 'x2' ], { matching => 'custom', field_name => 'code', field_value => 'x2' } ],
		[ 'a field that is written', [ 'race3@example.com', 'x3' ], { matching => 'custom', field_name => 'code', field_value => 'x3', data => { email => 'race3@example.com' } } ])
	{
		my ($what, $values, $keys) = @$case;
		$writer->query_safe(
			"BEGIN; INSERT INTO profimport.profile (account_id, db_id, email, data) VALUES (1, 1, '$values->[0]', '{\"code\": \"$values->[1]\"}')");
		$amqp->publish('database_import', message(%$keys));
		$node->poll("$what: the import waits", 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted', 't');
		$writer->query_safe('COMMIT');
		my ($r) = $amqp->results(1);
		is($r->{json}{error}, 0, "$what: no error") or diag $r->{body};
		isnt($r->{headers}{outcome}, 'created', "$what: the import found it");
		is($node->sql("SELECT profile_id FROM profimport.profile WHERE email = '$values->[0]'"), $r->{json}{profile_id}, "$what: one profile");
	}
	$writer->quit;
}

# ---- what no index keeps unique: phones of profiles without an email

{
	my @messages = map {
		{
			body => message(matching => 'phone', phone => phone(9000 + int(($_ - 1) / 8)), feedback_id => "phone $_", data => { n => { action => 'incr', value => 1 } }),
			correlation_id => "cphone $_"
		}
	} 1 .. 1600;

	$node->set('profimport.enabled' => 'off', 'profimport.batch_size' => 1);
	$node->wait_state('disabled', worker => $_) for 1 .. 4;
	$amqp->publish_many('database_import', \@messages);
	$node->set('profimport.enabled' => undef);
	my (undef, $outcomes) = collect('phones', 1600, $node);
	is($outcomes->{created}, 200, 'phones: each is created once');
	is($node->sql("SELECT count(*), count(DISTINCT phones), sum((data->>'n')::int) FROM profimport.profile WHERE email IS NULL"),
		'200|200|1600', 'phones: no profile twice, every effect once');
	$node->set('profimport.batch_size' => 20);
}

# ---- two servers on one queue; one leaves in the middle and comes back

{
	my $other = ProfImport::Node->create('other', url => $broker->url($vhost), conf => { %conf, 'profimport.workers' => 2 });

	$other->configure(1, 1, fields => \%fields);
	$node->set('profimport.workers' => 2);
	$node->poll('two workers', 'SELECT count(*) FROM profimport.stat_worker', 2);
	$_->wait_settled for $node, $other;
	my $before = total($node) + total($other);
	my ($adds, undef, $messages) = load(4000, 1000, 1400);
	$amqp->publish_many('database_import', $messages);
	poll_until { total($other) > 0 } 'the second server imports';
	for (1 .. 2)
	{
		$node->set('profimport.enabled' => 'off');
		$node->wait_state('disabled', worker => $_) for 1 .. 2;
		my $now = total($other);
		poll_until { total($other) > $now || $amqp->count('database_import') == 0 } 'the second server goes on';
		$node->set('profimport.enabled' => undef);
		$node->wait_state(qr/idle|importing/, worker => 1);
	}
	collect('two servers', scalar @$messages, $node, $other);
	is(total($node) + total($other) - $before, $adds, 'two servers: every effect once');
	no_duplicates('two servers', $node, $other);
}

done_testing();
