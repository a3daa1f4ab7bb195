# check(): each thing that can be wrong, made wrong for real; the item that says so,
# and the advice, followed to the letter where it is a command.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;
use Text::ParseWords qw(shellwords);

my $broker = ProfImport::Broker->private('check');
my $vhost = $broker->new_vhost('check');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'check',
	url => $broker->url($vhost),
	conf => { 'max_worker_processes' => 2, 'profimport.reconnect_delay_max' => '200ms', 'profimport.batch_size' => 1 });
my @items = qw(preloaded database workers max_worker_processes role privileges broker login import_queue result_queue result_ttl);

$node->configure(1, 1);

sub check { return { map { $_->{item} => $_ } $node->rows('SELECT * FROM profimport.check()') } }

# The item is false, and its detail says that.
sub finds
{
	my ($item, $pattern, $what) = @_;
	my $got = check()->{$item};
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($got->{ok}, json_false, "$what: $item is false");
	like($got->{detail}, $pattern, "$what: and says it");
	return $got->{detail};
}

sub good
{
	my ($item, $what) = @_;
	my $got = check()->{$item};
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is($got->{ok}, json_true, "$what: $item is true again") || diag $got->{detail};
}

# Runs the rabbitmqctl commands of an advice.
sub follow
{
	my ($detail) = @_;

	for my $command ($detail =~ /rabbitmqctl ([^;]+)/g)
	{
		$broker->ctl(shellwords($command));
	}
	return;
}

sub use_url
{
	my (@url) = @_;

	$node->set('profimport.amqp_url' => $broker->url(@url));
	return;
}

# ---- processes

$node->poll('no slot', 'SELECT state FROM profimport.stat_worker', 'error');
finds('max_worker_processes', qr/^2 is too few.*ALTER SYSTEM SET max_worker_processes = \d+; and restart/, 'two slots');
finds('workers', qr/max_worker_processes is too small/, 'two slots');
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
finds('max_worker_processes', qr/^0 is too few/, 'no slot at all');
finds('workers', qr/launcher.*does not run/, 'no slot at all');
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->restart;
$node->wait_settled;
my $all = check();
is_json([ map { $_->{item} } $node->rows('SELECT * FROM profimport.check()') ], \@items, 'the items, in order');
is(join(' ', grep { !$all->{$_}{ok} } @items), '', 'all is well') or diag explain $all;

$node->set('profimport.enabled' => 'off');
finds('workers', qr/profimport\.enabled is off.*ALTER SYSTEM SET profimport\.enabled = on/, 'disabled');
$node->set('profimport.enabled' => undef, 'profimport.workers' => 0);
$node->poll('none', 'SHOW profimport.workers', 0);
finds('workers', qr/profimport\.workers is 0/, 'no worker');
$node->set('profimport.workers' => 9);
$node->poll('nine', 'SHOW profimport.workers', 9);
$node->wait_state(qr/idle/, worker => $_) for 1 .. 8;
finds('workers', qr/8 of 9 .*ALTER SYSTEM SET profimport\.max_workers = 9/, 'more than max_workers');
$node->set('profimport.workers' => undef);
$node->poll('one', 'SELECT count(*) FROM profimport.stat_worker', 1);
$node->wait_settled;

# ---- another database, another version

$node->sql('CREATE DATABASE elsewhere');
$node->sql('CREATE EXTENSION profimport', dbname => 'elsewhere');
my $row = $node->row("SELECT * FROM profimport.check() WHERE item = 'database'", dbname => 'elsewhere');
is($row->{ok}, json_false, 'another database');
like($row->{detail}, qr/serve database "postgres", not this one: .*profimport\.database = 'elsewhere'/, 'with the remedy');
$node->sql('DROP DATABASE elsewhere');
my $version = $node->sql("SELECT extversion FROM pg_extension WHERE extname = 'profimport'");
$node->sql("UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'profimport'");
finds('database', qr/version 0\.1, which the library \(\Q$version\E\) does not serve/, 'another version');
$node->sql("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'profimport'");
good('database', 'the right version');

# ---- the role (more in 190_role.pl)

$node->sql('CREATE ROLE nobody_yet LOGIN');
$node->set('profimport.role' => 'nobody_yet');
$node->poll('the role', 'SHOW profimport.role', 'nobody_yet');
my $detail = finds('privileges', qr/lacks USAGE ON SCHEMA profimport, .* and \d+ more: SELECT profimport\.grant_worker\('nobody_yet'\)/, 'no rights');
is(() = $detail =~ / ON /g, 3, 'no rights: the first few are listed');
my ($remedy) = $detail =~ /(SELECT profimport\.grant_worker\(.*?\))/;
$node->sql($remedy);
good('privileges', 'granted');
$node->sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
($remedy) = finds('privileges', qr/may not connect/, 'no CONNECT') =~ /: (GRANT .*)/;
$node->sql($remedy);
good('privileges', 'CONNECT granted');
$node->set('profimport.role' => undef);
$node->wait_settled;

# ---- the broker

$node->set('profimport.amqp_url' => 'amqp://127.0.0.1:1');
finds('broker', qr/Connection refused\. Is RabbitMQ running there/, 'nobody there');
is(check()->{$_}{ok}, undef, "nobody there: $_ is not judged") for qw(login import_queue result_queue result_ttl);

# as a user who is made by following advice
use_url($vhost, 'late user', 'pass word');
$detail = finds('login', qr/ACCESS_REFUSED.*rabbitmqctl add_user 'late user'/, 'no such user');
is(check()->{broker}{ok}, json_true, 'no such user: the broker is there');
$broker->ctl('add_user', 'late user', 'pass word');
$detail = finds('login', qr/access to vhost.*refused.*rabbitmqctl set_permissions -p \S+ 'late user' /, 'no permission for the virtual host');
follow($detail);
good('login', 'with permissions');
use_url("$vhost new", 'late user', 'pass word');
$detail = finds('login', qr/vhost.*not found.*rabbitmqctl add_vhost '$vhost new'; rabbitmqctl set_permissions -p '$vhost new' 'late user' /, 'no such virtual host');
follow($detail);
good($_, 'with a virtual host') for qw(login import_queue result_queue);
$node->wait_settled;
$broker->ctl('set_permissions', '-p', "$vhost new", 'guest', ('.*') x 3);
$amqp = $broker->client("$vhost new");
$amqp->publish('database_import', message(email => 'a@example.com'));
is(($amqp->results(1))[0]{json}{error}, 0, 'the permissions of the advice are enough');
$amqp->delete($_) for qw(database_import database_import_result);
$amqp = $broker->client($vhost);
use_url($vhost, 'late user', 'wrong');
finds('login', qr/rabbitmqctl change_password 'late user'/, 'a wrong password');
use_url($vhost, 'late user', 'pass word');
$node->wait_settled;

# ---- permissions, one at a time

sub permit { $broker->ctl('set_permissions', '-p', $vhost, 'late user', @_); $broker->close_connections($vhost); return }

permit('.*', '.*', '^no');
follow(finds('import_queue', qr/lacks permission "read" for queue "database_import": rabbitmqctl set_permissions/, 'read'));
good('import_queue', 'read');
permit('.*', '^no', '.*');
follow(finds('result_queue', qr/lacks permission "write" for the default exchange, amq\.default: rabbitmqctl set_permissions/, 'write'));
good('result_queue', 'write');
permit('^no', '.*', '.*');
is(check()->{$_}{ok}, json_true, "no configure: $_ that exists is good") for qw(import_queue result_queue);
is(check()->{result_ttl}{ok}, undef, 'no configure: the TTL cannot be judged');
$amqp->delete($_) for qw(database_import database_import_result);
$node->set('profimport.trigger_queue' => 'ev.ents');
$node->poll('events', 'SHOW profimport.trigger_queue', 'ev.ents');
follow(finds($_, qr/does not exist, and user "late user" lacks permission "configure"/, 'configure')) for qw(import_queue);
$broker->close_connections($vhost);
$node->wait_settled;
good($_, 'configure') for qw(import_queue result_queue result_ttl);
poll_until { $amqp->exists('ev.ents') } 'the queue of events';
is($amqp->count('database_import_result'), 0, 'check() has left nothing behind');
is_json([ sort map { $_->{name} } @{ $broker->queues($vhost) } ], [qw(database_import database_import_result ev.ents)], 'no queue but ours');
use_url($vhost);
$node->wait_settled;

# ---- queues

$node->set('profimport.declare_queues' => 'off');
$node->poll('off', 'SHOW profimport.declare_queues', 'off');
$amqp->delete($_) for qw(database_import ev.ents);
finds('import_queue', qr/"database_import" does not exist and profimport\.declare_queues is off/, 'a missing queue');
finds('result_queue', qr/"ev\.ents" of profimport\.trigger_queue does not exist/, 'a missing queue of events');
$amqp->declare('database_import', arguments => { 'x-message-ttl' => 60_000 });
finds('import_queue', qr/can be lost: .*x-message-ttl/, 'an import queue that expires');
$amqp->delete('database_import');
$amqp->declare('database_import', durable => 0);
finds('import_queue', qr/can be lost: .*durable/, 'an import queue that is not durable');
$amqp->delete('database_import');
$amqp->delete('database_import_result');
$amqp->declare('database_import_result', durable => 0);
finds('result_ttl', qr/not durable/, 'a result queue that is not durable');
$amqp->delete('database_import_result');
$amqp->declare('database_import_result', arguments => { 'x-message-ttl' => 1000 });
finds('result_ttl', qr/another TTL.*1000/, 'another TTL');
$amqp->delete('database_import_result');
$node->set('profimport.declare_queues' => undef, 'profimport.trigger_queue' => undef);
$node->wait_settled;
good($_, 'declared') for qw(import_queue result_queue result_ttl);
$node->set('profimport.result_queue' => 'database_import');
finds('import_queue', qr/profimport\.result_queue is profimport\.import_queue.*set one of them/, 'one queue for both');
$node->set('profimport.result_queue' => undef);
$node->wait_settled;

# ---- workers that cannot go on

$amqp->delete('database_import_result');
$amqp->declare('database_import_result', arguments => { 'x-max-length' => 0, 'x-overflow' => 'reject-publish' });
$amqp->publish_many('database_import', [ map { { body => JSON::PP->new->encode(message(email => "p$_\@example.com")) } } 1 .. 110 ]);
# It may be about to connect anew just when it is looked at, so this is polled.
$node->poll('paused: check() says so and why', "SELECT ok || ' ' || detail FROM profimport.check() WHERE item = 'workers'",
	qr/^false .*worker 1 is in state paused: too many results wait.*x-max-length/s);
$amqp->delete('database_import_result');
$amqp->results(110);
$node->wait_settled;

$broker->memory_alarm(1);
$amqp = $broker->client($vhost);
$node->sql(q{DO $$ DECLARE r jsonb; BEGIN
	INSERT INTO profimport.import_error (error, error_text, feedback_id, body) VALUES (400, '', '', '{"account_id": 1, "db_id": 1, "data": {}, "email": "q@example.com"}');
	r := profimport.retry_error(currval('profimport.import_error_error_id_seq'));
END $$});
$node->wait_state('blocked');
my $start = time;
finds('workers', qr/worker 1 is in state blocked: .*rabbitmq-diagnostics alarms/, 'blocked');
cmp_ok(time - $start, '<', 20, 'blocked: check() does not hang');
$broker->memory_alarm(0);
$node->wait_settled;

$node->sql('CREATE ROLE importer LOGIN; GRANT CONNECT ON DATABASE postgres TO importer');
$node->set('profimport.role' => 'importer');
$node->wait_state('error');
finds('workers', qr/worker 1 is in state error: .*permission denied.*see item privileges/, 'state error');
$node->sql("SELECT profimport.grant_worker('importer')");
$node->wait_settled;

$all = check();
is(join(' ', grep { !$all->{$_}{ok} } @items), '', 'all is well in the end') or diag explain $all;

done_testing();
