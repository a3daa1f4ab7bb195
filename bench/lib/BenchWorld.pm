
=pod

=head1 NAME

BenchWorld - the servers of bench/run, and everything that it measures once

=head1 SYNOPSIS

  my $world = BenchWorld->new(messages => 30_000, batch => 500);
  $world->floor;
  $world->bridge('update', set => { 'profimport.batch_size' => 100 });

Every measurement makes the messages it needs, different ones each time, and returns a hash: rate
(messages/s), and, where they make sense, in microseconds of CPU per message, client (the worker, or the external
process), backend (its PostgreSQL backend) and broker; others (the share of the machine that
everything else used meanwhile, in percent: when it is high, the figures are about something else).
What is written, per message: wal (bytes without full page images), fpi (bytes of these), dirty (distinct blocks that are
dirty afterwards and were not before; every run begins with a checkpoint, so each pays for its full pages itself), hot (share of HOT among
the updates of the table of profiles, in percent). client_mb and backend_mb are the memory that is a process's own
at the end (RssAnon; what it maps of shared buffers or of files is not in it).

What is compared end to end is treated alike: the queue is filled and confirmed first, the process is new, and
time runs from when it is connected (of several, the last) to when the last result is confirmed.  CPU is what the kernel counted for all threads,
in nanoseconds.  The server has no checkpoint of its own during a run.

=cut

package BenchWorld;

use strict;
use warnings;

use FindBin;
use IPC::Open2;
use IO::Handle;
use Time::HiRes qw(time sleep);
use ProfImport::Test;

my $here = $FindBin::RealBin;

sub new
{
	my ($class, %options) = @_;
	my $self = bless { run => 0, %options }, $class;

	$self->{load} = "$ENV{TMPDIR}/amqp_load";
	system('cc', '-O2', '-o', $self->{load}, "$here/amqp_load.c", '-lrabbitmq') == 0
	  or die "cannot build amqp_load";
	$self->{broker} = ProfImport::Broker->private('bench');
	$self->{vhost} = $self->{broker}->new_vhost('bench');
	$self->{place} = [ '127.0.0.1', $self->{broker}->port, $self->{vhost} ];
	# as the queue of results is
	$self->client->declare($_, arguments => { 'x-message-ttl' => 86_400_000 })
	  for qw(floor_out echo_out node_out python_out);
	my $node = $self->{node} = ProfImport::Node->create('bench',
		url => $self->{broker}->url($self->{vhost}),
		conf => {
			'profimport.enabled' => 'off',
			fsync => 'on',
			shared_buffers => '1GB',
			max_wal_size => '16GB',
			checkpoint_timeout => '1h',
			# blocks stay dirty until the checkpoint that we ask for, so they can be counted
			bgwriter_lru_maxpages => 0,
			# PostgreSQL's test library has every statement logged
			log_statement => 'none',
			log_min_messages => 'warning' });
	$node->configure(1, $_, fields => { points => { type => 'int' }, tier => { type => 'tags', matching => json_true },
			card => { type => 'int', matching => json_true } })
	  for 1 .. 6;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_buffercache');
	$node->safe_psql('postgres', slurp_file("$here/upsert_loop.sql"));
	# what updates find, in both tables
	$self->sql_loop($_, 'update') for qw(profimport.import_batch bench_upsert);
	$self->tidy;
	return $self;
}

sub node { return $_[0]{node} }
sub client { return $_[0]{client} //= $_[0]{broker}->client($_[0]{vhost}) }

# Between measurements: nothing that one leaves makes the next one slower.
sub tidy
{
	my ($self) = @_;

	$self->node->safe_psql('postgres', 'TRUNCATE profimport.trigger_event');
	$self->node->safe_psql('postgres', 'VACUUM ANALYZE');
	$self->node->safe_psql('postgres', 'CHECKPOINT');
	return;
}

# Messages of a run, no two runs alike.  "half": every second profile is there;
# "same": profiles of their own, whose values never change; "hot": one profile;
# "tag" and "custom": found by a tag, by a key.  With "of", any of so many profiles, by chance.
sub bodies
{
	my ($self, $kind, %options) = @_;
	my $n = $options{n} // $self->{messages};
	my $db = $options{db} // 1;
	my $run = ++$self->{run};
	my $value = $kind eq 'same' ? 0 : $run;
	my @lines;

	for my $i (1 .. $n)
	{
		my $who =
			$options{of} ? 'u' . (1 + int rand $options{of})
		  : $kind eq 'create' ? "c$run-$i"
		  : $kind eq 'half' ? ($i % 2 ? "h$run-$i" : "u$i")
		  : $kind eq 'hot' ? 'hot'
		  : $kind eq 'same' ? "s$i"
		  : "u$i";
		my $match = $kind eq 'tag' ? qq("matching":"custom","field_name":"tier","field_value":"$who")
		  : $kind eq 'custom' ? qq("matching":"custom","field_name":"card","field_value":$i)
		  : qq("email":"$who\@example.com");
		push @lines,
			qq({"account_id":1,"db_id":$db,$match,"feedback_id":"f$run-$i",)
		  . qq("data":{"_fname":"John","_lname":"Doe $value","_city":"Berlin","points":) . ($i + $value) . '}}';
	}
	return @lines;
}

sub fill
{
	my ($self, $queue, $lines, $prefix) = @_;

	open my $pipe, '|-', join(' ', $self->{load}, 'fill', @{ $self->{place} }, $queue, $prefix // (), '>/dev/null')
	  or die $!;
	print $pipe "$_\n" for @$lines;
	close $pipe or die "fill failed";
	return;
}

# Seconds of CPU of a process, all threads.
sub cpu
{
	my ($pid) = @_;
	my $sum = 0;

	for my $file (glob "/proc/$pid/task/*/schedstat")
	{
		open my $f, '<', $file or next;
		my ($ns) = split ' ', <$f> // '';
		$sum += $ns // 0;
	}
	return $sum / 1e9;
}

# Seconds that all cores were busy, and that have passed for all of them.
sub machine
{
	my ($user, $nice, $system, $idle, $iowait, $irq, $softirq, $steal) = (split ' ', slurp_file('/proc/stat'))[ 1 .. 8 ];
	my $busy = $user + $nice + $system + $irq + $softirq + $steal;

	return ($busy / 100, ($busy + $idle + $iowait) / 100);
}

# What to take the difference of; pids by name, several to a name.
sub usage
{
	my (%pids) = @_;
	my %usage;

	for my $name (keys %pids)
	{
		$usage{$name} += cpu($_) for @{ $pids{$name} };
	}
	return \%usage, machine();
}

sub spent
{
	my ($n, $before, $after) = @_;
	my ($cpu0, $busy0, $all0) = @$before;
	my ($cpu1, $busy1, $all1) = @$after;
	my %spent;
	my $ours = 0;

	for my $name (keys %$cpu0)
	{
		$spent{$name} = 1e6 * ($cpu1->{$name} - $cpu0->{$name}) / $n;
		$ours += $cpu1->{$name} - $cpu0->{$name};
	}
	$spent{others} = 100 * ($busy1 - $busy0 - $ours) / ($all1 - $all0) if $all1 > $all0;
	return %spent;
}

# Runs a function that returns a result and, once nobody uses the database any
# more, adds what was written meanwhile.
sub writing
{
	my ($self, $n, $table, $function) = @_;
	my $node = $self->node;
	my $look = sub {
		$node->poll('nobody else', "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'postgres' AND state IS DISTINCT FROM 'idle in transaction'"
			  . " AND backend_type IN ('client backend', 'profimport worker')", 0);
		return split /\|/, $node->sql("SELECT pg_current_wal_flush_lsn(), count(*) FILTER (WHERE isdirty), pg_stat_get_tuples_updated(rel),"
			  . " pg_stat_get_tuples_hot_updated(rel) FROM pg_buffercache, (SELECT '$table'::regclass AS rel) AS r GROUP BY rel");
	};

	$node->sql('CHECKPOINT');
	my ($lsn0, $dirty0, $updated0, $hot0) = $look->();
	my $result = $function->();
	my ($lsn1, $dirty1, $updated1, $hot1) = $look->();
	my $stats = `pg_waldump --stats -p '@{[ $node->data_dir ]}/pg_wal' -s $lsn0 -e $lsn1 2>/dev/null`;
	if ($stats =~ /^Total\s+\d+\s+(\d+)\s+\[[\d.]+%\]\s+(\d+)/m)
	{
		$result->{wal} = $1 / $n;
		$result->{fpi} = $2 / $n;
	}
	$result->{dirty} = ($dirty1 - $dirty0) / $n;
	$result->{hot} = 100 * ($hot1 - $hot0) / ($updated1 - $updated0) if $updated1 > $updated0;
	return $result;
}

# A process that says "ready [PID]", is told to go, says how long it took.
sub external
{
	my ($self, $n, @command) = @_;

	local $ENV{PGHOST} = $self->node->host;
	local $ENV{PGPORT} = $self->node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my $pid = open2(my $out, my $in, @command);
	$in->autoflush;
	my $ready = <$out> // die "@command did not start";
	my ($backend) = $ready =~ /ready (\d+)/;
	my %pids = (client => [$pid], broker => [ $self->{broker}->pid ], $backend ? (backend => [$backend]) : ());
	my @before = usage(%pids);
	print $in "go\n";
	my $seconds = <$out> // die "@command failed";
	my %result = (rate => $n / $seconds, spent($n, \@before, [ usage(%pids) ]), client_mb => rss($pid) / 1024,
		$backend ? (backend_mb => rss($backend) / 1024) : ());
	close $in;
	waitpid $pid, 0;
	return \%result;
}

sub floor
{
	my ($self, %options) = @_;
	my $n = $self->{messages};
	my ($in, $out) = ($options{in} // 'floor_in', $options{out} // 'floor_out');

	$self->fill($in, [ $self->bodies('half') ]);
	my $result = $self->external($n, $self->{load}, 'floor', @{ $self->{place} }, $in, $out, $n, $self->{batch});
	$self->client->purge($out);
	return $result;
}

# The external consumers; undef if what they need is not there.  The Node.js one
# writes its own table (mode "upsert") or calls import_batch.
sub node_js
{
	my ($self, $kind, $mode, %options) = @_;
	my $n = $self->{messages};
	my ($in, $out) = ($options{in} // 'node_in', $options{out} // 'node_out');

	return unless $self->has_node;
	$mode //= 'upsert';
	$self->fill($in, [ $self->bodies($kind) ]);
	my $result = $self->writing($n, $mode eq 'upsert' ? 'bench_profile' : 'profimport.profile', sub {
		$self->external($n, 'node', "$here/node/consumer.js", $mode, $self->{broker}->url($self->{vhost}),
			$in, $out, $n, $self->{batch}) });
	$self->client->purge($out);
	return $result;
}

sub has_node
{
	my ($self) = @_;

	return $self->{has_node} //=
	  system("cd '$here/node' && node --version >/dev/null && npm ci --no-audit --no-fund --loglevel=error >&2") == 0 || 0;
}

sub python
{
	my ($self, $mode, $kind, $n) = @_;

	return unless $self->{has_python} //= system('/usr/bin/python3', '-c', 'import pika, psycopg2') == 0 || 0;
	$self->fill('python_in', [ $self->bodies($kind, n => $n) ]);
	my $result = $self->writing($n, 'bench_profile', sub {
		$self->external($n, '/usr/bin/python3', "$here/python/consumer.py", $mode, @{ $self->{place} }, 'python_in', 'python_out', $n) });
	$self->client->purge('python_out');
	return $result;
}

# Settings for the time of a function.
sub with
{
	my ($self, $set, $function) = @_;
	my %set = %{ $set // {} };

	$self->node->set(%set) if %set;
	my $result = $function->();
	$self->node->set(map { $_ => undef } keys %set) if %set;
	return $result;
}

sub switch_off
{
	my ($self) = @_;

	$self->node->poll('nothing pending', 'SELECT results_pending FROM profimport.status', 0);
	$self->node->set('profimport.enabled' => 'off');
	$self->node->poll('workers off', "SELECT count(*) FROM profimport.stat_worker WHERE state <> 'disabled'", 0);
	return;
}

# set => settings; n, db, of: as in bodies(); ids: messages carry a message_id.
# A queue other than database_import is chosen by import_queue in "set".
sub bridge
{
	my ($self, $kind, %options) = @_;
	my $n = $options{n} // $self->{messages};
	my $set = $options{set} // {};
	my $in = $set->{'profimport.import_queue'} // 'database_import';

	$self->fill($in, [ $self->bodies($kind, %options) ], $options{ids} ? "m$self->{run}-" : undef);
	return $self->with($set, sub {
		$self->writing($n, 'profimport.profile', sub { $self->drain_queue($n, $set) }) });
}

sub drain_queue
{
	my ($self, $n, $set) = @_;
	my $node = $self->node;
	my $workers = $set->{'profimport.workers'} // 1;
	my $psql = $node->background_psql('postgres');
	my ($published0, $connects0) = split /\|/, $node->sql(
		'SELECT coalesce(sum(results_published), 0), coalesce(sum(connects), 0) FROM profimport.stat_worker');
	my $errors = $node->sql('SELECT count(*) FROM profimport.import_error');
	my (%pids, @usage, $start, $end);
	my ($left, $seen) = ($n, 0);

	$node->set('profimport.enabled' => 'on');
	while ($left > 0)
	{
		my ($published, $connects, $pids, $now) = split /\|/, $psql->query(
			"SELECT sum(results_published) - $published0, sum(connects) - $connects0,"
			  . " coalesce(string_agg(pid::text, ' '), ''), extract(epoch FROM clock_timestamp()) FROM profimport.stat_worker");

		$left = $n - $published;
		$end = $now;
		if ($seen < $workers)
		{
			# from the last look that found somebody not connected
			$seen = $connects;
			$start = $now if !$start || $seen < $workers;
			my @pids = split ' ', $pids;
			if (!%pids && @pids == $workers)
			{
				%pids = (client => \@pids, broker => [ $self->{broker}->pid ]);
				@usage = usage(%pids);
			}
			sleep 0.001;
			next;
		}
		# looking costs CPU that the others want
		my $rate = ($n - $left) / ($now - $start + 0.01);
		sleep($left > $rate * 0.3 ? 0.2 : 0.005);
	}
	my %result = (
		rate => $n / ($end - $start),
		spent($n, \@usage, [ usage(%pids) ]));
	$result{client_mb} += rss($_) / 1024 for @{ $pids{client} };
	$psql->quit;
	die "messages failed" if $node->sql('SELECT count(*) FROM profimport.import_error') != $errors;
	$self->switch_off;
	$self->client->purge($set->{'profimport.result_queue'} // 'database_import_result');
	return \%result;
}

# The same worker over so many messages: its resident memory after none and after
# each of some equal parts.
sub memory
{
	my ($self, $n, $parts) = @_;
	my $node = $self->node;
	my @kb;

	$node->set('profimport.enabled' => 'on');
	$node->wait_settled;
	my $pid = $node->worker->{pid};
	push @kb, rss($pid);
	for (1 .. $parts)
	{
		my $before = $node->sql('SELECT messages FROM profimport.stat_worker');
		$self->fill('database_import', [ $self->bodies('update', n => $n / $parts, of => $self->{messages}) ]);
		$node->poll('all imported', "SELECT messages - $before FROM profimport.stat_worker", $n / $parts, timeout => 300);
		$node->wait_settled;
		$self->client->purge('database_import_result');
		push @kb, rss($pid);
	}
	die 'the worker is another one' if $node->worker->{pid} != $pid;
	$self->switch_off;
	return @kb;
}

# Resident kB that are the process's own (what it maps of shared buffers is not).
sub rss
{
	my ($pid) = @_;
	open my $f, '<', "/proc/$pid/status" or return 0;
	my %v = map { /^(\w+):\s+(\d+)/ ? ($1 => $2) : () } <$f>;

	return ($v{RssAnon} // 0);
}

# A function that takes a batch of bodies, called in a loop inside the server,
# a transaction each; the bodies are given or made.
sub sql_loop
{
	my ($self, $function, $kind, %options) = @_;
	my $node = $self->node;
	my @lines = $options{lines} ? @{ $options{lines} } : $self->bodies($kind, %options);

	$self->stage('bench_batch', @lines);
	my $result = $self->writing(scalar @lines, $function =~ /^profimport/ ? 'profimport.profile' : 'bench_profile', sub {
		my ($took, $cpu) = split ' ', $node->safe_psql('postgres', "DO \$\$
			DECLARE r record; t timestamptz; c bigint;
			BEGIN
				PERFORM sum(octet_length(b)) FROM bench_batch, unnest(a) b;
				t := clock_timestamp(); c := bench_cpu();
				FOR r IN SELECT a FROM bench_batch ORDER BY i LOOP
					PERFORM $function(r.a);
					COMMIT;
				END LOOP;
				PERFORM set_config('bench.took', extract(epoch FROM clock_timestamp() - t)::text || ' ' || (bench_cpu() - c), false);
			END \$\$;
			SELECT current_setting('bench.took')");
		return { rate => @lines / $took, backend => $cpu / 1000 / @lines };
	});
	$node->safe_psql('postgres', 'DROP TABLE bench_batch');
	return $result;
}

# Bodies as a table of batches in the server.
sub stage
{
	my ($self, $table, @lines) = @_;
	my $file = "$ENV{TMPDIR}/bodies";

	open my $f, '>', $file or die;
	print $f int($_ / $self->{batch}), "\t\\\\x", unpack('H*', $lines[$_]), "\n" for 0 .. $#lines;
	close $f;
	$self->node->safe_psql('postgres', "CREATE TEMP TABLE bench_in (n int GENERATED ALWAYS AS IDENTITY, i int, b bytea);\n"
		  . "\\copy bench_in (i, b) FROM '$file'\n"
		  . "CREATE TABLE $table AS SELECT i, array_agg(b ORDER BY n) AS a FROM bench_in GROUP BY i");
	unlink $file;
	return;
}

# Microseconds from a message to its answer.
sub ping
{
	my ($self, $in, $out, $rate, $lines) = @_;
	my $file = "$ENV{TMPDIR}/ping";

	open my $f, '>', "$file.in" or die;
	print $f "$_\n" for @$lines;
	close $f;
	system("$self->{load} ping @{ $self->{place} } $in $out $rate <$file.in >$file.out") == 0 or die 'ping failed';
	return split ' ', slurp_file("$file.out");
}

sub echo_latency
{
	my ($self, $n) = @_;

	my $pid = open2(my $out, my $in, $self->{load}, 'echo', @{ $self->{place} }, 'echo_in', 'echo_out');
	my $ready = <$out>;
	my @t = $self->ping('echo_in', 'echo_out', 0, [ $self->bodies('update', n => $n) ]);
	kill TERM => $pid;
	waitpid $pid, 0;
	return @t;
}

sub commit_latency
{
	my ($self, $n) = @_;

	return split ' ', $self->node->safe_psql('postgres', "CREATE TABLE bench_commit (i int, t float8);
		DO \$\$
		DECLARE t timestamptz; took float8[];
		BEGIN
			FOR i IN 1 .. $n LOOP
				t := clock_timestamp();
				INSERT INTO bench_commit VALUES (i);
				COMMIT;
				took := took || 1e6 * extract(epoch FROM clock_timestamp() - t)::float8;
			END LOOP;
			PERFORM set_config('bench.took', array_to_string(took, ' '), false);
		END \$\$;
		SELECT current_setting('bench.took'); DROP TABLE bench_commit");
}

# rate 0: one at a time
sub bridge_latency
{
	my ($self, $rate, $n) = @_;

	$self->node->set('profimport.enabled' => 'on');
	$self->node->wait_settled;
	my @t = $self->ping('database_import', 'database_import_result', $rate, [ $self->bodies('update', n => $n) ]);
	$self->switch_off;
	return @t;
}

# Share of a core that an idle worker takes, and how often it wakes.
sub idle
{
	my ($self, $seconds) = @_;

	$self->node->set('profimport.enabled' => 'on');
	$self->node->wait_settled;
	sleep 3;
	my $pid = $self->node->worker->{pid};
	my $wakes = sub { slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m; $1 };
	my ($cpu, $w) = (cpu($pid), $wakes->());
	sleep $seconds;
	my %result = (cpu => (cpu($pid) - $cpu) / $seconds, wakes => $wakes->() - $w);
	$self->switch_off;
	return \%result;
}

# Profiles u1 ... of a database, by COPY.
sub load
{
	my ($self, $db, $n) = @_;
	my $start = time;

	$self->node->safe_psql('postgres', "\\copy profimport.profile (account_id, db_id, email, data) FROM PROGRAM"
		  . " 'seq 1 $n | sed ''s/.*/1\\t$db\\tu&\@example.com\\t{\"_fname\":\"John\",\"_lname\":\"Doe\",\"_city\":\"Berlin\",\"points\":1}/'''");
	my $took = time - $start;
	$self->tidy;
	return $took;
}

1;
