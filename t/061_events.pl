# Trigger events beyond what psql can show: notifications, the setting, several takers at once.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $node = ProfImport::Node->create('main', conf => { 'profimport.workers' => 0, 'profimport.database' => 'elsewhere' });
$node->configure(1, 1, fields => { n => { type => 'int' } });

sub batch { return 'SELECT count(*) FROM profimport.import_batch(ARRAY[' . join(',', map { "'" . JSON::PP->new->ascii->encode($_) . "'" } @_) . ']::bytea[])' }

# psql tells its notifications after each command.
sub notified
{
	my (@commands) = @_;
	my $out = $node->sql(join(";\n", 'LISTEN profimport_trigger', @commands, 'SELECT 1'));

	return scalar(() = $out =~ /Asynchronous notification "profimport_trigger"/g);
}

is(notified(batch(map { message(email => "a$_\@example.com") } 1 .. 5)), 1, 'one notification for the five events of a commit');
is(notified('BEGIN', (map { batch(message(email => "b$_\@example.com")) } 1 .. 3), 'COMMIT'), 1, 'one for a transaction of three batches');
is(notified(map { batch(message(email => "c$_\@example.com")) } 1 .. 3), 3, 'one for each of three commits');
is(notified(batch(message(email => 'a1@example.com'))), 0, 'none for an unchanged profile');
is(notified(batch(message(email => 'a1@example.com', data => { n => 'x' }))), 0, 'none for a failure');
is(notified(batch(message(email => 'a1@example.com', data => { n => 1 }, skip_triggers => json_true))), 0, 'none with skip_triggers');
is(notified('BEGIN', batch(message(email => 'a1@example.com', data => { n => 2 })), 'ROLLBACK'), 0, 'none for a rollback');
is(notified(q{INSERT INTO profimport.profile (account_id, db_id, email) VALUES (1, 1, 'direct@example.com')}), 0, 'none for ordinary SQL');
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 11, 'eleven events by now');

# The setting, with the next session and in a session that is there.
my $session = $node->background_psql('postgres');
$session->query_safe('SELECT profimport.import($${"account_id":1,"db_id":1,"data":{"n":10},"email":"a1@example.com"}$$)');
$node->set('profimport.trigger_events' => 'off');
$node->poll('trigger_events off', 'SHOW profimport.trigger_events', 'off');
$node->sql('TRUNCATE profimport.trigger_event');
is($node->import(message(email => 'new@example.com', data => { n => 1 }))->{error}, 0, 'import with trigger_events off');
is(notified(batch(message(email => 'new@example.com', data => { n => 2 }))), 0, 'no notification');
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 0, 'no event');
poll_until { my $off = $session->query_safe('SHOW profimport.trigger_events'); ($off eq 'off', $off) } 'the old session reloaded';
$session->query_safe('SELECT profimport.import($${"account_id":1,"db_id":1,"data":{"n":11},"email":"a1@example.com"}$$)');
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 0, 'nor from a session that was there');
$node->set('profimport.trigger_events' => undef);
$node->poll('trigger_events on', 'SHOW profimport.trigger_events', 'on');
$node->import(message(email => 'new@example.com', data => { n => 3 }));
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), 1, 'and on again');

# Two takers at once: neither waits, none is handed out twice, the oldest go first.
$node->sql('TRUNCATE profimport.trigger_event');
$node->sql(batch(map { message(email => "t$_\@example.com") } 1 .. 10));
my $other = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$other->query_safe('BEGIN');
$_->query_safe('SET lock_timeout = 5000') for $session, $other;
my @first = split /\n/, $session->query_safe('SELECT event_id FROM profimport.take_trigger_events(4)');
my @second = split /\n/, $other->query_safe('SELECT event_id FROM profimport.take_trigger_events(4)');
my @all = split /\n/, $node->sql('SELECT event_id FROM profimport.trigger_event ORDER BY event_id');
is_deeply(\@first, [ @all[ 0 .. 3 ] ], 'the first taker has the oldest four');
is_deeply(\@second, [ @all[ 4 .. 7 ] ], 'the second the next four');
$session->query_safe('ROLLBACK');
$other->query_safe('COMMIT');
is($node->sql('SELECT string_agg(event_id::text, $$ $$ ORDER BY event_id) FROM profimport.trigger_event'), join(' ', @all[ 0 .. 3 ], @all[ 8, 9 ]), 'a rollback gives back');
is($node->sql('SELECT count(*) FROM profimport.take_trigger_events(100)'), 6, 'the rest');
$_->quit for $session, $other;

done_testing();
