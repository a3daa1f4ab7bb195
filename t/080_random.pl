# Random messages over a few profiles: import() one at a time, import_batch() in batches of random size,
# and the queue end with the same databases and the same results.  Then 100,000 random and
# mutated bodies: as many results as bodies, in order, and never a 500.
#
# PROFIMPORT_SEED=N repeats a run; PROFIMPORT_RANDOM=N takes that many messages.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Random;
use ProfImport::Test;

my $seed = $ENV{PROFIMPORT_SEED} // 20240229;
my $count = $ENV{PROFIMPORT_RANDOM} // 4000;
my $bodies = $ENV{PROFIMPORT_BODIES} // 100_000;
my $random = ProfImport::Random->new($seed);
note "seed $seed";

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('random');
my $node = ProfImport::Node->create('main',
	url => $broker->url($vhost),
	conf => { 'profimport.workers' => 0, 'fsync' => 'off', 'profimport.batch_size' => 37, 'profimport.error_log_file' => '' });

$node->sql($random->configuration);
for my $database (qw(one batch))
{
	$node->sql("CREATE DATABASE $database");
	$node->sql('CREATE EXTENSION profimport; ' . $random->configuration, dbname => $database);
}

my @messages = map { $random->message($_) } 1 .. $count;

# The bodies as a table, in files that psql copies from.
sub load
{
	my ($database, @list) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$database.hex";
	my $n = 0;

	open my $out, '>', $file or die "$file: $!";
	print {$out} ++$n, "\t\\\\x", unpack('H*', $_), "\n" for @list;
	close $out or die "$file: $!";
	$node->sql("CREATE TABLE IF NOT EXISTS public.body (n int PRIMARY KEY, body bytea); TRUNCATE public.body;\n\\copy public.body FROM '$file'\n", dbname => $database);
	return;
}

# (a) one import() each.  A body that jsonb does not take cannot be given to import().
load('one', @messages);
load('batch', @messages);
is($node->sql('SELECT count(*) FROM public.body WHERE convert_from(body, $$UTF8$$)::jsonb IS NULL', dbname => 'one'), 0, 'every message is JSON');
$node->sql(<<'SQL', dbname => 'one', timeout => 600);
CREATE TABLE public.result (n int PRIMARY KEY, result jsonb, dry jsonb);
DO $$
DECLARE
	b record;
	d jsonb;
BEGIN
	FOR b IN SELECT n, convert_from(body, 'UTF8')::jsonb AS message FROM public.body ORDER BY n LOOP
		d := profimport.import(b.message, true);
		INSERT INTO public.result VALUES (b.n, profimport.import(b.message), d);
		COMMIT;
	END LOOP;
END $$;
SQL
is($node->sql(q{SELECT count(*) FROM public.result r WHERE dry - 'profile_id' <> result - 'profile_id' OR dry->>'profile_id' <> CASE WHEN EXISTS (SELECT FROM public.result o WHERE o.n < r.n AND o.result->>'profile_id' = r.result->>'profile_id') OR result->>'profile_id' ~ '^p[123]$' THEN result->>'profile_id' ELSE '' END}, dbname => 'one'), 0, 'a dry run said the same before')
  or diag "seed $seed";

# (b) batches of 1 to 60
my @cuts = (0);
push @cuts, $cuts[-1] + 1 + $random->below(60) while $cuts[-1] < $count;
$node->sql(
	"CREATE TABLE public.result (n int PRIMARY KEY, result jsonb);\n"
	  . join('', map { "INSERT INTO public.result SELECT $cuts[$_ - 1] + ordinal, result FROM profimport.import_batch((SELECT array_agg(body ORDER BY n) FROM public.body WHERE n > $cuts[$_ - 1] AND n <= $cuts[$_]));\n" } 1 .. $#cuts),
	dbname => 'batch',
	timeout => 600);

# (c) the queue
my $amqp = $broker->client($vhost);
$amqp->declare('database_import');
$amqp->publish_many('database_import', \@messages);
$node->set('profimport.workers' => 1);
poll_until { $amqp->exists('database_import_result') } 'a queue of results';
my @queue = map { $_->{body} } $amqp->results($count, timeout => 300);
$node->wait_settled;
$node->set('profimport.workers' => 0);
$node->poll('the worker gone', 'SELECT workers_running FROM profimport.status', 0);

# Generated ids become P1, P2, ... in the order in which results name them.
sub name_ids
{
	my ($names, @lines) = @_;

	s/\b([0-9a-f]{24})\b/$names->{$1} \/\/= 'P' . (1 + keys %$names)/ge for @lines;
	return @lines;
}

my %answer;
my %names;
for my $database (qw(one batch))
{
	$answer{$database} = [ name_ids($names{$database} = {}, split /\n/, $node->sql('SELECT result FROM public.result ORDER BY n', dbname => $database)) ];
}
my $canonical = JSON::PP->new->canonical->utf8;
$answer{queue} = [ name_ids($names{postgres} = {}, @queue) ];

is(scalar @{ $answer{$_} }, $count, "$_: as many results as messages") for qw(one batch queue);
for my $other (qw(batch queue))
{
	my @differ = grep { $canonical->encode($canonical->decode($answer{one}[$_])) ne $canonical->encode($canonical->decode($answer{$other}[$_] // '{}')) } 0 .. $count - 1;
	is(scalar @differ, 0, "the same results from import() and $other") or do
	{
		diag "seed $seed";
		diag join "\n", "message $_: $messages[$_]", "import: $answer{one}[$_]", "$other: " . ($answer{$other}[$_] // 'none') for grep { defined } @differ[ 0 .. 4 ];
	};
}

# What stands in the databases, without what must differ: times and numbers.
my %dump = (
	profiles => q{SELECT to_jsonb(p) - '{created_at,updated_at}'::text[] FROM profimport.profile p},
	subscriptions => q{SELECT to_jsonb(s) - '{subscription_no,created_at,updated_at}'::text[] FROM profimport.subscription s},
	documents => q{SELECT (profimport.get_profile(account_id, db_id, profile_id) - 'subscriptions') FROM profimport.profile},
	events => q{SELECT to_jsonb(e) - '{event_id,occurred_at,subscription_no}'::text[] FROM profimport.trigger_event e ORDER BY event_id},
	errors => q{SELECT to_jsonb(e) - '{error_id,occurred_at,headers,body}'::text[] FROM profimport.import_error e ORDER BY error_id},
);
for my $what (sort keys %dump)
{
	my %text;
	for my $database (qw(one batch postgres))
	{
		my @lines = name_ids($names{$database}, split /\n/, $node->sql($dump{$what}, dbname => $database));
		@lines = sort @lines unless $dump{$what} =~ /ORDER BY/;
		$text{$database} = \@lines;
	}
	note "$what: " . @{ $text{one} };
	cmp_ok(scalar @{ $text{one} }, '>', 0, "there are $what");
	for my $other (qw(batch postgres))
	{
		is_deeply($text{$other}, $text{one}, "the same $what in $other") or diag "seed $seed";
	}
}

# The mix is what it should be: every code, every outcome of a mode.
my %codes;
$codes{ $canonical->decode($_)->{error} }++ for @{ $answer{one} };
is(join(' ', sort keys %codes), '0 400 404 409', 'the messages met every code and no other');
note join ', ', map { "$_: $codes{$_}" } sort keys %codes;
is($node->sql(q{SELECT count(DISTINCT result->>'matching_field') FROM public.result WHERE result->'error' = '0'}, dbname => 'one'), 11, 'every mode succeeded');

# What matches is what stands there: every value finds its profile, and only it.
for my $database (qw(one batch postgres))
{
	my $found = $node->sql(<<'SQL', dbname => $database);
WITH key (account_id, db_id, message, profile_id) AS (
	SELECT account_id, db_id, jsonb_build_object('matching', 'email_profile', 'email', email), profile_id FROM profimport.profile WHERE email IS NOT NULL
	UNION ALL
	SELECT account_id, db_id, jsonb_build_object('matching', 'custom', 'field_name', k, 'field_value', data->>k), profile_id FROM profimport.profile, unnest('{u,un,s,n,d,li,ip}'::text[]) k WHERE db_id = 1 AND data->>k ~ '[^[:space:]]'
	UNION ALL
	SELECT account_id, db_id, jsonb_build_object('matching', 'phone_sub', 'phone', contact), profile_id FROM profimport.subscription WHERE channel = 'sms'
	UNION ALL
	SELECT account_id, db_id, jsonb_build_object('matching', 'email_sub', 'email', contact), profile_id FROM profimport.subscription WHERE channel = 'email'
	UNION ALL
	SELECT account_id, db_id, jsonb_build_object('matching', 'push_sub', 'provider', provider, 'subscription_id', contact), profile_id FROM profimport.subscription WHERE channel = 'push'),
wanted (account_id, db_id, message, profiles) AS (
	SELECT account_id, db_id, CASE WHEN message ? 'email' THEN jsonb_set(message, '{email}', to_jsonb(translate(message->>'email', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'))) ELSE message END, array_agg(DISTINCT profile_id)
	FROM key GROUP BY 1, 2, 3)
SELECT count(*), count(*) FILTER (WHERE CASE WHEN cardinality(profiles) > 1 THEN r->>'error' <> '409' ELSE r->>'profile_id' <> profiles[1] END), min(message::text) FILTER (WHERE CASE WHEN cardinality(profiles) > 1 THEN r->>'error' <> '409' ELSE r->>'profile_id' <> profiles[1] END)
FROM wanted, profimport.import(message || jsonb_build_object('account_id', account_id, 'db_id', db_id, 'data', '{}'::jsonb, 'update_only', true), true) r
SQL
	like($found, qr/^[1-9]\d+\|0\|$/, "$database: every value is found, and finds what has it") or diag "seed $seed: $found";
}

# Random and mutated bodies.  Among them, untouched ones whose echo shows the order.
my @mutants;
for my $n (1 .. $bodies)
{
	my $message = $messages[ $random->below($count) ];
	push @mutants,
	    $n % 50 == 0 ? qq({"account_id":1,"db_id":1,"data":{},"email":"a\@x.io","update_only":true,"feedback_id":"order-$n"})
	  : $random->chance(12) ? $random->rubbish
	  : $random->mutate($message, $messages[ $random->below($count) ]);
}
load('batch', @mutants);
$node->sql(<<'SQL', dbname => 'batch', timeout => 1200);
TRUNCATE public.result;
TRUNCATE profimport.import_error;
DO $$
DECLARE
	first int := 1;
	last int;
	top int := (SELECT max(n) FROM public.body);
BEGIN
	PERFORM setseed(0.5);
	WHILE first <= top LOOP
		last := least(top, first + (random() * 2000)::int);
		INSERT INTO public.result SELECT first - 1 + ordinal, result FROM profimport.import_batch((SELECT array_agg(body ORDER BY n) FROM public.body WHERE n BETWEEN first AND last));
		COMMIT;
		first := last + 1;
	END LOOP;
END $$;
SQL
is($node->sql('SELECT count(*), min(n), max(n) FROM public.result', dbname => 'batch'), "$bodies|1|$bodies", 'as many results as bodies');
is($node->sql(q{SELECT count(*) FROM public.result r WHERE n % 50 = 0 AND result->>'feedback_id' <> 'order-' || n OR n % 50 <> 0 AND result->>'feedback_id' ~ '^order-'}, dbname => 'batch'), 0, 'in order');
is($node->sql(q{SELECT string_agg(DISTINCT result->>'error', ' ' ORDER BY result->>'error') FROM public.result}, dbname => 'batch'), '0 400 404 409', 'codes 0, 400, 404 and 409 only')
  or diag "seed $seed: " . $node->sql(q{SELECT result, body FROM public.result JOIN public.body USING (n) WHERE result->>'error' NOT IN ('0', '400', '404', '409') LIMIT 5}, dbname => 'batch');
is($node->sql(q{SELECT count(*) FROM public.result WHERE (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(result) k) <> '{error,error_text,feedback_id,matching_field,profile_id}'
	OR (result->'error' = '0') <> (result->>'error_text' = '') OR (result->'error' = '0') <> (result->>'profile_id' <> '')}, dbname => 'batch'),
	0, 'the same five keys always');
is($node->sql(q{SELECT (SELECT count(*) FROM profimport.import_error) - (SELECT count(*) FROM public.result WHERE result->'error' <> '0')}, dbname => 'batch'), 0, 'every failure is kept');
is($node->sql(q{SELECT count(*) FROM profimport.import_error e WHERE NOT EXISTS (SELECT FROM public.body b WHERE b.body = e.body)}, dbname => 'batch'), 0, 'with the body as it was');
note $node->sql(q{SELECT string_agg(format('%s: %s', e, c), ', ') FROM (SELECT result->>'error' AS e, count(*) AS c FROM public.result GROUP BY 1 ORDER BY 1) x}, dbname => 'batch');

done_testing();
