# Without shared_preload_libraries everything but the workers is there, and the statistics are empty.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $node = ProfImport::Node->create('main', preload => 0);
$node->configure(1, 1, fields => { n => { type => 'int', matching => json_true } });

# the domain
my $result = $node->import(message(email => 'a@example.com', data => { n => 1 }));
is($result->{error}, 0, 'import() creates');
my $again = $node->import(message(matching => 'custom', field_name => 'n', field_value => '1', data => { n => { action => 'incr', value => 1 } }));
is_json($again, { %$result, matching_field => 'custom' }, 'import() matches');
is($node->import(message(email => 'b@example.com'), dry_run => 1)->{profile_id}, '', 'a dry run');
is($node->sql(q{SELECT string_agg(outcome, ' ' ORDER BY ordinal) FROM profimport.import_batch(ARRAY['x', '{"account_id":1,"db_id":1,"data":{},"email":"a@example.com"}']::bytea[])}), 'failed unchanged', 'import_batch()');
is($node->sql("SELECT profimport.get_profile(1, 1, '$result->{profile_id}')->'n'"), 2, 'get_profile()');
is($node->sql('SELECT count(*) FROM profimport.take_trigger_events(10)'), 2, 'take_trigger_events()');
is($node->sql('SELECT profimport.retry_error(max(error_id))->$$error$$ FROM profimport.import_error'), 400, 'retry_error()');
$node->sql('CREATE ROLE w LOGIN; SELECT profimport.grant_worker($$w$$)');
$node->sql("INSERT INTO profimport.profile (account_id, db_id, email) VALUES (1, 1, 'c\@example.com')");
is($node->import(message(email => 'C@example.com', update_only => json_true))->{error}, 0, 'direct SQL');

# a second session, where the library is loaded by the first function that is called
is($node->import(message(email => 'a@example.com', data => { n => 'x' }))->{error}, 400, 'a failure');
is($node->sql('SELECT count(*) FROM profimport.import_error'), 2, 'is kept');

# the views
is($node->sql('SELECT count(*) FROM profimport.stat_worker'), 0, 'stat_worker is empty');
is($node->sql('SELECT count(*) FROM profimport.stat_result'), 0, 'stat_result is empty');
is($node->sql('SELECT count(*) FROM profimport.stat_minute'), 0, 'stat_minute is empty');
my ($status, $stdout, $stderr) = $node->try('SELECT workers_running, errors_unresolved FROM profimport.status');
is("$status|$stdout", '0|0|2', 'status tells what the database knows') or diag $stderr;
($status, $stdout, $stderr) = $node->try('SELECT profimport.stat_reset()');
is($status, 0, 'stat_reset() has nothing to do') or diag $stderr;
my %check = map { $_->{item} => $_ } $node->rows('SELECT * FROM profimport.check()');
ok(defined $check{preloaded} && !$check{preloaded}{ok}, 'check() says that it is not preloaded');
like($check{preloaded}{detail}, qr/shared_preload_libraries/, 'and what to do');

# no process of ours
is($node->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'profimport'}), 0, 'no worker, no launcher');

# preloaded later, the same data
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'profimport'\nprofimport.workers = 0\n");
$node->restart;
is($node->import(message(email => 'a@example.com', update_only => json_true))->{profile_id}, $result->{profile_id}, 'preloaded later');
is($node->sql('SELECT count(*) FROM profimport.status'), 1, 'status has its row');

done_testing();
