# What stands in the way of the worker, or is sent to hurt it: row security, rules and event
# triggers on its tables, odd names of fields, bodies made to use up memory, and a server
# that logs all it can.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('hostile');
my $amqp = $broker->client($vhost);
my $json = JSON::PP->new->utf8->canonical;
my $node = ProfImport::Node->create(
	'hostile',
	url => $broker->url($vhost),
	conf => {
		'profimport.role' => 'importer',
		'profimport.reconnect_delay_max' => '200ms',
		'shared_buffers' => '8MB',
		'log_min_messages' => 'debug5',
		'log_error_verbosity' => 'verbose',
		'log_statement' => 'none',
		'log_min_error_statement' => 'debug5',
		'log_min_duration_statement' => 0,
		'log_parameter_max_length' => -1,
		'log_parameter_max_length_on_error' => -1,
		'debug_print_parse' => 'on',
		'debug_print_rewritten' => 'on',
		'debug_print_plan' => 'on' });
my $secret = "topsecret$$";

$node->sql("CREATE ROLE importer LOGIN; SELECT profimport.grant_worker('importer')");
$node->configure(1, 1, fields => { n => { type => 'int', matching => json_true } });
$node->wait_settled;

sub ask
{
	my ($body, %properties) = @_;

	$amqp->publish('database_import', $body, %properties);
	my ($result) = $amqp->results(1);
	return $result;
}

# ---- a server that logs everything

my %sub = (email => "$secret-sub\@example.com");
$node->sql(q{INSERT INTO profimport.resource (account_id, resource_id) VALUES (1, 10)});
is(ask(message(email => "$secret\@example.com", data => { _fname => $secret, n => 7, subscriptions => [ { resource_id => 10, channel => 'email', %sub } ] }, feedback_id => "f-$secret"), message_id => $secret)->{json}{error}, 0, 'imported');
is(ask(message(email => "$secret\@example.com", data => { _lname => $secret, subscriptions => [ { resource_id => 10, channel => 'email', %sub, status => 2 } ] }))->{json}{error}, 0, 'updated');
is(ask(message(matching => 'email_sub', email => "$secret-sub\@example.com"))->{json}{error}, 0, 'found');
is(ask(message(email => "$secret\@example.com", data => { n => $secret }))->{json}{error}, 400, 'failed');
$node->sql(q{ALTER TABLE profimport.profile ADD CONSTRAINT no_such CHECK (data->>'_city' IS NULL)});
is(ask(message(email => "$secret-2\@example.com", data => { _city => $secret }))->{json}{error}, 500, 'refused by a constraint');
$node->wait_settled;
# raised to off: what follows are our own statements and results
$node->sql("ALTER SYSTEM SET $_") for "log_min_messages = 'info'", 'debug_print_parse = off', 'debug_print_rewritten = off', 'debug_print_plan = off', "log_error_verbosity = 'default'", 'log_min_duration_statement = -1';
$node->reload;
$node->poll('less log', 'SHOW log_min_messages', 'info');
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG: /, 'the log had all that the server says');
my @leaks = grep { /topsecret/ } split /\n/, $log;
is(join("\n", @leaks[0 .. ($#leaks < 4 ? $#leaks : 4)]), '', 'and no value of a profile');

# ---- row security, set by the owner

$node->sql('ALTER TABLE profimport.profile ENABLE ROW LEVEL SECURITY');
my $check = $node->row("SELECT * FROM profimport.check() WHERE item = 'privileges'");
is($check->{ok}, json_false, 'row security: check() says so');
like($check->{detail}, qr/row-level security.*profimport\.profile.*CREATE POLICY/, 'row security: and what to do');
$amqp->publish('database_import', message(email => "$secret-rls\@example.com"));
$node->wait_state('error');
is($amqp->count('database_import_result'), 0, 'row security: the message waits');
my ($policy) = $check->{detail} =~ /(CREATE POLICY .*)/;
$node->sql($policy);
my ($result) = $amqp->results(1);
is($result->{json}{error}, 0, 'row security: imported with the policy of the advice');
$node->wait_settled;
is($node->row("SELECT * FROM profimport.check() WHERE item = 'privileges'")->{ok}, json_true, 'row security: check() agrees');
# rows that the worker may not see are not there, and are not written over
$node->sql('DROP POLICY profimport_worker ON profimport.profile');
$node->sql(qq{CREATE POLICY few ON profimport.profile TO importer USING (email NOT LIKE '%-rls@%') WITH CHECK (true)});
$result = ask(message(email => "$secret-rls\@example.com", data => { n => 1 }));
isnt($result->{json}{error}, 0, 'row security: a hidden profile is no success');
unlike($result->{body}, qr/-rls@/, 'row security: and is not told');
is($node->sql("SELECT count(*) FROM profimport.profile WHERE email LIKE '%-rls\@%' AND data = '{}'"), 1, 'row security: nor changed, nor made twice');
$node->sql('DROP POLICY few ON profimport.profile; ALTER TABLE profimport.profile DISABLE ROW LEVEL SECURITY');
$node->wait_settled;

# ---- rules

for my $rule (
	[ 'profile', 'INSERT', 'DO INSTEAD NOTHING', { email => 'rule1@example.com' } ],
	[ 'profile', 'UPDATE', 'DO INSTEAD NOTHING', { email => "$secret\@example.com", data => { _os => 'x' } } ],
	[ 'subscription', 'INSERT', 'DO INSTEAD NOTHING', { email => "$secret\@example.com", data => { subscriptions => [ { resource_id => 10, channel => 'sms', phone => '+10000001' } ] } } ])
{
	my ($table, $event, $action, $keys) = @$rule;

	$node->sql("CREATE RULE hostile AS ON $event TO profimport.$table $action");
	$result = ask(message(%$keys));
	is($result->{json}{error}, 500, "a rule on $event of $table: a 500, since nothing was written") or diag $result->{body};
	$node->sql("DROP RULE hostile ON profimport.$table");
}
$result = ask(message(email => 'rule1@example.com'));
is($result->{headers}{outcome}, 'created', 'without the rule it works again') or diag $result->{body};

# ---- event triggers

$node->sql(q{
CREATE FUNCTION public.no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no % today', tg_tag; END $$;
CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION public.no_ddl();
});
my $worker = $node->worker;
$node->sql("SELECT pg_terminate_backend($worker->{pid})");
$node->poll('another worker', "SELECT pid <> $worker->{pid} FROM profimport.stat_worker", 't');
is(ask(message(email => 'ddl@example.com'))->{json}{error}, 0, 'an event trigger that forbids all DDL: the worker does none');
$node->sql('DROP EVENT TRIGGER no_ddl');

# ---- names of fields

my @names = ("it's", 'a"b', '$1', '%s%n', "two\nlines", "tab\t\x1b[2J", "\x{85}\x{2028}", 'data', 'profile_key', '{}', '[0]', "\\", '; DROP TABLE profimport.profile; --', '$$', 'x' x 255);
my $quote = sub { my ($s) = @_; utf8::encode($s); $s =~ s/'/''/g; return "'$s'" };
my $taken = 0;
for my $name (@names)
{
	my ($status, undef, $stderr) = $node->try('INSERT INTO profimport.field (account_id, db_id, name, type, is_unique) VALUES (1, 1, ' . $quote->($name) . ", 'string', true)");
	(my $shown = $json->encode([$name])) =~ s/[^ -~]/?/g;

	if ($status != 0)
	{
		like($stderr, qr/ERROR/, "field $shown is refused");
		next;
	}
	$taken++;
	$result = ask(message(email => "name$taken\@example.com", data => { $name => "value $taken" }));
	is($result->{json}{error}, 0, "field $shown: written") or diag $result->{body};
	my $found = ask(message(matching => 'custom', field_name => $name, field_value => "value $taken", update_only => json_true));
	is($found->{json}{profile_id}, $result->{json}{profile_id}, "field $shown: matched");
	is(ask(message(email => 'other@example.com', data => { $name => "value $taken" }))->{json}{error}, 409, "field $shown: unique");
	my $wrong = ask(message(email => 'other@example.com', data => { $name => 1 }));
	is($wrong->{json}{error}, 400, "field $shown: refused");
	ok(index($wrong->{json}{error_text}, $name) >= 0 || $wrong->{json}{error_text} =~ /Field "/, "field $shown: and named");
	$node->sql('DELETE FROM profimport.profile WHERE email = ' . "'name$taken\@example.com'");
	$node->sql('DELETE FROM profimport.field WHERE name = ' . $quote->($name));
}
cmp_ok($taken, '>=', 10, 'most names are names');
is($node->sql('SELECT count(*) > 0 FROM profimport.profile'), 't', 'and nothing was dropped');

# ---- bodies that use up memory

# The most the worker has had in memory, in MB; what it shares with the server is little here.
sub peak
{
	my ($kb) = slurp_file('/proc/' . $node->worker->{pid} . '/status') =~ /^VmHWM:\s+(\d+) kB/m;
	return $kb / 1024;
}

my $head = '{"account_id":1,"db_id":1,"email":"big@example.com","feedback_id":"big","data":';
my %bodies = (
	'100,000 keys' => $head . '{' . join(',', map { qq("k$_":1) } 1 .. 90_000) . '}}',
	'nested too deep' => $head . '{"o":' . '[' x 500_000 . ']' x 500_000 . '}}',
	'nested objects' => $head . '{"o":' . '{"a":' x 100_000 . '1' . '}' x 100_000 . '}}',
	'500,000 empty arrays' => $head . '{"o":[' . join(',', ('[]') x 340_000) . ']}}',
	'a million numbers' => $head . '{"o":[' . join(',', (1) x 520_000) . ']}}',
	'swelling numbers' => $head . '{"o":[' . join(',', ('1e131071') x 110_000) . ']}}',
	'escapes' => $head . '{"_fname":"' . '\u0041' x 170_000 . '"}}',
	'10,000 subscriptions' => $head . '{"subscriptions":[' . join(',', ('{"resource_id":1,"channel":"email","email":"a@b"}') x 20_000) . ']}}',
	'larger than allowed' => $head . '{"_fname":"' . 'x' x 3_000_000 . '"}}',
	'the same key a hundred thousand times' => $head . '{' . join(',', ('"_fname":"a"') x 80_000) . '}}');
$node->wait_settled;
ask($head . '{}}');
my $before = peak();
for my $what (sort keys %bodies)
{
	$result = ask($bodies{$what});
	like($result->{json}{error}, $what =~ /escapes|same key/ ? qr/^0$/ : qr/^40[04]$/, "$what: answered, as is right") or diag $result->{body};
	note sprintf('%s: peak %.0f MB after %.0f MB', $what, peak(), $before);
}
is($node->worker->{pid} > 0, 1, 'the worker lives');
cmp_ok(peak() - $before, '<', 256, 'and was never large');

done_testing();
