# pg_dump and restore in every format, and a base backup: the same rows, ids and
# next numbers; results that were pending go out, repeats are known, nothing is
# told to trigger events.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('dump');
my $amqp = $broker->client($vhost);
my $json = JSON::PP->new->utf8->canonical;

# A queue that takes one result and refuses the rest: they stay pending.
$amqp->declare('database_import_result', arguments => { 'x-max-length' => 1, 'x-overflow' => 'reject-publish' });

my $source = ProfImport::Node->create(
	'source',
	url => $broker->url($vhost),
	init => [ allows_streaming => 1 ],
	conf => { 'profimport.batch_size' => 4, 'profimport.workers' => 2, 'profimport.dedup_window' => '1h' });
my %fields = (
	n => { type => 'int' },
	x => { type => 'float' },
	code => { type => 'string', is_unique => json_true },
	tags => { type => 'tags', matching => json_true },
	day => { type => 'date', matching => json_true },
	at => { type => 'datetime' },
	ip => { type => 'ip', matching => json_true },
	kind => { type => 'list', options => [ 'a', 'b, c', '"d"' ] },
	doc => { type => 'object' },
	docs => { type => 'arr_object' },
	'hostile "name"; --' => { type => 'string', matching => json_true });
my %resources = (
	10 => {
		name => 'r',
		categories => [ 'news', 'a"b' ],
		fields => { ref => { type => 'string', matching => json_true }, level => { type => 'int' } } },
	11 => {});

$source->configure(1, 1, fields => \%fields, resources => \%resources);
$source->configure(2, 7, fields => { n => { type => 'string', matching => json_true } });
$source->wait_state('idle', worker => $_) for 1, 2;

# ---- profiles of every kind

sub full
{
	my ($i) = @_;
	return message(
		email => "p$i\@example.com",
		feedback_id => "f$i",
		data => {
			_fname => "N\x{e4}me \x{4e2d}\x{1f600} \\ \" \t $i",
			phones => [ sprintf('+1555%07d', $i), sprintf('+1666%07d', $i % 3) ],
			n => $i - 5,
			x => 0.1 + $i / 3,
			code => $i % 5 ? "c$i" : "c$i" . 'long' x 2000,
			tags => [ 'all', "t$i" ],
			day => '2001-12-31',
			at => '0001-01-01T00:00:00.123Z',
			ip => "::ffff:10.0.0.$i",
			kind => 'b, c',
			doc => { a => [ 1, undef, { b => "\\N" } ] },
			docs => [ { k => 1 }, {} ],
			'hostile "name"; --' => "v\\$i\n\r",
			subscriptions => [
				{ resource_id => 10, channel => 'email', email => "s$i\@example.com", status => 3, cats => ['a"b'], custom_fields => { ref => "r$i", level => $i } },
				{ resource_id => 11, channel => 'push', provider => 'ios', subscription_id => 'x' x (100 * $i) },
				{ resource_id => 11, channel => 'telegram_bot', cc_data => { id => $i, 'k"' => [ 1.0 ] } } ] });
}

my @sent = map { { body => $json->encode(full($_)), message_id => "m$_", correlation_id => "c$_" } } 1 .. 20;
push @sent, map { { body => $json->encode(message(email => "q$_\@example.com", feedback_id => "g$_")), correlation_id => "g$_" } } 1 .. 10;
push @sent, { body => "no JSON \0\xff", correlation_id => 'bad' };
$amqp->publish_many('database_import', \@sent);
$source->poll('all is imported', 'SELECT sum(messages) FROM profimport.stat_worker', scalar @sent);
$source->poll('results that stay', 'SELECT sum(pending) >= ' . (@sent - 4) . ' FROM profimport.batch', 't');
is($source->sql("SELECT count(DISTINCT worker) FROM profimport.batch WHERE outgoing IS NOT NULL"), 2, 'results of two workers are pending');
$source->set('profimport.enabled' => 'off');
$source->wait_state('disabled', worker => $_) for 1, 2;

# direct SQL: ids, times and numbers of one's own
$source->sql(q{
INSERT INTO profimport.profile (account_id, db_id, profile_id, email, created_at, updated_at)
	VALUES (1, 1, 'an id of ''mine''', 'Mixed.Case@Example.com', '1999-01-01 00:00:00.123456+05', '2000-02-29');
INSERT INTO profimport.subscription (account_id, db_id, profile_id, subscription_no, resource_id, channel, contact, created_at, updated_at)
	VALUES (1, 1, 'an id of ''mine''', 5000000000, 10, 'sms', '+19998887777', '1999-01-01', '1999-01-02');
INSERT INTO profimport.profile (account_id, db_id, email, data) VALUES (2, 7, 'p1@example.com', '{"n": "other"}');
SELECT setval('profimport.subscription_subscription_no_seq', 6000000000);
SELECT profimport.take_trigger_events(2);
});
# required since yesterday: rows that lack the fields are older
$source->sql(q{
INSERT INTO profimport.field (account_id, db_id, name, type, required) VALUES (1, 1, 'must', 'int', true);
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, required) VALUES (1, 11, 'must', 'int', true);
});
is($source->import(message(email => 'new@example.com'))->{error}, 400, 'a field is required');

my %keys = (
	account => 'account_id', database => 'account_id, db_id', field => 'account_id, db_id, name COLLATE "C"',
	resource => 'resource_id', resource_field => 'resource_id, name COLLATE "C"', profile => 'account_id, profile_id',
	subscription => 'subscription_no', trigger_event => 'event_id', import_error => 'error_id', batch => 'batch_id',
	dedup => 'digest', applied => 'batch_id',
	profile_key => 'key_value, name, profile_id, db_id, account_id, is_unique',
	subscription_key => 'key_value, name, resource_id, profile_id, subscription_no');
my @sequences = split /\n/,
  $source->sql("SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'profimport'::regnamespace ORDER BY 1");

sub contents
{
	my ($node, $dbname) = @_;
	my %text = map { $_ => $node->sql("COPY (SELECT * FROM profimport.$_ ORDER BY $keys{$_}) TO STDOUT", dbname => $dbname) } keys %keys;

	$text{$_} = $node->sql("SELECT last_value, is_called FROM profimport.$_", dbname => $dbname) for @sequences;
	return \%text;
}

sub same
{
	my ($node, $dbname, $expected, $what) = @_;
	my $got = contents($node, $dbname);

	for my $table (sort keys %$expected)
	{
		is($got->{$table}, $expected->{$table}, "$what: $table");
	}
	return;
}

my $expected = contents($source, 'postgres');
isnt($expected->{$_}, '', "there is something in $_") for sort keys %keys;
cmp_ok(scalar(@sequences), '>=', 4, 'sequences');

# ---- out and in again

my $target = ProfImport::Node->create(
	'target',
	url => $broker->url($vhost),
	extension => 0,
	conf => { 'profimport.database' => 'custom', 'profimport.workers' => 0, 'profimport.dedup_window' => '1h' });
my $out = $source->backup_dir;
mkdir $out unless -d $out;

$target->sql('CREATE DATABASE ' . $_) for qw(plain custom directory);
PostgreSQL::Test::Utils::command_ok([ 'pg_dump', '-f', "$out/plain.sql", $source->connstr('postgres') ], 'pg_dump, plain');
PostgreSQL::Test::Utils::command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$out/plain.sql", $target->connstr('plain') ], 'restored');
PostgreSQL::Test::Utils::command_ok([ 'pg_dump', '-Fc', '-f', "$out/custom.dump", $source->connstr('postgres') ], 'pg_dump, custom');
PostgreSQL::Test::Utils::command_ok([ 'pg_restore', '-e', '-d', $target->connstr('custom'), "$out/custom.dump" ], 'restored');
PostgreSQL::Test::Utils::command_ok([ 'pg_dump', '-Fd', '-j', '4', '-f', "$out/directory", $source->connstr('postgres') ], 'pg_dump, directory with -j');
PostgreSQL::Test::Utils::command_ok([ 'pg_restore', '-e', '-j', '4', '-d', $target->connstr('directory'), "$out/directory" ], 'restored');
same($target, $_, $expected, $_) for qw(plain custom directory);

# matching is right straight after, and new numbers are new
for my $dbname (qw(plain directory))
{
	my $id = $target->sql("SELECT profile_id FROM profimport.profile WHERE email = 'p3\@example.com'", dbname => $dbname);

	for my $match (
		[ email => 'P3@example.com' ],
		[ email => 's3@example.com' ],
		[ phone => '+1 555 0000003', matching => 'phone' ],
		[ field_name => 'code', field_value => 'c3', matching => 'custom' ],
		[ field_name => 'tags', field_value => 'all,t3', matching => 'custom' ],
		[ field_name => 'hostile "name"; --', field_value => "v\\3\n\r", matching => 'custom' ],
		[ field_name => 'ref', field_value => 'r3', matching => 'custom_sub' ],
		[ provider => 'ios', subscription_id => 'x' x 300, matching => 'push_sub' ])
	{
		my $body = JSON::PP->new->ascii->encode(message(@$match, update_only => json_true));
		$body =~ s/'/''/g;
		is($target->sql("SELECT profimport.import('$body') ->> 'profile_id'", dbname => $dbname), $id, "$dbname: found by $match->[1]" =~ s/\s+/ /gr =~ s/x{9,}/xxx/r);
	}
	is( $target->sql(
			"INSERT INTO profimport.subscription (account_id, db_id, profile_id, resource_id, channel, contact, custom_fields)"
			  . " VALUES (1, 1, '$id', 11, 'sms', '+15550001111', '{\"must\": 1}') RETURNING subscription_no",
			dbname => $dbname),
		6000000001, "$dbname: the next number");
}

# ---- a worker of the restored server goes on where the other stopped

my ($came) = $amqp->results(1);
my $pending = 0 + $source->sql('SELECT sum(pending) FROM profimport.batch');
$amqp->delete('database_import_result');
my $events = $target->sql('SELECT count(*) FROM profimport.trigger_event', dbname => 'custom');
$target->set('profimport.workers' => 1);
poll_until { $amqp->exists('database_import_result') } 'the queue of results';
my @results = $amqp->results($pending);
my %answered;
$answered{ $_->{correlation_id} }{ $_->{message_id} }++ for $came, @results;
is_json([ sort keys %answered ], [ sort map { $_->{correlation_id} } @sent ], 'after the restore: every message is answered');
is(scalar(grep { keys %$_ > 1 } values %answered), 0, 'after the restore: under one message_id');
is(scalar(grep { $_->{delivery_mode} != 2 || $_->{app_id} ne 'profimport' || !$_->{headers}{outcome} || !$_->{expiration} } @results),
	0, 'after the restore: with all properties');
poll_until { $target->sql('SELECT count(*) FROM profimport.batch', dbname => 'custom') == 0 } 'no result is left';

my ($first) = grep { $_->{correlation_id} eq 'c20' } @results;
$amqp->publish('database_import', $sent[19]{body}, message_id => 'm20', correlation_id => 'c20');
my ($again) = $amqp->results(1);
is("$again->{message_id} $again->{body}", "$first->{message_id} $first->{body}", 'after the restore: a repeat is known');
is($target->sql('SELECT count(*) FROM profimport.trigger_event', dbname => 'custom'), $events, 'after the restore: no event of it');
$target->stop;

# ---- a base backup

$vhost = $broker->new_vhost('base');
$amqp = $broker->client($vhost);
$source->backup('base');
my $copy = ProfImport::Node->new('copy');
$copy->init_from_backup($source, 'base');
$copy->append_conf('postgresql.conf', "profimport.amqp_url = '" . $broker->url($vhost) . "'\nprofimport.workers = 1\n");
$copy->start;
same($copy, 'postgres', $expected, 'base backup');
$copy->set('profimport.enabled' => undef);
poll_until { $amqp->exists('database_import_result') } 'the queue of results';
my %of_copy = map { $_->{correlation_id} => $_->{message_id} } $amqp->results($pending);
is_json({ %of_copy, $came->{correlation_id} => $came->{message_id} },
	{ map { $_ => keys %{ $answered{$_} } } keys %answered }, 'base backup: the same results, under the same message_ids');
$copy->poll('no result is left', 'SELECT count(*) FROM profimport.batch', 0);
$amqp->publish('database_import', $sent[19]{body}, message_id => 'm20', correlation_id => 'c20');
($again) = $amqp->results(1);
is($again->{message_id}, $first->{message_id}, 'base backup: a repeat is known');

done_testing();
