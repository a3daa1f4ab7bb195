# monitoring/: every query runs as a role that may do no more than monitor, and
# gives what the file says it gives; alerts and dashboard use no other metrics.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use CPAN::Meta::YAML;
use IPC::Run ();
use JSON::PP ();
use ProfImport::Test;

my $directory = "$FindBin::RealBin/../monitoring";
my $queries = CPAN::Meta::YAML->read("$directory/queries.yml")->[0];
my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('monitoring');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('monitoring', url => $broker->url($vhost), conf => { 'profimport.workers' => 2 });

$node->configure(1, 1);
$node->wait_settled;
$node->sql('CREATE ROLE exporter LOGIN; GRANT pg_monitor TO exporter');

sub ask
{
	my ($query) = @_;
	my ($status, $stdout, $stderr) = $node->try("SELECT coalesce(json_agg(to_json(q)), '[]') FROM ($query) q", role => 'exporter');

	die $stderr unless $status == 0;
	return @{ JSON::PP->new->decode($stdout) };
}

# ---- the queries

my %known;

cmp_ok(scalar(keys %$queries), '>', 4, 'queries');
for my $round ('idle', 'after an import', 'without workers')
{
	if ($round eq 'after an import')
	{
		$amqp->publish('database_import', message(email => 'a@example.com'));
		$amqp->publish('database_import', 'no JSON');
		$amqp->results(2);
		$node->wait_settled;
	}
	if ($round eq 'without workers')
	{
		$node->set('profimport.enabled' => 'off');
		$node->wait_state('disabled', worker => $_) for 1, 2;
	}
	for my $name (sort keys %$queries)
	{
		my %usage = map { my ($column) = keys %$_; $column => $_->{$column}{usage} } @{ $queries->{$name}{metrics} };
		my @rows = ask($queries->{$name}{query});
		my %columns = map { $_ => 1 } map { keys %$_ } @rows;

		cmp_ok(scalar(@rows), '>', 0, "$round: $name gives rows");
		is("@{[ sort keys %columns ]}", "@{[ sort keys %usage ]}", "$round: $name gives the columns it declares");
		is(join(' ', grep { !/\A(?:LABEL|GAUGE|COUNTER)\z/ } values %usage), '', "$round: $name: usages the exporter knows");
		is( join(' ', grep { my $c = $_; grep { defined $_->{$c} && (ref $_->{$c} || $_->{$c} !~ /\A-?[0-9.]+(?:e[-+]?[0-9]+)?\z/) } @rows }
				grep { $usage{$_} ne 'LABEL' } sort keys %usage),
			'', "$round: $name gives numbers");
		$known{ $name . '_' . $_ } = 1 for grep { $usage{$_} ne 'LABEL' } keys %usage;
		is(join(' ', grep { my $c = $_; ($usage{$c} eq 'COUNTER') != ($c =~ /_total\z/) } sort keys %usage), '', "$round: $name: counters end in _total, gauges do not");
		is(join(' ', grep { !$_->{ (keys %$_)[0] }{description} } @{ $queries->{$name}{metrics} }), '', "$round: $name: descriptions");
	}
	my ($status) = ask($queries->{profimport_status}{query});
	my ($failed) = grep { $_->{error} == 400 } ask($queries->{profimport_result}{query});
	my %states = map { $_->{worker} => $_->{state} } grep { $_->{current} } ask($queries->{profimport_worker_state}{query});

	is("$status->{workers_connected} $status->{workers_expected}", $round eq 'without workers' ? '0 0' : '2 2', "$round: workers");
	is($failed->{messages_total}, $round eq 'idle' ? 0 : 1, "$round: failures");
	is("$states{1} $states{2}", $round eq 'without workers' ? 'disabled disabled' : 'idle idle', "$round: states");
}
is_json([ sort map { $_->{state} } grep { $_->{worker} == 1 } ask($queries->{profimport_worker_state}{query}) ],
	[ sort qw(stopped disabled waiting connecting idle importing blocked paused backoff error) ], 'every state has a series');

# ---- the last full minute

# No test waits for the clock: the query without its condition has all minutes.
my ($minutes) = ask($queries->{profimport_minute}{query} =~ s/\bWHERE.*//sr);
is("$minutes->{messages} $minutes->{failed} $minutes->{created}", '2 1 1', 'the minutes hold both messages');

# ---- what alerts and dashboard refer to

for my $file ('alerts.yml', 'alerts_test.yml', 'dashboard.json')
{
	my %used = map { $_ => 1 } slurp_file("$directory/$file") =~ /\b(profimport_\w+)/g;

	cmp_ok(scalar(keys %used), '>', 5, "$file: metrics");
	is(join(' ', grep { !$known{$_} } sort keys %used), '', "$file: no metric that there is not");
}

my $dashboard = JSON::PP->new->utf8->decode(slurp_file("$directory/dashboard.json"));
my %ids = map { $_->{id} => 1 } @{ $dashboard->{panels} };
is(scalar(keys %ids), scalar(@{ $dashboard->{panels} }), 'dashboard: every panel has an id of its own');
is(scalar(grep { !@{ $_->{targets} } || grep { !$_->{expr} } @{ $_->{targets} } } @{ $dashboard->{panels} }), 0, 'dashboard: and a query');

SKIP:
{
	skip 'no promtool (Debian: prometheus)', 2 unless grep { -x "$_/promtool" } split /:/, $ENV{PATH};
	my $out;

	ok(IPC::Run::run([ 'promtool', 'check', 'rules', "$directory/alerts.yml" ], '&>', \$out), 'promtool check rules') or diag $out;
	ok(IPC::Run::run([ 'promtool', 'test', 'rules', "$directory/alerts_test.yml" ], '&>', \$out), 'promtool test rules') or diag $out;
}

done_testing();
