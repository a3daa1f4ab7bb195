# Several PostgreSQL servers, one stream of messages: RabbitMQ's consistent-hash
# exchange gives each server the databases that fall to it, and one database moves to another server
# under load.  The exchanges are those of doc/scale-out.md.

use strict;
use warnings;
use FindBin;
use POSIX ();
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

use constant { DATABASES => 12, PROFILES => 5, SLICES => 15, SLICE => 4 };

my @names = qw(a b);
my $broker = ProfImport::Broker->private('scale_out', plugins => ['rabbitmq_consistent_hash_exchange']);
my $vhost = $broker->new_vhost('scale_out');
my $amqp = $broker->client($vhost);
my (%node, %answers);
my $sent = 0;

# ---- exchanges and queues
#
# import (direct) --> profiles (hash, its alternate) --> import_a, import_b
#        \--> database 1.7 (once it has moved)  --> import_b, or, while bound to nothing, hold

$amqp->declare_exchange('hold', 'fanout');
$amqp->declare('hold');
$amqp->bind('hold', 'hold');
$amqp->declare_exchange('profiles', 'x-consistent-hash');
$amqp->declare_exchange('import', 'direct', arguments => { 'alternate-exchange' => 'profiles' });
for my $name (@names)
{
	$amqp->declare("import_$name");
	$amqp->bind("import_$name", 'profiles', '1');
}

# Another of the same kind, with queues bound in the same order, spreads alike
# and tells who owns what, without a server noticing.
$amqp->declare_exchange('probe', 'x-consistent-hash');
for my $name (@names)
{
	$amqp->declare("probe_$name");
	$amqp->bind("probe_$name", 'probe', '1');
}
$amqp->publish("1.$_", '', exchange => 'probe') for 1 .. DATABASES;

my %owner;
for my $name (@names)
{
	$owner{ $_->{routing_key} } = $name for $amqp->drain("probe_$name", quiet => 0.2);
	$amqp->delete("probe_$name");
}
is(keys %owner, DATABASES, 'every database has an owner');
note join ', ', map { "$_: $owner{$_}" } sort keys %owner;
my ($moved) = grep { $owner{$_} eq 'a' } sort keys %owner;
my ($stays) = grep { $owner{$_} eq 'b' } sort keys %owner;
ok($moved && $stays, 'both own some');
my ($moved_db) = $moved =~ /(\d+)$/;

# ---- servers: each has the configuration of its own databases only

sub configure
{
	my ($node, $db) = @_;

	$node->configure(1, $db, fields => { points => { type => 'int' }, card => { type => 'int', is_unique => json_true } });
	return;
}

for my $name (@names)
{
	my $node = $node{$name} = ProfImport::Node->create($name, url => $broker->url($vhost), conf => { 'profimport.import_queue' => "import_$name" });

	configure($node, $_) for grep { $owner{"1.$_"} eq $name } 1 .. DATABASES;
	$node->sql(q{INSERT INTO profimport.resource (account_id, resource_id, name) VALUES (1, 10, 'news')});
	$node->wait_state('idle');
}

sub message_number
{
	my ($i, $db) = @_;
	my $email = 'p' . $i % PROFILES . '@example.com';

	return message(
		db_id => $db,
		email => $email,
		data => {
			card => $i % PROFILES,
			points => { action => 'incr', value => 1 },
			subscriptions => [ { resource_id => 10, channel => 'email', email => $email } ]
		},
		feedback_id => "f$i");
}

# A producer of its own; returns its pid.  Some messages for each database in turn.
sub start_load
{
	my $first = $sent + 1;
	my $pid = fork // die "fork: $!";

	$sent += SLICES * DATABASES * SLICE;
	return $pid if $pid;
	my $producer = $broker->client($vhost);
	my $good = eval {
		for (1 .. SLICES)
		{
			for my $db (1 .. DATABASES)
			{
				my @messages = map { { body => message_number($_, $db) } } $first .. $first + SLICE - 1;

				$producer->publish_many("1.$db", \@messages, exchange => 'import');
				$first += SLICE;
			}
		}
		1;
	};
	print STDERR "the producer failed: $@" unless $good;
	POSIX::_exit($good ? 0 : 1);
}

sub processed { return $_[0]->sql('SELECT coalesce(sum(messages), 0) FROM profimport.stat_worker') }

sub collect
{
	for my $r ($amqp->drain('database_import_result', quiet => 0.2))
	{
		$answers{ $r->{json}{feedback_id} }{ $r->{message_id} }++;
		is($r->{json}{error_text}, '', "result of $r->{json}{feedback_id}") if $r->{json}{error};
	}
	return;
}

sub databases { return join ' ', sort $_[0]->sql('SELECT DISTINCT account_id || \'.\' || db_id FROM profimport.profile') =~ /\S+/g }

sub is_complete
{
	my ($what) = @_;
	my $sum = 0;

	poll_until { collect(); (keys %answers >= $sent, scalar(keys %answers) . " of $sent") } "$what: every result";
	is(keys %answers, $sent, "$what: every message is answered in the one queue of results");
	is(scalar(grep { join(',', values %$_) ne '1' } values %answers), 0, "$what: once");
	$sum += $node{$_}->sql("SELECT coalesce(sum((data->>'points')::int), 0) FROM profimport.profile") for @names;
	is($sum, $sent, "$what: every increment is there, and once");
	for my $name (@names)
	{
		is(databases($node{$name}), join(' ', sort grep { $owner{$_} eq $name } keys %owner), "$what: $name has its databases and no other");
		is($node{$name}->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: nothing failed on $name");
	}
	return;
}

my $producer = start_load();
waitpid $producer, 0;
is($?, 0, 'the producer published');
is_complete('spread');

# ---- one database moves from a to b, under load

$producer = start_load();
my $before = processed($node{a});
poll_until { processed($node{a}) > $before } 'the load is on';

# 1. What comes for it is held back.
$amqp->declare_exchange("database $moved", 'fanout', arguments => { 'alternate-exchange' => 'hold' });
$amqp->bind_exchange("database $moved", 'import', $moved);

# 2. What was on its way is imported: every message that is in the queue now
# comes before those that follow it.
$amqp->publish('import_a', message(db_id => $moved_db + 0, email => 'p0@example.com', feedback_id => 'mark'));
poll_until { collect(); $answers{mark} } 'the answer to the last message before the move';
delete $answers{mark};

# 3. The rows go over: those of the configuration, then the data.
for my $table (qw(database field profile subscription))
{
	my $dump = $node{a}->sql("COPY (SELECT * FROM profimport.$table WHERE account_id = 1 AND db_id = $moved_db) TO STDOUT");

	$node{b}->sql("COPY profimport.$table FROM STDIN;\n$dump\n\\.\n");
}
$node{b}->sql("SELECT setval(pg_get_serial_sequence('profimport.subscription', 'subscription_no'),"
	  . ' greatest((SELECT max(subscription_no) FROM profimport.subscription),'
	  . ' (SELECT last_value FROM profimport.subscription_subscription_no_seq)))');
my $content = join ' UNION ALL ',
  map { "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM profimport.$_ t WHERE account_id = 1 AND db_id = $moved_db" } qw(profile subscription);
is($node{b}->sql($content), $node{a}->sql($content), 'the same rows on both');
$node{a}->sql("DELETE FROM profimport.$_ WHERE account_id = 1 AND db_id = $moved_db") for qw(profile database);
$owner{$moved} = 'b';

# 4. What was held back goes to its new queue, in order, then what follows.
my $held = 0;

sub release
{
	my @properties = qw(headers correlation_id message_id content_type);

	while (my $message = $amqp->get('hold', ack => 0))
	{
		$amqp->publish('import_b', $message->{body}, map { $_ => $message->{$_} } grep { defined $message->{$_} } @properties);
		# the same one, still the first
		$amqp->get('hold');
		$held++;
	}
	return;
}

waitpid $producer, 0;
is($?, 0, 'the producer noticed nothing');
release();
$amqp->bind('import_b', "database $moved");
release();
cmp_ok($held, '>', 0, "$held messages were held back");
is_complete('moved');

$producer = start_load();
waitpid $producer, 0;
is($?, 0, 'the producer published on');
is_complete('after the move');
is($amqp->count('hold'), 0, 'nothing is held back');

done_testing();
