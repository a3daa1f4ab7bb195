
=pod

=head1 NAME

BenchGrowth - what bench/run measures over a long time and with much data

=head1 SYNOPSIS

  my $growth = BenchGrowth->new($world);
  my $result = $growth->shape('create', [ keys => 5 ]);   # as those of BenchWorld
  my @rows = $growth->churn(per_lap => 20_000, phases => [ [ 'no snapshot', 50 ], ... ]);
  my @rows = $growth->records(messages => 50_000);

Sizes are in MB.  Autovacuum looks every 10 seconds while tables are churned, as the phases take a minute where
in real life they take hours.

=cut

package BenchGrowth;

use strict;
use warnings;

use ProfImport::Test;

# Fields, keys and subscriptions that a profile may have here; in a database of its own.
use constant { DB => 9, FIELDS => 100, KEYS => 10, RESOURCE => 9 };

sub new
{
	my ($class, $world) = @_;
	my $self = bless { world => $world, node => $world->node, run => 0 }, $class;

	$self->{node}->configure(1, DB,
		fields => {
			(map { ("f$_" => { type => 'string' }) } 1 .. FIELDS),
			(map { ("k$_" => { type => 'int', matching => json_true }) } 1 .. KEYS) },
		resources => { RESOURCE() => { fields => { points => { type => 'int' } } } });
	return $self;
}

# Creates profiles with so many fields, keys and subscriptions, or updates those that were created so.
# An update sends everything again and changes one field; with "change", one key or one subscription besides;
# with "send" only so many of the fields.
sub shape
{
	my ($self, $kind, $shape, %options) = @_;
	my $n = $options{n};
	my %has = (fields => 3, keys => 0, subscriptions => 0, change => '', send => undef, @$shape);
	my $name = join '-', map { "$_$has{$_}" } qw(fields keys subscriptions);
	my $value = ++$self->{run};
	my @lines;

	# two shapes that create the same do it once a round
	$self->{batch}{$name} = $value if $kind eq 'create';
	my $batch = $self->{batch}{$name};
	for my $i (1 .. $n)
	{
		my $id = $batch * 1_000_000 + $i;
		my $fields = $kind eq 'update' && defined $has{send} ? $has{send} : $has{fields};
		my @data = map { qq("f$_":") . ($_ == 1 ? "value $value" : "of field $_ of $i") . '"' } 1 .. $fields;

		push @data, map { qq("k$_":) . ($_ == 1 && $has{change} eq 'key' ? $id * 1000 + $value % 1000 : $id) } 1 .. $has{keys};
		if ($has{subscriptions} && ($kind eq 'create' || $has{change} eq 'subscription'))
		{
			push @data, '"subscriptions":[' . join(',', map {
					qq({"resource_id":9,"channel":"sms","phone":"+4) . (9_000_000_000 + ($id * 20 + $_) % 1_000_000_000) . qq(","custom_fields":{"points":$value}})
				} 1 .. ($kind eq 'create' ? $has{subscriptions} : 1)) . ']';
		}
		push @lines, qq({"account_id":1,"db_id":9,"email":"$name-$id\@example.com","data":{) . join(',', @data) . '}}';
	}
	return $self->{world}->sql_loop('profimport.import_batch', $kind, lines => \@lines);
}

sub sizes
{
	my ($self, @relations) = @_;

	return map { $_ / 1024 / 1024 } split /\|/, $self->{node}->sql('SELECT ' . join(', ', @relations));
}

sub heap { return "pg_table_size('profimport.$_[0]') - coalesce((SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'profimport.$_[0]'::regclass AND reltoastrelid <> 0), 0)" }
sub toast { return "(SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'profimport.$_[0]'::regclass)" }
sub indexes { return "pg_indexes_size('profimport.$_[0]')" }

# An old snapshot, as a report that runs for hours or a forgotten transaction holds one.
sub hold
{
	my ($self) = @_;
	my $psql = $self->{node}->background_psql('postgres');

	$psql->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM profimport.account');
	return $psql;
}

# Updates the same profiles lap after lap, a batch of events taken after each batch of
# messages.  A phase is [ name, laps, held ]; a row: phase, updates, us of CPU a message to import, and to take its event, HOT %,
# dead rows, MB of profile, its indexes, trigger_event, its indexes.
sub churn
{
	my ($self, %p) = @_;
	my ($world, $node) = @$self{qw(world node)};
	my (@rows, $held);
	my $updates = 0;

	# two sets of values in turn, so that every message changes something
	$world->stage("bench_lap$_", $world->bodies('update', n => $p{per_lap}, db => 5)) for 0, 1;
	$node->sql('CREATE PROCEDURE bench_lap(which text, INOUT import_ns bigint, INOUT take_ns bigint) LANGUAGE plpgsql AS $$
		DECLARE r record; c bigint;
		BEGIN
			FOR r IN EXECUTE format($q$SELECT a FROM %I ORDER BY i$q$, which) LOOP
				c := bench_cpu();
				PERFORM profimport.import_batch(r.a);
				COMMIT;
				import_ns := import_ns + bench_cpu() - c;
				c := bench_cpu();
				PERFORM profimport.take_trigger_events(1000);
				COMMIT;
				take_ns := take_ns + bench_cpu() - c;
			END LOOP;
		END $$');
	$node->sql("CALL bench_lap('bench_lap0', 0, 0)");
	$world->tidy;
	$node->set(autovacuum_naptime => '10s');
	for my $phase (@{ $p{phases} })
	{
		my ($name, $laps, $hold) = @$phase;
		$held //= $self->hold if $hold;
		$held = $held->quit && undef if $held && !$hold;
		# so many rows to a phase
		my $step = int($laps / ($p{steps} // 2)) || 1;
		for (my $lap = 0; $lap < $laps; $lap += $step)
		{
			my $hot0 = $node->sql("SELECT pg_stat_get_tuples_hot_updated('profimport.profile'::regclass) || ' ' || pg_stat_get_tuples_updated('profimport.profile'::regclass)");
			my ($import, $take) = (0, 0);
			for (1 .. $step)
			{
				my ($i, $t) = split /\|/, $node->sql(sprintf "CALL bench_lap('bench_lap%d', 0, 0)", ++$self->{lap} % 2);
				$import += $i;
				$take += $t;
			}
			my $done = $step * $p{per_lap};
			$updates += $done;
			$node->poll('counted', "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE 'CALL bench_lap%'", 0);
			my ($hot_before, $updated_before) = split ' ', $hot0;
			my ($hot, $updated, $dead) = split / /, $node->sql("SELECT pg_stat_get_tuples_hot_updated(r) || ' ' || pg_stat_get_tuples_updated(r) || ' ' || pg_stat_get_dead_tuples(r)"
				  . " FROM (SELECT 'profimport.profile'::regclass AS r) x");
			my @mb = $self->sizes(heap('profile'), indexes('profile'), heap('trigger_event'), indexes('trigger_event'));
			push @rows, [ $name, $updates, $import / $done / 1000, $take / $done / 1000,
				$updated > $updated_before ? 100 * ($hot - $hot_before) / ($updated - $updated_before) : 0, $dead, @mb ];
			$p{progress}->($rows[-1]) if $p{progress};
		}
	}
	$held->quit if $held;
	$node->set(autovacuum_naptime => undef);
	$node->sql('DROP PROCEDURE bench_lap; DROP TABLE bench_lap0, bench_lap1');
	$world->tidy;
	return @rows;
}

# The worker's own records after so many messages in batches of so many: without and with an old
# snapshot, and after it.  A row: phase, MB of batch, its index, its TOAST, applied with all of its.
sub records
{
	my ($self, %p) = @_;
	my ($world, $node) = @$self{qw(world node)};
	my @rows;

	$node->set(autovacuum_naptime => '10s', 'profimport.dedup_window' => '10s');
	for my $phase ([ 'no snapshot', 0 ], [ 'snapshot held', 1 ], [ 'released', 0 ])
	{
		my $held = $phase->[1] ? $self->hold : undef;
		my $batches = $node->sql('SELECT sum(batches) FROM profimport.stat_worker');
		my $result = $world->bridge('update', n => $p{messages}, set => { 'profimport.batch_size' => $p{batch_size} });
		$batches = $node->sql('SELECT sum(batches) FROM profimport.stat_worker') - $batches;
		push @rows, [ $phase->[0], $batches, $result->{client}, $self->sizes(heap('batch'), indexes('batch'), toast('batch'), "pg_total_relation_size('profimport.applied')") ];
		$held->quit if $held;
	}
	$node->set(autovacuum_naptime => undef, 'profimport.dedup_window' => undef);
	return @rows;
}

1;
