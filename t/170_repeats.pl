# A producer that sends again: the same message_id with the same body is answered
# with the first result and written once.  And the properties of results.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('repeats');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('repeats', url => $broker->url($vhost), conf => { 'profimport.batch_size' => 10 });
my $json = JSON::PP->new->utf8->canonical;
my @results;

$node->configure(1, 1, fields => { n => { type => 'int' } });
$node->wait_state('idle');

# A message that adds: what is written twice shows.
sub add
{
	my ($email, %keys) = @_;
	return $json->encode(message(email => "$email\@example.com", data => { n => { action => 'incr', value => 1 } }, %keys));
}

# One message, one result.
sub ask
{
	my ($body, %properties) = @_;

	$amqp->publish('database_import', $body, %properties);
	my ($result) = $amqp->results(1);
	push @results, $result;
	return $result;
}

# Many while the worker is away, so that they come as one batch, or as many as are full.
sub ask_at_once
{
	my @messages = @_;

	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled');
	$amqp->publish_many('database_import', \@messages);
	$node->set('profimport.enabled' => undef);
	my @answers = $amqp->results(scalar @messages);
	push @results, @answers;
	return @answers;
}

sub n_of { return $node->sql("SELECT data->>'n' FROM profimport.profile WHERE email = '$_[0]\@example.com'") }
sub duplicates { return $node->sql('SELECT sum(duplicates) FROM profimport.stat_worker') }

sub is_repeat
{
	my ($got, $first, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($got->{body}, $first->{body}, "$what: the first result");
	is($got->{message_id}, $first->{message_id}, "$what: with its message_id");
	is($got->{headers}{outcome}, $first->{headers}{outcome}, "$what: and its outcome");
	return;
}

# ---- one after the other

my $before = duplicates();
my $first = ask(add('a', feedback_id => 'f1'), message_id => 'm1');
is($first->{json}{error}, 0, 'imported') or diag $first->{body};
is($first->{headers}{outcome}, 'created', 'created');
my $row = $node->sql("SELECT xmin, ctid, updated_at, data FROM profimport.profile WHERE email = 'a\@example.com'");
my $events = $node->sql('SELECT count(*) FROM profimport.trigger_event');

is_repeat(ask(add('a', feedback_id => 'f1'), message_id => 'm1'), $first, 'repeat');
is_repeat(
	ask(add('a', feedback_id => 'f1'), message_id => 'm1', headers => { try => 3 }, priority => 1, timestamp => 1),
	$first, 'repeat with other properties');
is($node->sql("SELECT xmin, ctid, updated_at, data FROM profimport.profile WHERE email = 'a\@example.com'"), $row, 'nothing is written');
is($node->sql('SELECT count(*) FROM profimport.trigger_event'), $events, 'no event');
is(duplicates() - $before, 2, 'both are counted');
is($node->worker->{messages}, 3, 'and are messages');

isnt(ask(add('a', feedback_id => 'f2'), message_id => 'm1')->{message_id}, $first->{message_id}, 'another body is a new message');
is(n_of('a'), 2, 'and is imported');
ask(' ' . add('a', feedback_id => 'f1'), message_id => 'm1');
is(n_of('a'), 3, 'a blank more is another body');
isnt(ask(add('a', feedback_id => 'f1'), message_id => 'm2')->{message_id}, $first->{message_id}, 'another id is a new message');
is(n_of('a'), 4, 'and is imported');
is_repeat(ask(add('a', feedback_id => 'f1'), message_id => 'm1'), $first, 'repeat after others');
is(n_of('a'), 4, 'nothing is undone or done');

# a producer waits for the correlation_id of what it has just sent
my $asked = ask(add('k'), message_id => 'rpc', correlation_id => 'first call');
is($asked->{correlation_id}, 'first call', 'a call');
for my $case ([ 'another correlation_id', 'second call', 'second call' ], [ 'no correlation_id', undef, 'rpc' ], [ 'an empty one', '', 'rpc' ])
{
	my ($what, $correlation, $expected) = @$case;
	my $got = ask(add('k'), message_id => 'rpc', defined $correlation ? (correlation_id => $correlation) : ());
	is_repeat($got, $asked, "a call again with $what");
	is($got->{correlation_id}, $expected, "a call again with $what: answered under it");
}
is(n_of('k'), 1, 'the call was made once');
is(duplicates() - $before, 6, 'none of the new ones is counted');

# an old state is not brought back, nor a deleted profile
my $set = ask($json->encode(message(email => 'b@example.com', data => { n => 7 })), message_id => 'set');
ask($json->encode(message(email => 'b@example.com', data => { n => 8 })), message_id => 'set');
is_repeat(ask($json->encode(message(email => 'b@example.com', data => { n => 7 })), message_id => 'set'), $set, 'an old value');
is(n_of('b'), 8, 'the new value stays');
$node->sql("DELETE FROM profimport.profile WHERE email = 'b\@example.com'");
is_repeat(ask($json->encode(message(email => 'b@example.com', data => { n => 7 })), message_id => 'set'), $set, 'a deleted profile');
is(n_of('b'), '', 'is not created again');

# ---- without a message_id

ask(add('c')) for 1 .. 2;
is(n_of('c'), 2, 'two messages without identity are two');
ask(add('c', feedback_id => 'same')) for 1 .. 2;
is(n_of('c'), 4, 'so are two with the same feedback_id');
ask(add('c'), correlation_id => 'same') for 1 .. 2;
is(n_of('c'), 6, 'and two with the same correlation_id');
ask(add('cc'), message_id => '') for 1 .. 2;
is(n_of('cc'), 2, 'and two with an empty message_id');
ask_at_once(map { { body => add('c') } } 1 .. 5);
is(n_of('c'), 11, 'in one batch too');

# ---- one batch, and many batches

$before = duplicates();
my @answers = ask_at_once(map { { body => add('d'), message_id => 'both' } } 1 .. 3);
is_repeat($answers[$_], $answers[0], "repeat $_ in the same batch") for 1, 2;
is(n_of('d'), 1, 'imported once');
is(duplicates() - $before, 2, 'two duplicates');

# pairs at every distance, over many batches
my %seen;
@answers = ask_at_once(
	map { { body => add('e' . $_ % 7, feedback_id => "pair$_"), message_id => "pair$_", correlation_id => "pair$_" } }
	  1 .. 60, reverse(1 .. 60), map { ($_, $_) } 20 .. 40);
$seen{ $_->{correlation_id} }{"$_->{message_id} $_->{body}"}++ for @answers;
is(scalar(keys %seen), 60, 'every pair is answered');
is(scalar(grep { keys %$_ != 1 } values %seen), 0, 'each with one result');
is($node->sql("SELECT sum((data->>'n')::int) FROM profimport.profile WHERE email LIKE 'e%'"), 60, 'each is imported once');
is(duplicates() - $before, 2 + 60 + 42, 'the rest are duplicates');

# ---- failures are tried anew

@answers = ask_at_once(map { { body => add('f', db_id => 2), message_id => 'failed' } } 1 .. 2);
is($answers[$_]{json}{error}, 404, 'fails') for 0, 1;
isnt($answers[0]{message_id}, $answers[1]{message_id}, 'two failures have a message_id each');
is($node->sql('SELECT count(*) FROM profimport.import_error'), 2, 'both are kept');
$node->configure(1, 2, fields => { n => { type => 'int' } });
my $tried = ask(add('f', db_id => 2), message_id => 'failed');
is($tried->{json}{error}, 0, 'tried anew, it succeeds');
is_repeat(ask(add('f', db_id => 2), message_id => 'failed'), $tried, 'a success after a failure');
is(n_of('f'), 1, 'imported once');

# ---- the record gives back what was put in, whatever it looks like

for my $odd ('', '0123456789abcdef0123', 'abcdefabc', 'x12345678', "tab\tand \x{1} and \x{7f}", '"}', '","profile_id":"', 'created',
	'{"error":0,"error_text":"","feedback_id":"', "\x{44f}\x{1F600}", 'f' x 600, 'f' x 601)
{
	my $body = add('odd', feedback_id => $odd);
	(my $shown = $odd) =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ge;
	my $one = ask($body, message_id => 'odd');
	is($one->{json}{feedback_id}, $odd, "feedback_id $shown");
	is_repeat(ask($body, message_id => 'odd'), $one, "repeat of $shown");
}

# ---- restarts

$node->restart;
$node->wait_state('idle');
is_repeat(ask(add('a', feedback_id => 'f1'), message_id => 'm1'), $first, 'after a restart');
is(n_of('a'), 4, 'after a restart: nothing is written');
is(duplicates(), 1, 'after a restart: counted');
$node->wait_settled;
$node->stop('immediate');
$node->start;
$node->wait_settled;
# That the broker has confirmed a result may be forgotten in a crash: then it comes twice.
my %known = map { $_->{message_id} => 1 } @results;
is(scalar(grep { !$known{ $_->{message_id} } } $amqp->drain('database_import_result', quiet => 0.3)), 0, 'after a crash: no result but known ones');
is_repeat(ask(add('a', feedback_id => 'f1'), message_id => 'm1'), $first, 'after a crash');
is(n_of('a'), 4, 'after a crash: nothing is written');

# ---- several workers

$node->set('profimport.workers' => 4, 'profimport.batch_size' => 3);
$node->wait_state('idle', worker => $_) for 1 .. 4;
$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled', worker => $_) for 1 .. 4;
my @ids = map { int rand 100 } 1 .. 600;
$amqp->publish_many('database_import',
	[ map { { body => add("w$_", feedback_id => "w$_"), message_id => "w$_", correlation_id => "w$_" } } @ids ]);
$node->set('profimport.enabled' => undef);
@answers = $amqp->results(600);
push @results, @answers;
my %distinct = map { $_ => 1 } @ids;
%seen = ();
$seen{ $_->{correlation_id} }{"$_->{message_id} $_->{body}"}++ for @answers;
is(scalar(grep { $_->{json}{error} } @answers), 0, 'four workers: no failure');
is(scalar(grep { keys %$_ != 1 } values %seen), 0, 'four workers: one result for each message_id');
is( $node->sql("SELECT count(*), sum((data->>'n')::int) FROM profimport.profile WHERE email LIKE 'w%'"),
	join('|', (scalar keys %distinct) x 2),
	'four workers: each is imported once');
$node->wait_settled;
is($amqp->count('database_import_result'), 0, 'four workers: no result more');
$node->set('profimport.workers' => undef, 'profimport.batch_size' => undef);
$node->poll('one worker', 'SELECT count(*) FROM profimport.stat_worker', 1);
$node->wait_settled;

# ---- the window

$node->set('profimport.dedup_window' => '3s');
$node->poll('a short window', 'SHOW profimport.dedup_window', '3s');
my $start = $node->sql('SELECT clock_timestamp()');
$first = ask(add('g'), message_id => 'window');
my $again = ask(add('g'), message_id => 'window');
my $late = $node->sql("SELECT clock_timestamp() > '$start'::timestamptz + interval '3s'");
SKIP:
{
	skip 'too slow a machine', 4 if $late eq 't';
	is_repeat($again, $first, 'inside of the window');
	is(n_of('g'), 1, 'inside of the window: imported once');
}
# a repeat does not prolong it
$node->poll(
	'the end of the window',
	"SELECT clock_timestamp() > max(applied_at) + interval '3s' FROM profimport.dedup",
	qr/^t?$/);
my $n = n_of('g');
$again = ask(add('g'), message_id => 'window');
isnt($again->{message_id}, $first->{message_id}, 'past the window: a new message');
is($again->{headers}{outcome}, 'updated', 'past the window: imported');
is(n_of('g'), $n + 1, 'past the window: once more');
is_repeat(ask(add('g'), message_id => 'window'), $again, 'a new window');
$node->poll('records are forgotten', 'SELECT count(*) FROM profimport.dedup', 0);

$node->set('profimport.dedup_window' => 0);
$node->poll('no window', 'SHOW profimport.dedup_window', '0');
my @two = map { ask(add('h'), message_id => 'off') } 1, 2;
isnt($two[0]{message_id}, $two[1]{message_id}, 'no window: two results');
is(n_of('h'), 2, 'no window: two messages');
ask_at_once(map { { body => add('h'), message_id => 'off' } } 1 .. 3);
is(n_of('h'), 5, 'no window: in one batch too');
$node->set('profimport.dedup_window' => undef);

# ---- correlation_id

my $c255 = 'x' x 255;
my $two_bytes = "\x{e9}" x 127 . 'x';

$amqp->declare('elsewhere');
for my $case (
	[ 'its own', 'c', { correlation_id => 'c', message_id => 'cm' }, { feedback_id => 'f' } ],
	[ 'the message_id', 'cm2', { message_id => 'cm2' }, { feedback_id => 'f' } ],
	[ 'the feedback_id', 'f', {}, { feedback_id => 'f' } ],
	[ 'a feedback_id of 255 bytes', $c255, {}, { feedback_id => $c255 } ],
	[ 'a longer feedback_id: none', undef, {}, { feedback_id => "x$c255" } ],
	[ 'a feedback_id of 255 bytes in UTF-8', $two_bytes, {}, { feedback_id => $two_bytes } ],
	[ 'a feedback_id of 256 bytes in UTF-8: none', undef, {}, { feedback_id => "\x{e9}" x 128 } ],
	[ 'no identity: none', undef, {}, {} ],
	[ 'an empty feedback_id: none', undef, {}, { feedback_id => '' } ],
	[ 'an empty message_id: the feedback_id', 'f', { message_id => '' }, { feedback_id => 'f' } ],
	[ 'an empty correlation_id: the message_id', 'cm3', { correlation_id => '', message_id => 'cm3' }, { feedback_id => 'f' } ],
	[ 'an empty everything: none', undef, { correlation_id => '', message_id => '' }, {} ],
	[ 'a failure', 'ff', {}, { feedback_id => 'ff', db_id => 99 } ],
	[ 'reply_to is ignored', 'r', { correlation_id => 'r', reply_to => 'elsewhere' }, {} ])
{
	my ($what, $expected, $properties, $keys) = @$case;
	my $result = ask(add('i', %$keys), %$properties);

	is($result->{correlation_id}, $expected, "correlation_id: $what");
	is($result->{json}{feedback_id}, $keys->{feedback_id} // '', "correlation_id: $what: feedback_id");
}
is(ask('no JSON', message_id => 'nj')->{correlation_id}, 'nj', 'correlation_id: a body that is not JSON');
is(ask('no JSON')->{correlation_id}, undef, 'correlation_id: nothing there');
is($amqp->count('elsewhere'), 0, 'nothing goes to reply_to');

# ---- all of them

$node->wait_settled;
is($amqp->count('database_import_result'), 0, 'no result that nobody asked for');
is(scalar(grep { $_->{content_type} ne 'application/json' } @results), 0, 'content_type');
is(scalar(grep { $_->{app_id} ne 'profimport' } @results), 0, 'app_id');
is(scalar(grep { $_->{delivery_mode} != 2 } @results), 0, 'persistent');
is(scalar(grep { $_->{expiration} ne '86400000' } @results), 0, 'expiration');
is( scalar(grep { join(' ', keys %{ $_->{headers} }) ne 'outcome' || $_->{headers}{outcome} !~ /^(created|updated|unchanged|failed)$/ } @results),
	0, 'headers');
is(scalar(grep { !!$_->{json}{error} != ($_->{headers}{outcome} eq 'failed') } @results), 0, 'the outcome is failed where there is an error');
is(scalar(grep { join(' ', sort keys %{ $_->{json} }) ne 'error error_text feedback_id matching_field profile_id' } @results), 0, 'five keys');
my %bodies;
$bodies{ $_->{message_id} }{ $_->{body} }++ for @results;
is(scalar(grep { keys %$_ > 1 } values %bodies), 0, 'no message_id stands for two results');
is(scalar(grep { !defined $_->{message_id} } @results), 0, 'none without a message_id');

$node->set('profimport.result_ttl' => '90s');
$node->poll('another TTL', 'SHOW profimport.result_ttl', '90s');
is(ask(add('j'))->{expiration}, '90000', 'expiration follows a reload');
$node->set('profimport.result_ttl' => 0);
$node->poll('no TTL', 'SHOW profimport.result_ttl', '0');
is(ask(add('j'))->{expiration}, undef, 'no TTL, no expiration');

done_testing();
