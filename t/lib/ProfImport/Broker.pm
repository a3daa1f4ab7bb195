
=pod

=head1 NAME

ProfImport::Broker - a private RabbitMQ for tests

=head1 SYNOPSIS

  use ProfImport::Broker;

  my $broker = ProfImport::Broker->shared;          # one per "make test"; do not hurt it
  my $broker = ProfImport::Broker->private('mine'); # one of your own, ended with the test

  my $vhost  = $broker->new_vhost('life');          # a fresh one, "life_PID", guest may do all
  my $url    = $broker->url($vhost);                # amqp://guest:guest@127.0.0.1:PORT/life_PID
  my $amqp   = $broker->client($vhost);             # see ProfImport::Amqp

A broker has a node name, an AMQP port, a distribution port, an epmd with a port, a cookie, a
home, data, logs and a list of plugins (empty) of its own; it listens on 127.0.0.1 and reads nothing
of /etc/rabbitmq.  It takes some six seconds to start, so tests share one, each in a virtual host of its own;
whoever kills, freezes, stops or alarms a broker makes a private one.

=head1 METHODS

=over

=item ProfImport::Broker->shared

The broker of this test run, started when the first test asks for it (in PROFIMPORT_BROKER, set by t/sandbox,
which also ends it).  Without a sandbox: a private one of this test file.

=item ProfImport::Broker->private($name, %options)

Started at once and ended with the test file.  plugins => [...] enables plugins, config => "..." is
the text of its rabbitmq.conf, erl_args => "..." goes to the Erlang machine, tls => {...} opens a TLS port
(see ProfImport::Tls; C<amqps> in url(), or tls_port).

=item @brokers = ProfImport::Broker->cluster($name, $nodes, %options)

That many nodes that form one cluster, as private() makes one; they share the epmd of the first, which outlives
its node, and the others are told the first's name.  What is done with one (a virtual host, a user) holds for all.

=item $broker->running_nodes

How many nodes of the cluster this one sees running.

=item $broker->new_vhost($prefix), $broker->delete_vhost($vhost)

=item $broker->add_user($name, $password, $vhost, [$configure, $write, $read])

A user with permissions (regular expressions, default C<.*>) on a virtual host.  change_password($name, $password).

=item $broker->url($vhost, [$user, $password, $scheme, $port]), $broker->client($vhost, %options)

=item $broker->port, ->tls_port, ->dir, ->pid, ->log (text of the broker's log)

=item $broker->start, ->stop, ->restart

Graceful.  start() returns when AMQP answers, dies after 60 seconds with the end of the log.  The same
data, ports and names after a restart.

=item $broker->kill9

SIGKILL; start() brings it back with what it had on disk.

=item $broker->freeze, ->thaw

SIGSTOP and SIGCONT: connections stay open and nothing answers.

=item $broker->memory_alarm($on), ->disk_alarm($on)

Waits until the alarm is there, or gone.

=item $broker->close_connections($vhost, $pattern)

Closes, as an operator would, the virtual host's connections whose name (the client's
C<connection_name>) matches the pattern (default: all but those of ProfImport::Amqp); returns how many.

=item $broker->close_channels($vhost, $pattern)

Closes the channels of such connections, with PRECONDITION_FAILED, and leaves the connections open.

=item $broker->delete_queue($vhost, $queue)

Whatever is in it, and whoever consumes from it: consumers are cancelled.

=item $broker->connections($vhost), ->queues($vhost), ->consumers($vhost), ->channels($vhost)

Lists of hashes as rabbitmqctl's JSON has them, for example

  $broker->connections($vhost)->[0]{user_provided_name}
  $broker->queues($vhost)->[0]{messages_unacknowledged}

=item $broker->ctl(@args)

rabbitmqctl with the right node and home; returns its output, dies with it on failure.  Half a second a call.

=item $broker->erl($expression)

Evaluates Erlang in the broker and returns the printed value; some milliseconds a call.

  $broker->erl('rabbit_vhost:list_names()')

=back

On the command line, for demo and bench: C<perl t/lib/ProfImport/Broker.pm start|stop|url|vhost|ctl DIR [ARG...]>.

=cut

package ProfImport::Broker;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use Fcntl qw(:flock);
use File::Path qw(make_path remove_tree);
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(time);

# RabbitMQ's own scripts; Debian's wrappers in the path insist on root or rabbitmq.
my $BIN = '/usr/lib/rabbitmq/bin';

# A broker whose first start found its ports taken by somebody else tries
# again with others this often.
my $ATTEMPTS = 3;

my $calls = 0;
my $shared;
my @private;

sub shared
{
	my ($class) = @_;
	my $dir = $ENV{PROFIMPORT_BROKER};

	return $shared if $shared && $shared->running;
	if (!$dir)
	{
		return $shared = $class->private('shared');
	}
	# Two test files may ask at once.
	make_path($dir);
	open(my $lock, '>', "$dir/lock") or croak "could not open $dir/lock: $!";
	flock($lock, LOCK_EX) or croak "could not lock $dir/lock: $!";
	$shared = $class->at($dir);
	$shared->start unless $shared->running;
	close($lock);
	return $shared;
}

sub private
{
	my ($class, $name, %options) = @_;
	my $base = $ENV{TESTDATADIR} || $ENV{TMPDIR} || '/tmp';
	my $self = $class->at("$base/broker_${name}_$$", %options, owner => $$);

	push @private, $self;
	return $self->start;
}

sub cluster
{
	my ($class, $name, $nodes, %options) = @_;
	my $base = $ENV{TESTDATADIR} || $ENV{TMPDIR} || '/tmp';
	my @brokers = map { $class->at("$base/broker_${name}${_}_$$", %options, owner => $$) } 1 .. $nodes;
	my $seed = $brokers[0]->_settings->{node};

	# The first knows of nobody and the others of the first only: since RabbitMQ 4 a node at its first start waits for
	# every node that it is told of, and nodes that wait for each other could elect another first.
	$_->{clustered} = 1 for @brokers;
	for my $broker (@brokers[ 1 .. $#brokers ])
	{
		$broker->{member_of} = $brokers[0];
		$broker->{config} .= "cluster_formation.peer_discovery_backend = classic_config\n"
		  . "cluster_formation.classic_config.nodes.1 = $seed\n"
		  . 'cluster_formation.classic_config.nodes.2 = ' . $broker->_settings->{node} . "\n";
	}
	push @private, @brokers;
	# The others join the first, and may do so at the same time.
	$brokers[0]->start;
	$_->_prepare, $_->_launch for @brokers[ 1 .. $#brokers ];
	for my $broker (@brokers)
	{
		$broker->_wait_until(60, sub { $broker->_answers && $broker->running_nodes == $nodes })
		  or croak "a cluster of $nodes did not form:\n" . substr($broker->log, -4000);
	}
	return @brokers;
}

# A handle on the broker that lives in a directory, running or not.
sub at
{
	my ($class, $dir, %options) = @_;

	make_path($dir);
	return bless { dir => abs_path($dir), %options }, $class;
}

sub dir { return $_[0]->{dir} }
sub port { return $_[0]->_settings->{port} }
sub tls_port { return $_[0]->_settings->{tls} }
sub pid { return _read("$_[0]->{dir}/broker.pid") }

# The identity is drawn once and kept in a file, so that a restart has the same
# and other processes find it.
sub _settings
{
	my ($self, $new) = @_;
	my $file = "$self->{dir}/identity";

	if ($new || !-s $file)
	{
		# Held open together, so that they differ.
		my @sockets = map {
			IO::Socket::INET->new(
				Listen => 1,
				LocalAddr => '127.0.0.1',
				LocalPort => 0)
			  or croak "no free port: $@"
		} 1 .. 4;
		my @ports = map { $_->sockport } @sockets;

		close($_) for @sockets;
		_write($file, join(' ', @ports, join('', map { chr(65 + rand 26) } 1 .. 20)));
	}
	my %settings;
	@settings{qw(port dist epmd tls cookie)} = split ' ', _read($file);
	@settings{qw(epmd cookie)} = @{ $self->{member_of}->_settings }{qw(epmd cookie)} if $self->{member_of};
	# An address instead of a host name: nothing has to be resolved.
	$settings{node} = "profimport$settings{port}\@127.0.0.1";
	return \%settings;
}

sub _environment
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $s = $self->_settings;

	return (
		PATH => '/usr/bin:/bin:/usr/sbin:/sbin',
		LANG => 'C.UTF-8',
		HOME => "$dir/home",
		TMPDIR => $ENV{TMPDIR} || '/tmp',
		PROFIMPORT_RUN => $ENV{PROFIMPORT_RUN} || '',
		ERL_EPMD_PORT => $s->{epmd},
		ERL_EPMD_ADDRESS => '127.0.0.1',
		ERL_CRASH_DUMP_BYTES => 0,
		RABBITMQ_NODENAME => $s->{node},
		RABBITMQ_USE_LONGNAME => 'true',
		RABBITMQ_NODE_IP_ADDRESS => '127.0.0.1',
		RABBITMQ_NODE_PORT => $s->{port},
		RABBITMQ_DIST_PORT => $s->{dist},
		RABBITMQ_MNESIA_BASE => "$dir/data",
		RABBITMQ_LOG_BASE => "$dir/log",
		RABBITMQ_PID_FILE => "$dir/rabbitmq.pid",
		RABBITMQ_CONF_ENV_FILE => "$dir/no-such-file",
		RABBITMQ_CONFIG_FILE => "$dir/rabbitmq",
		RABBITMQ_ADVANCED_CONFIG_FILE => "$dir/no-such-file",
		RABBITMQ_ENABLED_PLUGINS_FILE => "$dir/enabled_plugins",
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS =>
		  '-kernel inet_dist_use_interface {127,0,0,1} ' . ($self->{erl_args} || ''),
		# The start script becomes the Erlang machine, so its pid stays.
		RUNNING_UNDER_SYSTEMD => 1);
}

sub start
{
	my ($self) = @_;
	my $dir = $self->{dir};

	return $self if $self->running;
	for my $attempt (1 .. $ATTEMPTS)
	{
		my $first = !-d "$dir/data";

		# A cluster's other nodes have been told the name, which has the port in it.
		$self->_settings($attempt > 1 && !$self->{clustered});
		$self->_prepare if $first;
		$self->_launch;
		return $self if $self->_wait_until(60, sub { $self->_answers });
		$self->kill9;
		last unless $first && $attempt < $ATTEMPTS;
		$self->_end('epmd');
		remove_tree("$dir/data");
	}
	my $log = $self->log . (_read("$dir/log/broker.out") // '');

	croak "RabbitMQ did not start in $dir:\n" . substr($log, -4000);
}

# What it finds at its first start.
sub _prepare
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $cookie = "$dir/home/.erlang.cookie";

	make_path("$dir/home", "$dir/log");
	chmod 0600, $cookie;
	_write($cookie, $self->_settings->{cookie});
	chmod 0400, $cookie;
	_write("$dir/enabled_plugins", '[' . join(',', @{ $self->{plugins} || [] }) . '].');
	_write("$dir/rabbitmq.conf", ($self->{config} || '') . $self->_tls_config);
	return;
}

sub _launch
{
	my ($self) = @_;

	$self->_daemon('epmd', 'epmd', '-port', $self->_settings->{epmd}, '-address', '127.0.0.1')
	  unless $self->{member_of} || $self->_alive('epmd');
	$self->_daemon('broker', "$BIN/rabbitmq-server");
	return;
}

# False at the deadline, or when the broker ended.
sub _wait_until
{
	my ($self, $seconds, $condition) = @_;
	my $deadline = time + $seconds;

	while (time < $deadline && $self->running)
	{
		return 1 if $condition->();
		_nap(0.05);
	}
	return 0;
}

sub _tls_config
{
	my ($self) = @_;
	my $tls = $self->{tls} or return '';
	my $port = $self->tls_port;
	my ($verify, $fail) = $tls->{verify} ? qw(verify_peer true) : qw(verify_none false);

	return <<"CONF";

listeners.ssl.1 = 127.0.0.1:$port
ssl_options.cacertfile = $tls->{ca}
ssl_options.certfile = $tls->{cert}
ssl_options.keyfile = $tls->{key}
ssl_options.verify = $verify
ssl_options.fail_if_no_peer_cert = $fail
CONF
}

sub stop
{
	my ($self) = @_;

	$self->thaw;
	$self->_signal('broker', 'TERM');
	$self->_wait_gone('broker', 30) or $self->kill9;
	return $self;
}

sub restart
{
	my ($self) = @_;

	return $self->stop->start;
}

sub kill9
{
	my ($self) = @_;

	$self->_signal('broker', 'KILL');
	$self->_wait_gone('broker', 10) or croak 'the broker survived SIGKILL';
	return $self;
}

# Ends everything, epmd included.
sub destroy
{
	my ($self) = @_;

	$self->kill9;
	$self->_end('epmd');
	return;
}

sub freeze
{
	my ($self) = @_;

	$self->_signal('broker', 'STOP') or croak 'the broker is not running';
	return $self;
}

sub thaw
{
	my ($self) = @_;

	$self->_signal('broker', 'CONT');
	return $self;
}

sub running { return $_[0]->_alive('broker') }

sub log
{
	my ($self) = @_;
	my $node = $self->_settings->{node};

	return _read("$self->{dir}/log/$node.log") // '';
}

sub url
{
	my ($self, $vhost, $user, $password, $scheme, $port) = @_;

	$scheme ||= 'amqp';
	$port ||= $scheme eq 'amqps' ? $self->tls_port : $self->port;
	return sprintf('%s://%s:%s@127.0.0.1:%d/%s',
		$scheme, $user || 'guest', $password || 'guest', $port, _escape($vhost // '/'));
}

sub client
{
	my ($self, $vhost, %options) = @_;

	require ProfImport::Amqp;
	return ProfImport::Amqp->new(url => $self->url($vhost), %options);
}

sub new_vhost
{
	my ($self, $prefix) = @_;
	my $vhost = ($prefix || 'test') . "_$$";

	$vhost .= '_' . $self->{vhosts} if $self->{vhosts}++;
	my $name = _binary($vhost);

	$self->erl("rabbit_vhost:add($name, <<\"test\">>), "
		  . "rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, $name, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)"
	);
	return $vhost;
}

sub delete_vhost
{
	my ($self, $vhost) = @_;

	$self->erl('rabbit_vhost:delete(' . _binary($vhost) . ', <<"test">>)');
	return;
}

sub add_user
{
	my ($self, $name, $password, $vhost, @patterns) = @_;

	$self->ctl('add_user', $name, $password);
	$self->ctl('set_permissions', '-p', $vhost, $name, map { $patterns[$_] // '.*' } 0 .. 2);
	return;
}

sub change_password
{
	my ($self, $name, $password) = @_;

	return $self->erl('rabbit_auth_backend_internal:change_password('
		  . _binary($name) . ', ' . _binary($password) . ', <<"test">>)');
}

sub running_nodes
{
	my ($self) = @_;

	# The function has another name since RabbitMQ 3.12; a node that boots has none.
	return eval {
		$self->erl('length(case erlang:function_exported(rabbit_nodes, list_running, 0) of'
			  . ' true -> rabbit_nodes:list_running(); false -> rabbit_nodes:all_running() end)')
	} // 0;
}

sub memory_alarm
{
	my ($self, $on) = @_;

	$self->erl('vm_memory_monitor:set_vm_memory_high_watermark(' . ($on ? '0.0001' : '0.4') . ')');
	return $self->_wait_alarm('memory', $on);
}

sub disk_alarm
{
	my ($self, $on) = @_;

	# "Less than 4 EB free", or the 50 MB that RabbitMQ ships with.
	$self->erl('rabbit_disk_monitor:set_disk_free_limit(' . ($on ? '4000000000000000000' : '50000000') . ')');
	return $self->_wait_alarm('disk', $on);
}

sub _wait_alarm
{
	my ($self, $what, $on) = @_;
	my $deadline = time + 30;
	my $alarms;

	while (time < $deadline)
	{
		$alarms = $self->erl('rabbit_alarm:get_alarms()');
		return $self if !!$on == !!($alarms =~ /\b$what\b/);
		_nap(0.1);
	}
	croak "waited in vain for the $what alarm to be " . ($on ? 'on' : 'off') . ": $alarms";
}

sub close_connections
{
	my ($self, $vhost, $pattern) = @_;
	my $name = _binary($vhost);

	$pattern //= '^(?!profimport-test)';
	my $re = _binary($pattern);

	return $self->erl("F = fun(I) -> lists:foldl(fun({<<\"connection_name\">>, _, N}, _) -> N; (_, N) -> N end,"
		  . " <<>>, proplists:get_value(client_properties, I)) end,"
		  . " length([rabbit_networking:close_connection(proplists:get_value(pid, I), \"closed by a test\")"
		  . " || I <- rabbit_networking:connection_info_all([pid, vhost, client_properties]),"
		  . " proplists:get_value(vhost, I) =:= $name, re:run(F(I), $re) =/= nomatch])");
}

sub close_channels
{
	my ($self, $vhost, $pattern) = @_;
	my $name = _binary($vhost);

	$pattern //= '^(?!profimport-test)';
	my $re = _binary($pattern);

	# What a broker says of a consumer that keeps deliveries for too long.
	return $self->erl("F = fun(I) -> lists:foldl(fun({<<\"connection_name\">>, _, N}, _) -> N; (_, N) -> N end,"
		  . " <<>>, proplists:get_value(client_properties, I)) end,"
		  . " Pids = [proplists:get_value(pid, I) || I <- rabbit_networking:connection_info_all([pid, vhost, client_properties]),"
		  . " proplists:get_value(vhost, I) =:= $name, re:run(F(I), $re) =/= nomatch],"
		  . " length([exit(proplists:get_value(pid, C), {amqp_error, precondition_failed, \"closed by a test\", none})"
		  . " || C <- rabbit_channel:info_all([pid, connection]), lists:member(proplists:get_value(connection, C), Pids)])");
}

sub delete_queue
{
	my ($self, $vhost, $queue) = @_;
	my $resource = 'rabbit_misc:r(' . _binary($vhost) . ', queue, ' . _binary($queue) . ')';

	return $self->erl("case rabbit_amqqueue:lookup($resource) of {ok, Q} -> rabbit_amqqueue:delete(Q, false, false, <<\"test\">>), 1; _ -> 0 end");
}

sub connections
{
	my ($self, $vhost) = @_;
	my $all = $self->_list('list_connections',
		qw(name user vhost state channels timeout frame_max client_properties pid));

	# The name that the client gave itself, under the key newer brokers have for it.
	for my $connection (@$all)
	{
		my $properties = $connection->{client_properties};
		$connection->{user_provided_name} = _property($properties, 'connection_name');
	}
	return [ grep { !defined $vhost || $_->{vhost} eq $vhost } @$all ];
}

# rabbitmqctl prints an AMQP table as a list of [name, type, value], or as an object.
sub _property
{
	my ($table, $name) = @_;

	return $table->{$name} if ref $table eq 'HASH';
	my ($found) = grep { $_->[0] eq $name } @{ $table || [] };
	return $found && $found->[2];
}

sub queues
{
	my ($self, $vhost) = @_;

	return $self->_list('list_queues', '-p', $vhost,
		qw(name type durable arguments messages messages_ready messages_unacknowledged consumers));
}

sub consumers
{
	my ($self, $vhost) = @_;

	return $self->_list('list_consumers', '-p', $vhost,
		qw(queue_name consumer_tag ack_required prefetch_count active arguments));
}

sub channels
{
	my ($self, $vhost) = @_;
	my $all = $self->_list('list_channels',
		qw(vhost name number confirm consumer_count messages_unacknowledged messages_unconfirmed prefetch_count));

	return [ grep { !defined $vhost || $_->{vhost} eq $vhost } @$all ];
}

sub _list
{
	my ($self, $command, @args) = @_;

	return JSON::PP->new->utf8->decode($self->ctl('-q', '--formatter', 'json', $command, @args));
}

sub ctl
{
	my ($self, @args) = @_;

	return $self->_run(undef, "$BIN/rabbitmqctl", @args);
}

sub erl
{
	my ($self, $expression) = @_;
	my $s = $self->_settings;
	# A name of its own for each call: the broker refuses a second node of the
	# same name, and the one erl_call chooses is the same for two calls at once.
	my $name = "t${$}x" . ++$calls;
	my $answer =
	  $self->_run("$expression.\n", 'erl_call', '-h', $name, '-name', $s->{node}, '-c', $s->{cookie}, '-e');

	$answer =~ /^\{ok, (.*)\}\s*\z/s or croak "in the broker, $expression gave $answer";
	return $1;
}

# Runs a program in the broker's environment; input by file, so that nothing blocks.
sub _run
{
	my ($self, $input, @command) = @_;
	my %environment = $self->_environment;

	# What runs here is a tool, not a server.
	delete $environment{RUNNING_UNDER_SYSTEMD};
	pipe(my $reader, my $writer) or croak "pipe: $!";
	my $in = '/dev/null';
	if (defined $input)
	{
		$in = "$self->{dir}/input.$$";
		_write($in, $input);
	}
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		close($reader);
		_redirect($in, $writer);
		%ENV = %environment;
		exec @command or POSIX::_exit(127);
	}
	close($writer);
	my $output = do { local $/; <$reader> } // '';
	local $?;
	waitpid($pid, 0);
	my $status = $?;
	unlink $in if defined $input;
	croak "@command: " . ($status == 127 << 8 ? 'no such program' : $output) if $status;
	return $output;
}

# Starts a program that outlives this process; its pid goes into a file, its
# output into the log directory, its current directory tells whose it is.
sub _daemon
{
	my ($self, $name, @command) = @_;
	my %environment = $self->_environment;
	my $dir = $self->{dir};

	unlink "$dir/$name.pid";
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		POSIX::setsid();
		my $child = fork // POSIX::_exit(1);
		POSIX::_exit(0) if $child;
		chdir $dir;
		_write("$dir/$name.pid", $$);
		open(my $out, '>>', "$dir/log/$name.out") or POSIX::_exit(1);
		_redirect('/dev/null', $out);
		POSIX::close($_) for 3 .. 255;
		%ENV = %environment;
		exec @command or POSIX::_exit(127);
	}
	local $?;
	waitpid($pid, 0);
	my $deadline = time + 10;
	_nap(0.01) until -s "$dir/$name.pid" || time > $deadline;
	return;
}

# Straight on the descriptors: Test::More and PostgreSQL::Test::Utils have
# tied and redirected the handles of these names.
sub _redirect
{
	my ($in, $out) = @_;
	my $fd = POSIX::open($in, POSIX::O_RDONLY());

	POSIX::dup2($fd, 0);
	POSIX::dup2(fileno($out), 1);
	POSIX::dup2(fileno($out), 2);
	return;
}

# Alive means: there, no zombie (who would reap it, in a container?), and with
# our directory as its current one, so that a reused pid is not taken for it.
sub _alive
{
	my ($self, $name) = @_;
	my $pid = _read("$self->{dir}/$name.pid") or return 0;
	my $cwd = readlink("/proc/$pid/cwd") or return 0;

	return $cwd eq $self->{dir};
}

sub _signal
{
	my ($self, $name, $signal) = @_;

	return 0 unless $self->_alive($name);
	return kill $signal, _read("$self->{dir}/$name.pid");
}

sub _wait_gone
{
	my ($self, $name, $seconds) = @_;
	my $deadline = time + $seconds;

	while ($self->_alive($name))
	{
		return 0 if time > $deadline;
		_nap(0.02);
	}
	return 1;
}

sub _end
{
	my ($self, $name) = @_;

	$self->_signal($name, 'TERM');
	$self->_wait_gone($name, 5) or $self->_signal($name, 'KILL');
	return;
}

# Ready means that a client gets past the handshake's first step.
sub _answers
{
	my ($self) = @_;
	my $socket = IO::Socket::INET->new(
		PeerAddr => '127.0.0.1',
		PeerPort => $self->port,
		Timeout => 5) or return 0;

	local $SIG{PIPE} = 'IGNORE';
	syswrite($socket, "AMQP\0\0\x09\x01") or return 0;
	my $readable = '';
	vec($readable, fileno($socket), 1) = 1;
	select($readable, undef, undef, 5) or return 0;
	return (sysread($socket, my $buffer, 8) || 0) == 8;
}

sub _nap { select(undef, undef, undef, $_[0]); return }

sub _read
{
	my ($file) = @_;
	open(my $handle, '<', $file) or return;
	local $/;
	return scalar <$handle>;
}

sub _write
{
	my ($file, $text) = @_;
	open(my $handle, '>', "$file.new") or croak "could not write $file: $!";
	print $handle $text;
	close($handle) or croak "could not write $file: $!";
	rename("$file.new", $file) or croak "could not write $file: $!";
	return;
}

# An Erlang binary of any text.
sub _binary { return '<<' . join(',', unpack('C*', $_[0])) . '>>' }

sub _escape
{
	my ($text) = @_;
	$text =~ s/([^A-Za-z0-9._~-])/sprintf('%%%02X', ord $1)/ge;
	return $text;
}

END
{
	my $status = $?;

	for my $broker (@private)
	{
		next unless $broker->{owner} == $$;
		$broker->destroy;
		# A sandbox keeps or removes everything at once.
		remove_tree($broker->{dir}) if $status == 0 && !$ENV{PROFIMPORT_RUN};
	}
	$? = $status;
}

# The command line, when run and not used.
sub _main
{
	my ($command, $dir, @args) = @_;

	die "usage: $0 start|stop|url|vhost|ctl|erl DIR [ARG...]\n" unless defined $dir;
	my $broker = __PACKAGE__->at($dir);
	my %commands = (
		start => sub { $broker->start; print $broker->url, "\n" },
		stop => sub { $broker->stop; $broker->destroy },
		url => sub { print $broker->url(@args), "\n" },
		vhost => sub { print $broker->new_vhost(@args), "\n" },
		ctl => sub { print $broker->ctl(@args) },
		erl => sub { print $broker->erl(@args), "\n" });

	($commands{$command} || die "unknown command $command\n")->();
	return 0;
}

exit _main(@ARGV) unless caller;

1;
