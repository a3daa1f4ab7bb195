
=pod

=head1 NAME

ProfImport::Node - a PostgreSQL server with profimport, for tests

=head1 SYNOPSIS

  my $node = ProfImport::Node->create('main', url => $broker->url($vhost),
      conf => { 'profimport.batch_size' => 10 });

  $node->configure(1, 1, fields => { points => { type => 'int' } });
  is($node->sql('SELECT count(*) FROM profimport.profile'), 0);
  $node->poll('one profile', 'SELECT count(*) FROM profimport.profile', 1);

A PostgreSQL::Test::Cluster, so all of its methods are there: stop, start, restart, psql, safe_psql, background_psql,
data_dir, logfile, wait_for_log, backup, init_from_backup ...  It runs from the installation whose
pg_config is first in the path, which in t/sandbox is a private one.

Unlike plain Cluster nodes these restart after a backend's crash (restart_after_crash), for killing
a worker is what many tests do.

=head1 METHODS

=over

=item ProfImport::Node->create($name, %options)

Makes, starts and fills a server: url => the broker's; conf => { setting => value } or text, appended
to postgresql.conf; preload => 0 leaves out shared_preload_libraries; extension => 0 leaves out CREATE EXTENSION;
start => 0 only initializes; install_path => another installation than the first in the path (see ProfImport::CrashBuild); init => [...] is for Cluster's init (C<< allows_streaming => 1 >>).

Defaults that differ from profimport's: reconnect_delay_max 1s, so that tests wait less.

=item $node->sql($query), ->rows($query), ->row($query)

The output of psql (dies on an error); a list of hashes (numbers, booleans and jsonb decoded); the first of it.

=item ($status, $stdout, $stderr) = $node->try($query, [role => $role, dbname => $db])

For statements that may fail.

=item $node->configure($account_id, $db_id, fields => { name => {type => 'int', ...} }, resources => { id => {name => ..., categories => [...], fields => {...}} })

Inserts the account, the database, and what is given.

=item $node->import(\%message), ->import(\%message, dry_run => 1)

profimport.import(), result decoded.

=item $node->set('profimport.batch_size' => 10, 'profimport.workers' => undef, ...)

ALTER SYSTEM SET (undef: RESET), then a reload.

=item $node->worker([$n]), ->workers

The row of stat_worker, by default of worker 1; all rows.

=item $node->wait_state($state, [worker => 1, timeout => 60])

Waits until that worker is in the state, a string or a pattern (qr/idle|waiting/).

=item $node->wait_settled([timeout => 60])

Waits until every worker is idle and no result is pending.

=item $node->poll($what, $query, $expected, [timeout => 60])

Waits until the query gives that (a string, or a pattern).

=item $node->kill_worker($signal, [worker => 1])

Sends it, by the pid of stat_worker; returns the pid.

=item $node->errors

The lines of job_server.log, decoded.

=back

=cut

package ProfImport::Node;

use strict;
use warnings;

use Carp;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfImport::Poll;

our @ISA = ('PostgreSQL::Test::Cluster');

my $json = JSON::PP->new->canonical->allow_nonref;

sub create
{
	my ($class, $name, %options) = @_;
	my $self = $class->new($name, $options{install_path} ? (install_path => $options{install_path}) : ());
	my $conf = $options{conf} || {};
	my %settings = (
		'timezone' => 'UTC',
		'max_worker_processes' => 16,
		'restart_after_crash' => 'on',
		'log_min_messages' => 'info',
		'profimport.reconnect_delay_max' => '1s',
		ref $conf ? %$conf : ());

	$settings{shared_preload_libraries} //= 'profimport' unless ($options{preload} // 1) == 0;
	$settings{'profimport.amqp_url'} //= $options{url} if $options{url};
	# The extension wants UTF8, which initdb takes only from a locale that says so.
	my %init = @{ $options{init} || [] };
	$init{extra} = [ '--encoding=UTF8', '--locale=C.UTF-8', @{ $init{extra} || [] } ];
	$self->init(%init);
	$self->append_conf('postgresql.conf',
		join('', map { "$_ = " . _quote($settings{$_}) . "\n" } sort keys %settings));
	$self->append_conf('postgresql.conf', $conf) unless ref $conf;
	return $self if defined $options{start} && !$options{start};

	$self->start;
	$self->sql('CREATE EXTENSION profimport') unless ($options{extension} // 1) == 0;
	return $self;
}

sub sql
{
	my ($self, $query, %params) = @_;

	return $self->safe_psql(delete $params{dbname} // 'postgres', $query, %params);
}

sub rows
{
	my ($self, $query, %params) = @_;

	$query =~ s/;\s*\z//;
	return @{ $json->decode(
			_characters($self->sql("SELECT coalesce(json_agg(to_json(q)), '[]') FROM ($query) q", %params))) };
}

sub row
{
	my ($self, $query, %params) = @_;
	my ($row) = $self->rows($query, %params);

	return $row;
}

sub try
{
	my ($self, $query, %params) = @_;
	my $role = delete $params{role};

	return $self->psql(
		delete $params{dbname} // 'postgres',
		$query,
		on_error_stop => 1,
		$role ? (extra_params => [ '-U', $role ]) : (),
		%params);
}

sub configure
{
	my ($self, $account, $db, %options) = @_;
	my @sql = (
		"INSERT INTO profimport.account (account_id) VALUES ($account) ON CONFLICT DO NOTHING",
		"INSERT INTO profimport.database (account_id, db_id) VALUES ($account, $db)");

	push @sql, _insert_fields('field', { account_id => $account, db_id => $db }, $options{fields});
	for my $id (sort { $a <=> $b } keys %{ $options{resources} || {} })
	{
		my %resource = %{ $options{resources}{$id} };
		my $fields = delete $resource{fields};

		push @sql, _insert('resource', { account_id => $account, resource_id => $id, %resource });
		push @sql, _insert_fields('resource_field', { account_id => $account, resource_id => $id }, $fields);
	}
	$self->sql(join(";\n", 'BEGIN', @sql, 'COMMIT'));
	return;
}

sub _insert_fields
{
	my ($table, $key, $fields) = @_;

	return map { _insert($table, { %$key, name => $_, %{ $fields->{$_} } }) } sort keys %{ $fields || {} };
}

sub _insert
{
	my ($table, $row) = @_;
	my @columns = sort keys %$row;

	return "INSERT INTO profimport.$table (" . join(', ', map { qq("$_") } @columns) . ') VALUES ('
	  . join(', ', map { _literal($row->{$_}) } @columns) . ')';
}

sub _literal
{
	my ($value) = @_;

	return 'NULL' unless defined $value;
	return 'ARRAY[' . join(',', map { _literal($_) } @$value) . ']' . (@$value ? '' : '::text[]') if ref $value eq 'ARRAY';
	return $value ? 'true' : 'false' if JSON::PP::is_bool($value);
	return $value if $value =~ /\A-?\d+\z/;
	return _quote($value);
}

sub import
{
	# "use ProfImport::Node" calls this too.
	my ($self, $message, %options) = @_;
	return unless ref $self;

	# ASCII with escapes, so that no client encoding matters.
	my $body = JSON::PP->new->ascii->canonical->encode($message);
	my $dry_run = $options{dry_run} ? 'true' : 'false';

	return $json->decode(_characters($self->sql('SELECT profimport.import(' . _quote($body) . "::jsonb, $dry_run)")));
}

sub set
{
	my ($self, %settings) = @_;

	# ALTER SYSTEM refuses to be in a transaction, which "a; b" would be.
	for my $name (sort keys %settings)
	{
		$self->sql(
			defined $settings{$name}
			? "ALTER SYSTEM SET $name = " . _quote($settings{$name})
			: "ALTER SYSTEM RESET $name");
	}
	$self->reload;
	return;
}

sub workers { return $_[0]->rows('SELECT * FROM profimport.stat_worker ORDER BY worker') }

sub worker
{
	my ($self, $n) = @_;

	return $self->row('SELECT * FROM profimport.stat_worker WHERE worker = ' . ($n // 1));
}

sub wait_state
{
	my ($self, $state, %options) = @_;

	return poll_until {
		my $row = eval { $self->worker($options{worker}) } || { state => "none ($@)" };
		(_matches($row->{state}, $state), join(' ', map { "$_=" . ($row->{$_} // '') } qw(state last_error)));
	}
	"worker in state $state", $options{timeout};
}

sub wait_settled
{
	my ($self, %options) = @_;

	return poll_until {
		my @busy = grep { $_->{state} ne 'idle' || $_->{results_pending} } $self->workers;
		(!@busy, join(', ', map { "worker $_->{worker}: $_->{state}, $_->{results_pending} pending" } @busy));
	}
	'idle workers and no pending result', $options{timeout};
}

sub poll
{
	my ($self, $what, $query, $expected, %options) = @_;

	return poll_until {
		# A server that restarts after a crash says no for a while.
		my ($status, $stdout, $stderr) = $self->psql('postgres', $query);
		my $got = $status == 0 ? $stdout : $stderr;
		($status == 0 && _matches($got, $expected), $got);
	}
	$what, $options{timeout};
}

sub kill_worker
{
	my ($self, $signal, %options) = @_;
	my $pid = $self->worker($options{worker})->{pid} or croak 'the worker has no process';

	kill $signal, $pid or croak "could not send $signal to $pid: $!";
	return $pid;
}

sub errors
{
	my ($self) = @_;
	my $directory = $self->sql('SHOW log_directory');
	my $file = $self->sql('SHOW profimport.error_log_file');

	$directory = $self->data_dir . "/$directory" unless $directory =~ m{^/};
	$file = "$directory/$file" unless $file =~ m{^/};
	return unless -f $file;
	return map { JSON::PP->new->utf8->decode($_) } split /\n/, slurp_file($file);
}

sub _matches
{
	my ($got, $expected) = @_;

	# not in list context, where no match is no value
	return scalar(ref $expected eq 'Regexp' ? $got =~ $expected : $got eq $expected);
}

sub _quote
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

# What psql gave is bytes.
sub _characters
{
	my ($text) = @_;

	utf8::decode($text);
	return $text;
}

1;
