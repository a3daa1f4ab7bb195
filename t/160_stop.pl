# In whatever the worker is engaged, it does not keep a server from stopping, a
# database or the extension from being dropped.
#
# Every time limit of profimport is set to minutes here, so what would wait for
# one of them takes far longer than the bound below.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::INET;
use ProfImport::Relay;
use ProfImport::Test;
use Time::HiRes qw(time);

use constant BOUND => 5;

my $broker = ProfImport::Broker->private('stop');
my $vhost = $broker->new_vhost('stop');
my $amqp = $broker->client($vhost);
my $relay = ProfImport::Relay->new($broker->port);

# Takes connections and never says a word.
my $mute = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', LocalPort => 0, Blocking => 0)
  or die "no port: $@";
my @callers;

# A queue of connections that is full: the next attempt gets no answer.
my $full = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no port: $@";
my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Blocking => 0) } 1 .. 8;

# Nobody listens here.
my $closed = do { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0)->sockport };

my $node = ProfImport::Node->create(
	'stop',
	url => $broker->url($vhost),
	conf => {
		'profimport.connect_timeout' => '5min',
		'profimport.heartbeat' => '10min',
		'profimport.batch_timeout' => '10min',
		'profimport.batch_size' => 10,
		'profimport.reconnect_delay_max' => '1h' });

# A table trigger of the application's: with key 42 held elsewhere, a batch waits
# and holds no lock that the test itself needs.
$node->sql(
	q{CREATE FUNCTION wait_for_42() RETURNS trigger LANGUAGE plpgsql AS
	  $$BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END$$});
prepare();

sub prepare
{
	$node->configure(1, 1);
	$node->sql('CREATE TRIGGER wait BEFORE INSERT ON profimport.profile FOR EACH ROW EXECUTE FUNCTION wait_for_42()');
	return;
}

sub url { return $broker->url($vhost, undef, undef, @_) }

# Waits until somebody has a connection to $mute and has said what it says first.
sub reached
{
	my ($pattern) = @_;

	return poll_until {
		while (my $caller = $mute->accept)
		{
			$caller->blocking(0);
			push @callers, { socket => $caller, said => '' };
		}
		for my $caller (@callers)
		{
			my $got = sysread($caller->{socket}, $caller->{said}, 8192, length $caller->{said});

			$caller->{gone} = 1 if defined $got && $got == 0;
		}
		@callers = grep { !$_->{gone} } @callers;
		scalar grep { $_->{said} =~ $pattern } @callers;
	}
	"a connection that begins with $pattern";
}

my $holder;

sub hold
{
	$holder = $node->background_psql('postgres', on_error_stop => 0);
	$holder->query('SELECT pg_advisory_lock(42)');
	return;
}

# The server may have gone, and the session with it.
sub let_go
{
	$node->psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND mode = 'ExclusiveLock'});
	eval { $holder->quit } if $holder;
	$holder = undef;
	return;
}

my $number = 0;

sub batch_that_waits
{
	hold();
	$amqp->publish('database_import', message(email => 'batch' . ++$number . '@example.com'));
	return $node->poll(
		'a worker that waits',
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profimport worker' AND wait_event_type = 'Lock'}, 1);
}

# How to get there, from wherever the last action has left things; how to leave.
my @states = (
	{
		name => 'connecting to a port that never answers',
		url => url('amqp', $full->sockport),
		enter => sub { $node->wait_state('connecting') },
	},
	{
		name => 'waiting for a greeting',
		url => url('amqp', $mute->sockport),
		enter => sub { reached(qr/^AMQP/); $node->wait_state('connecting') },
	},
	{
		name => 'TLS handshake stalled',
		url => url('amqps', $mute->sockport),
		# a handshake record
		enter => sub { reached(qr/^\x16\x03/); $node->wait_state('connecting') },
	},
	{
		name => 'line dead',
		url => url('amqp', $relay->port),
		enter => sub { $relay->pass; $node->wait_state('idle'); $relay->stall },
		leave => sub { $relay->pass },
	},
	{
		name => 'broker frozen',
		url => url(),
		enter => sub { $broker->thaw; $node->wait_state('idle'); $broker->freeze },
		leave => sub { $broker->thaw },
	},
	{
		name => 'blocked',
		url => url(),
		enter => sub {
			$broker->memory_alarm(0);
			$node->wait_settled;
			batch_that_waits();
			$broker->memory_alarm(1);
			let_go();
			$node->wait_state('blocked');
		},
		leave => sub { $broker->memory_alarm(0) },
	},
	{
		name => 'in a batch',
		url => url(),
		# The transaction of the batch has locks on the tables; whoever drops
		# them waits for its end, at most batch_timeout.
		locks_tables => 1,
		enter => sub { $node->wait_settled; batch_that_waits() },
		leave => \&let_go,
	},
	{
		name => 'in backoff',
		url => url('amqp', $closed),
		enter => sub { $node->wait_state('backoff') },
	});

# Does it and says whether it was quick.
sub quick
{
	my ($what, $action) = @_;
	my $start = time;

	$action->();
	my $took = time - $start;
	return cmp_ok($took, '<', BOUND, $what);
}

$node->stop;
for my $state (@states)
{
	my $name = $state->{name};
	my $leave = $state->{leave} || sub { };

	$node->append_conf('postgresql.conf', "profimport.amqp_url = '$state->{url}'");
	$node->start;
	$node->sql('CREATE DATABASE other');

	$state->{enter}->();
	quick("$name: DROP DATABASE of another database", sub { $node->sql('DROP DATABASE other') });
	if (!$state->{locks_tables})
	{
		quick("$name: DROP EXTENSION", sub { $node->sql('DROP EXTENSION profimport') });
		$leave->();
		$node->sql('CREATE EXTENSION profimport');
		prepare();
	}
	else
	{
		$leave->();
	}

	$state->{enter}->();
	my $pid = $node->worker->{pid};
	quick(
		"$name: pg_terminate_backend()",
		sub {
			$node->sql("SELECT pg_terminate_backend($pid)");
			$node->poll('its end', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 0);
		});
	$leave->();

	$state->{enter}->();
	quick("$name: pg_ctl stop -m fast", sub { $node->stop('fast') });
	$leave->();
}

# ---- the database that it serves

$node->append_conf('postgresql.conf', "profimport.amqp_url = '" . url() . "'\nprofimport.database = served");
$node->start;
$node->sql('CREATE DATABASE served');
$node->sql('CREATE EXTENSION profimport', dbname => 'served');
$node->wait_state('idle');
is( $node->sql("SELECT datname FROM pg_stat_activity WHERE backend_type = 'profimport worker'"),
	'served', 'a worker is in the database');
$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'served'"), 0, 'enabled = off: nobody is');
poll_until { !grep { ($_->{user_provided_name} // '') =~ /^profimport served/ } @{ $broker->connections($vhost) } }
'no connection to the broker';
quick('enabled = off: it can be renamed', sub { $node->sql('ALTER DATABASE served RENAME TO renamed') });
$node->sql('ALTER DATABASE renamed RENAME TO served');
$node->set('profimport.enabled' => undef);
$node->wait_state('idle');
$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
quick('enabled = off: it can be dropped', sub { $node->sql('DROP DATABASE served') });

done_testing();
