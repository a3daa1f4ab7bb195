# ALTER EXTENSION UPDATE from every released version, under load, with results,
# events and repeats outstanding: nothing is lost or doubled, and the objects
# are those of a new installation.  Objects that the library does not know are
# left alone.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Digest::SHA qw(sha256_hex);
use IPC::Run ();
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('upgrade');
my $amqp = $broker->client($vhost);
my $current = slurp_file("$FindBin::RealBin/../profimport.control") =~ /^default_version = '([^']+)'/m ? $1 : die 'no version';

# A queue that takes one result and refuses the rest: they stay pending.
$amqp->declare('database_import_result', arguments => { 'x-max-length' => 1, 'x-overflow' => 'reject-publish' });

my $node = ProfImport::Node->create(
	'upgrade',
	url => $broker->url($vhost),
	extension => 0,
	# all that is published here may be pending: 100 batches
	conf => { 'profimport.workers' => 2, 'profimport.batch_size' => 25, 'profimport.dedup_window' => '1h' });

# Every version from which a script leads to the present one.
my @released = split /\n/, $node->sql("SELECT source FROM pg_extension_update_paths('profimport')"
	  . " WHERE target = '$current' AND path IS NOT NULL AND source <> target ORDER BY source");
is("@released", '1.0.0', 'versions to come from');
my $from = $released[0];

# What is installed somewhere is not changed by changing the file.
my %digests = ('1.0.0' => 'cee7e694af9e9a8a91b82f064b16dac2969fcd81814d65b2adefe3cdca9381cc');
is(sha256_hex(slurp_file("$FindBin::RealBin/../sql/profimport--$_.sql")), $digests{$_}, "the objects of $_ are those that were released")
  for @released;

$node->sql("CREATE EXTENSION profimport VERSION '$from'");
$node->configure(1, 1,
	fields => { n => { type => 'int' }, code => { type => 'string', is_unique => json_true } },
	resources => { 10 => { fields => { ref => { type => 'string', matching => json_true } } } });
$node->wait_state('idle', worker => $_) for 1, 2;

# ---- the new library on the old objects

sub logged { return scalar(() = slurp_file($node->logfile) =~ /extension "profimport" has version \Q$from\E, its library \Q$current\E/g) }

is(logged(), 1, 'older objects: the log says so, once');
like(slurp_file($node->logfile), qr/HINT: .*ALTER EXTENSION profimport UPDATE/, 'older objects: and what to do');
is($node->sql("SELECT ok FROM profimport.check() WHERE item = 'database'"), 'f', 'older objects: check() says so');
like($node->sql("SELECT detail FROM profimport.check() WHERE item = 'database'"),
	qr/version \Q$from\E.*ALTER EXTENSION profimport UPDATE/, 'older objects: and what to do');

my $sum = 0;
my %sent;

sub load
{
	my ($round, $n) = @_;
	my @messages;

	for my $i (1 .. $n)
	{
		my $key = $i % 70;

		$sum++;
		$sent{"$round$i"} = 1;
		push @messages, {
			body => message(
				email => "p$key\@example.com",
				feedback_id => "$round$i",
				data => {
					n => { action => 'incr', value => 1 },
					subscriptions => [ { resource_id => 10, channel => 'email', email => "s$key\@example.com", custom_fields => { ref => "r$i" } } ] },
				# half of them by what the index on contacts finds
				$i % 2 ? () : (matching => 'email_sub', email => "s$key\@example.com", resource_id => 10)),
			message_id => "m$round$i",
			correlation_id => "$round$i" };
	}
	$amqp->publish_many('database_import', \@messages);
	return \@messages;
}

sub total { return $node->sql("SELECT coalesce(sum((data->>'n')::int), 0) FROM profimport.profile") }

my $first = load('a', 300);
$amqp->publish('database_import', 'no JSON', correlation_id => 'bad');
$sent{bad} = 1;
$node->poll('older objects: the import works', "SELECT sum((data->>'n')::int) FROM profimport.profile", 300);
$node->poll('older objects: results stay', 'SELECT sum(pending) >= 299 FROM profimport.batch', 't');
my $events = $node->sql('SELECT count(*) FROM profimport.trigger_event');
is($events, 300 * 2, 'older objects: events');

# ---- a dump of the old objects becomes new ones

my $old_dump = $node->basedir . '/old_dump';
my $old_tables = 'profimport.account profimport.database profimport.field profimport.resource profimport.resource_field'
  . ' profimport.profile profimport.subscription profimport.trigger_event profimport.import_error profimport.dedup';

sub content
{
	my ($dbname, @tables) = @_;

	return map { "$_ " . $node->sql("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM $_ t", dbname => $dbname) } @tables;
}

PostgreSQL::Test::Utils::command_ok([ 'pg_dump', '-Fc', '-f', $old_dump, '-d', $node->connstr('postgres') ], 'older objects: dumped');
$node->sql('CREATE DATABASE from_dump');
PostgreSQL::Test::Utils::command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('from_dump'), $old_dump ], 'older objects: restored');
is($node->sql("SELECT extversion FROM pg_extension WHERE extname = 'profimport'", dbname => 'from_dump'), $current, 'older objects: restored as the present version');
is_json([ content('from_dump', split ' ', $old_tables) ], [ content('postgres', split ' ', $old_tables) ], 'older objects: restored with the same rows');
my $pids = $node->sql('SELECT array_agg(pid ORDER BY pid) FROM profimport.stat_worker');

# ---- the update, while messages are imported

# Somebody holds a profile that every 70th message is for: however fast the
# machine is, the update comes when both workers are in the middle of a batch.
my $holder = $node->background_psql('postgres');

$holder->query_safe("BEGIN; SELECT FROM profimport.profile WHERE email = 'p69\@example.com' FOR UPDATE");
load('b', 1500);
$node->poll('workers in a batch',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND state = 'active' AND wait_event_type = 'Lock'", 2);
# It replaces an index, and so waits for the transactions that use it.
my $update = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', 'ALTER EXTENSION profimport UPDATE' ], '<', '/dev/null');
$node->poll('the update in the middle of batches',
	"SELECT count(*) FROM pg_stat_activity WHERE query = 'ALTER EXTENSION profimport UPDATE' AND wait_event_type = 'Lock'", 1);
my $done = total();
$holder->query_safe('ROLLBACK');
$holder->quit;
ok(IPC::Run::finish($update), 'no error');
cmp_ok($done, '<', $sum, 'updated under load');
note "updated after $done of $sum messages";
is($node->sql("SELECT extversion FROM pg_extension WHERE extname = 'profimport'"), $current, 'updated');
$node->poll('the rest of the load', "SELECT sum((data->>'n')::int) FROM profimport.profile", $sum);
is($node->sql('SELECT array_agg(pid ORDER BY pid) FROM profimport.stat_worker'), $pids, 'by the same workers');
is($node->sql("SELECT ok FROM profimport.check() WHERE item = 'database'"), 't', 'updated: check() is content');
is(logged(), 1, 'updated: nothing more in the log');
is($node->sql('SELECT sum(messages) FROM profimport.stat_minute'), scalar(keys %sent), 'the counters were counting before');
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 2 * $sum, 'every event once');
is($node->sql('SELECT count(*) FROM profimport.import_error'), 1, 'no error but the one');

# ---- what an update leaves: compared with a new installation

my $objects = q{
SELECT line FROM (
SELECT 'member ' || i.type || ' ' || i.identity
	FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) i
	WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'profimport')
UNION ALL
SELECT concat_ws(' ', 'relation', c.oid::regclass, c.relkind, c.relpersistence, c.relreplident, c.reloptions, pg_get_userbyid(c.relowner),
		(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a), pg_get_viewdef(c.oid))
	FROM pg_class c WHERE c.relnamespace = 'profimport'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'column', c.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
		a.attstorage, a.attcollation, a.attacl, pg_get_expr(d.adbin, d.adrelid))
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
	WHERE c.relnamespace = 'profimport'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'profimport'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(c.oid)) FROM pg_class c WHERE c.relnamespace = 'profimport'::regnamespace AND c.relkind = 'i'
UNION ALL
SELECT concat_ws(' ', 'trigger', tgenabled, pg_get_triggerdef(t.oid)) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
	WHERE c.relnamespace = 'profimport'::regnamespace AND NOT tgisinternal
UNION ALL
SELECT concat_ws(' ', 'sequence', seqrelid::regclass, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
	FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid WHERE c.relnamespace = 'profimport'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'routine', pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(p.proacl) a))
	FROM pg_proc p WHERE p.pronamespace = 'profimport'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'schema', pg_get_userbyid(nspowner), nspacl) FROM pg_namespace WHERE nspname = 'profimport'
UNION ALL
SELECT concat_ws(' ', 'comment', i.type, i.identity, d.description)
	FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
	WHERE i.identity ~ '\mprofimport\M'
UNION ALL
SELECT concat_ws(' ', 'initial rights', i.type, i.identity, p.privtype, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(p.initprivs) a))
	FROM pg_init_privs p, pg_identify_object(p.classoid, p.objoid, p.objsubid) i
	WHERE i.identity ~ '\mprofimport\M'
UNION ALL
SELECT concat_ws(' ', 'dumped', t.oid::regclass, t.condition) FROM pg_extension, unnest(extconfig, extcondition) t (oid, condition) WHERE extname = 'profimport'
UNION ALL
SELECT concat_ws(' ', 'extension', extversion, extnamespace::regnamespace, extrelocatable) FROM pg_extension WHERE extname = 'profimport'
) l (line) ORDER BY line COLLATE "C"
};

# A line each, whatever is in it.
sub objects { return map { $_->{line} } $node->rows($objects, dbname => $_[0]) }

sub compare
{
	my ($what, $dbname, @expected) = @_;
	my %got = map { $_ => 1 } objects($dbname);
	my %expected = map { $_ => 1 } @expected;

	is(join("\n", grep { !$got{$_} } sort keys %expected), '', "$what: no object is missing or another one");
	is(join("\n", grep { !$expected{$_} } sort keys %got), '', "$what: no object too many");
	return;
}

$node->sql('CREATE DATABASE fresh');
$node->sql('CREATE EXTENSION profimport', dbname => 'fresh');
my @fresh = objects('fresh');
cmp_ok(scalar(@fresh), '>', 500, 'there is something to compare');
compare('updated under load', 'postgres', @fresh);
for my $version (@released)
{
	my $dbname = "from_$version" =~ tr/./_/r;

	$node->sql("CREATE DATABASE $dbname");
	$node->sql("CREATE EXTENSION profimport VERSION '$version'; ALTER EXTENSION profimport UPDATE", dbname => $dbname);
	compare("from $version", $dbname, @fresh);
}

# ---- dump and restore of what was updated

my $dump = $node->basedir . '/dump';
my @tables = split /\n/, $node->sql("SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'profimport'::regnamespace"
	  . ' AND oid = ANY (SELECT unnest(extconfig) FROM pg_extension) ORDER BY 1');

$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled', worker => $_) for 1, 2;
PostgreSQL::Test::Utils::command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
$node->sql('CREATE DATABASE restored');
PostgreSQL::Test::Utils::command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'restored');
cmp_ok(scalar(@tables), '>', 9, 'tables of a dump');
is_json([ content('restored', @tables) ], [ content('postgres', @tables) ], 'restored: the same rows');
compare('restored', 'restored', @fresh);
compare('restored from older objects', 'from_dump', @fresh);

# ---- results that were pending before and after, and a repeat from before

$amqp->get('database_import_result', ack => 0);
my @early = $amqp->drain('database_import_result', quiet => 0.2);
$amqp->delete('database_import_result');
$node->set('profimport.enabled' => undef);
poll_until { $amqp->exists('database_import_result') } 'the queue of results';
my @results = (@early, $amqp->results(keys(%sent) - @early));
my %answers;
$answers{ $_->{correlation_id} }++ for @results;
is_json([ sort keys %answers ], [ sort keys %sent ], 'every message is answered');
is(scalar(grep { $_ > 1 } values %answers), 0, 'once');
is(scalar(grep { $_->{json}{error} } @results), 1, 'and all but one have succeeded');
$node->wait_settled;
$node->poll('no record is left', 'SELECT count(*) FROM profimport.batch', 0);

my ($answer) = grep { $_->{correlation_id} eq 'a7' } @results;
$amqp->publish('database_import', $first->[6]{body}, message_id => 'ma7', correlation_id => 'again');
my ($again) = $amqp->results(1);
is("$again->{message_id} $again->{correlation_id}", "$answer->{message_id} again", 'a repeat from before the update is known');
is(total(), $sum, 'every effect once');
is($node->sql("SELECT count(*) FROM profimport.take_trigger_events(100000)"), 2 * $sum, 'every event is handed out');
# A worker that has to wait before it could delete the record sends its results
# again.
$node->wait_settled;
$node->poll('no record of the repeat is left', 'SELECT count(*) FROM profimport.batch', 0);

# ---- objects of a version that this library does not know

$node->sql("UPDATE pg_extension SET extversion = '99.0.0' WHERE extname = 'profimport'");
$amqp->publish('database_import', message(email => 'later@example.com'), correlation_id => 'later');
$node->wait_state('waiting', worker => 1);
$node->wait_state('waiting', worker => 2);
like($node->worker->{last_error}, qr/has version 99\.0\.0, which its library \(\Q$current\E\) does not serve/, 'newer objects: the view says so');
is(scalar(() = slurp_file($node->logfile) =~ /has version 99\.0\.0, which its library/g), 1, 'newer objects: the log says so, once');
is($node->sql("SELECT ok FROM profimport.check() WHERE item = 'database'"), 'f', 'newer objects: check() says so');
like($node->sql("SELECT detail FROM profimport.check() WHERE item = 'database'"), qr/restart the server/, 'newer objects: and what to do');
is($node->sql("SELECT count(*) FROM profimport.profile WHERE email = 'later\@example.com'"), 0, 'newer objects: nothing is imported');
$node->sql("UPDATE pg_extension SET extversion = '$current' WHERE extname = 'profimport'");
my ($later) = $amqp->results(1);
is("$later->{correlation_id} $later->{json}{error}", 'later 0', 'newer objects: nothing was lost');

done_testing();
