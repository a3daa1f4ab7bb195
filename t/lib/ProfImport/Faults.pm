
=pod

=head1 NAME

ProfImport::Faults - what can go wrong around a worker, each with its end

=head1 SYNOPSIS

  my $faults = ProfImport::Faults->new(node => $node, broker => $broker, relay => $relay, vhost => $vhost);

  for my $fault ($faults->list)
  {
      $fault->{begin}->();
      ...
      $fault->{end}->();
  }

For t/soak.  The worker reaches the broker through the relay, as the user "worker".  A fault is a hash: name;
place (server, broker, line or work: faults of different places can be there together); begin, end; and what it may cost:

=over

=item shake

The broker dies.  A classic queue may return what was acknowledged.

=item queue

Messages not yet imported are lost with their queue.

=item results

Results that nobody has fetched are lost with theirs.

=item slow

Milliseconds that it has to last to be one.

=back

=cut

package ProfImport::Faults;

use strict;
use warnings;

use Carp;
use ProfImport::Poll;

sub new
{
	my ($class, %world) = @_;

	return bless {%world}, $class;
}

sub list
{
	my ($self) = @_;
	my ($node, $broker, $relay, $vhost) = @$self{qw(node broker relay vhost)};
	my $nothing = sub { };
	my $pass = sub { $relay->pass };
	my @faults;
	my $add = sub { my ($place, $name, $begin, $end, %more) = @_; push @faults, { place => $place, name => $name, begin => $begin, end => $end || $nothing, %more } };

	# ---- the server

	$add->('server', 'worker killed', sub { $self->signal_worker('KILL') });
	$add->('server', 'worker terminated',
		sub { $self->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'profimport worker' ORDER BY random() LIMIT 1") });
	$add->('server', 'all workers terminated',
		sub { $self->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'profimport worker'") });
	$add->('server', 'server stopped immediately', sub { $node->stop('immediate') }, sub { $node->start });
	$add->('server', 'server stopped fast', sub { $node->stop('fast') }, sub { $node->start });
	$add->('server', 'switched off', sub { $node->set('profimport.enabled' => 'off') }, sub { $node->set('profimport.enabled' => undef) });
	$add->('server', 'another number of workers',
		sub { $node->set('profimport.workers' => int rand 5) }, sub { $node->set('profimport.workers' => $self->{workers}) });
	$add->('server', 'another heartbeat: reconnects', sub { $node->set('profimport.heartbeat' => 3) }, sub { $node->set('profimport.heartbeat' => 2) });

	# ---- the broker

	$add->('broker', 'broker killed', sub { $broker->kill9 }, sub { $broker->start }, shake => 1);
	$add->('broker', 'broker stopped', sub { $broker->stop }, sub { $broker->start }, shake => 1);
	# longer than two heartbeats
	$add->('broker', 'broker frozen', sub { $broker->freeze }, sub { $broker->thaw }, slow => 6000);
	$add->('broker', 'broker frozen for a moment', sub { $broker->freeze }, sub { $broker->thaw });
	$add->('broker', 'memory alarm', sub { $broker->memory_alarm(1) }, sub { $broker->memory_alarm(0) });
	$add->('broker', 'disk alarm', sub { $broker->disk_alarm(1) }, sub { $broker->disk_alarm(0) });
	$add->('broker', 'connections closed', sub { $broker->close_connections($vhost, '^profimport postgres') });
	$add->('broker', 'consumer closed', sub { $broker->close_connections($vhost, 'consume$') });
	$add->('broker', 'publisher closed', sub { $broker->close_connections($vhost, 'publish$') });
	$add->('broker', 'channels closed', sub { $broker->close_channels($vhost) });
	$add->('broker', 'import queue deleted', sub { $broker->delete_queue($vhost, 'database_import') }, undef, queue => 1);
	$add->('broker', 'result queue deleted', sub { $broker->delete_queue($vhost, 'database_import_result') }, undef, results => 1);
	$add->('broker', 'wrong password',
		sub { $broker->change_password('worker', 'changed'); $broker->close_connections($vhost, '^profimport postgres') },
		sub { $broker->change_password('worker', 'right') });

	# ---- the line

	$add->('line', 'line cut', sub { $relay->cut });
	$add->('line', 'line cut in the middle of a frame', sub { $relay->cut_after(1 + int rand 20_000) });
	$add->('line', 'line drips', sub { $relay->drip(500 + int rand 20_000) }, $pass);
	$add->('line', 'line drips for long', sub { $relay->drip(300 + int rand 2000) }, $pass, slow => 6000);
	$add->('line', 'line stalled', sub { $relay->stall }, $pass, slow => 6000);
	$add->('line', 'line refused', sub { $relay->refuse }, $pass);

	# ---- what others do in the database

	$add->('work', 'a row locked for longer than batch_timeout',
		sub { $self->session("BEGIN; SELECT FROM profimport.profile WHERE email = 'p" . int(rand 50) . "\@example.com' FOR UPDATE; SELECT pg_sleep(2.5); COMMIT") },
		sub { $self->session_ends }, slow => 2500);
	$add->('work', 'a table locked for longer than batch_timeout',
		sub { $self->session('BEGIN; LOCK TABLE profimport.batch; SELECT pg_sleep(2.5); COMMIT') },
		sub { $self->session_ends }, slow => 2500);
	$add->('work', 'deadlocks', sub { $self->session('CALL public.touch_for(interval \'3s\')') }, sub { $self->session_ends }, slow => 3000);
	return @faults;
}

# The server may be on its way down or up.
sub sql
{
	my ($self, $query) = @_;

	$self->{node}->psql('postgres', $query);
	return;
}

sub signal_worker
{
	my ($self, $signal) = @_;
	my ($status, $pids) = $self->{node}->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'profimport worker'");
	my @pids = split /\n/, $pids // '';

	kill $signal, $pids[ rand @pids ] if @pids;
	return;
}

# A session beside the test, which has an end of its own.
sub session
{
	my ($self, $query) = @_;

	require IPC::Run;
	my $output = '';
	$self->{session} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $self->{node}->connstr('postgres'), '-c', $query ],
		'<', '/dev/null', '>', \$output, '2>', \$output);
	return;
}

sub session_ends
{
	my ($self) = @_;

	IPC::Run::finish(delete $self->{session}) if $self->{session};
	return;
}

1;
