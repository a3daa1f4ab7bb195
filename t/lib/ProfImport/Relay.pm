
=pod

=head1 NAME

ProfImport::Relay - a byte relay on loopback, for network faults

=head1 SYNOPSIS

  my $relay = ProfImport::Relay->new($broker->port);
  my $node  = ProfImport::Node->create('main', url => $broker->url($vhost, undef, undef, 'amqp', $relay->port));

  $relay->stall;            # nothing passes, connections stay
  $relay->pass;             # everything passes again
  $relay->drip(200);        # so many bytes a second, each way
  $relay->cut_after(1000);  # the next 1000 bytes from the broker pass, then every connection is cut
  $relay->stall_after(1000); # then nothing passes
  $relay->cut;              # now
  $relay->refuse;           # cut, and close each new connection at once; pass() ends it
  $relay->count;            # connections accepted so far

It ends with the test.

=cut

package ProfImport::Relay;

use strict;
use warnings;

use Carp;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket;
use Time::HiRes qw(time);

sub new
{
	my ($class, $port) = @_;
	my $listener = IO::Socket::INET->new(
		Listen => 16,
		LocalAddr => '127.0.0.1',
		LocalPort => 0) or croak "no free port: $@";

	socketpair(my $parent, my $child, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or croak "socketpair: $!";
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		close($parent);
		eval { _serve($listener, $port, $child) };
		POSIX::_exit(0);
	}
	$parent->autoflush(1);
	return bless { control => $parent, pid => $pid, owner => $$, port => $listener->sockport }, $class;
}

sub port { return $_[0]->{port} }

for my $command (qw(stall pass drip cut cut_after stall_after refuse count))
{
	no strict 'refs';
	*$command = sub {
		my ($self, @args) = @_;

		# The answer says that it is in force.
		print { $self->{control} } join(' ', $command, @args), "\n";
		chomp(my $answer = readline($self->{control}) // croak 'the relay ended');
		return $answer;
	};
}

# A pair is { client, broker, and for each of them what waits to be written to it }.
sub _serve
{
	my ($listener, $port, $control) = @_;
	my ($mode, $rate, $left, $then, $count) = ('pass', 0, undef, undef, 0);
	my %pair;
	my $tick = time;

	$SIG{PIPE} = 'IGNORE';
	$control->autoflush(1);
	my $cut = sub {
		my ($pair) = @_;
		delete $pair{ $_->fileno } for @$pair{qw(client broker)};
		# A reset, as a broken line gives one.
		setsockopt($_, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)), close($_) for @$pair{qw(client broker)};
	};
	my $cut_all = sub { $cut->($_) for values %{ { map { $_ => $_ } values %pair } } };

	while (1)
	{
		my ($readable, $writable) = (IO::Select->new($listener, $control), IO::Select->new);
		my $moves = $mode eq 'pass' || $mode eq 'drip';

		for my $pair (values %pair)
		{
			for my $side (qw(client broker))
			{
				my $other = $side eq 'client' ? 'broker' : 'client';

				# Little is held here, so that a stall is felt by the sender.
				$readable->add($pair->{$side}) if $moves && length $pair->{"to_$other"} < 65536;
				$writable->add($pair->{$side}) if $moves && length $pair->{"to_$side"};
			}
		}
		# A drip moves ten times a second.
		my ($can_read, $can_write) = IO::Select->select($readable, $mode eq 'drip' ? undef : $writable, undef,
			$mode eq 'drip' ? 0.1 : 3600);

		for my $handle (@{ $can_read || [] })
		{
			if ($handle == $control)
			{
				my $line = readline($control) // return;
				my ($command, $argument) = split ' ', $line;

				if ($command eq 'count') { print {$control} "$count\n"; next }
				if ($command eq 'cut') { $cut_all->() }
				elsif ($command =~ /^(cut|stall)_after$/) { ($left, $then) = ($argument, $1) }
				elsif ($command eq 'drip') { ($mode, $rate, $tick) = ('drip', $argument, time) }
				elsif ($command eq 'refuse') { $mode = 'refuse'; $cut_all->() }
				else { $mode = $command }
				print {$control} "ok\n";
				# What was selected before may be closed now.
				last;
			}
			if ($handle == $listener)
			{
				my $client = $listener->accept or next;
				my $broker = $mode eq 'refuse' ? undef : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);

				$count++;
				if (!$broker) { close($client); next }
				my $pair = { client => $client, broker => $broker, to_client => '', to_broker => '' };
				$_->blocking(0) for $client, $broker;
				$pair{ $_->fileno } = $pair for $client, $broker;
				next;
			}
			my $pair = defined $handle->fileno && $pair{ $handle->fileno } or next;
			my $other = $handle == $pair->{client} ? 'broker' : 'client';
			my $got = sysread($handle, $pair->{"to_$other"}, 32768, length $pair->{"to_$other"});

			$cut->($pair) if !$got && !($!{EAGAIN} && !defined $got);
		}

		my $share = 32768;
		if ($mode eq 'drip')
		{
			my $now = time;

			$share = int(($now - $tick) * $rate);
			next if $share < 1;
			$tick = $now;
		}
		for my $pair (values %{ { map { $_ => $_ } values %pair } })
		{
			for my $side (qw(client broker))
			{
				next unless $moves && length $pair->{"to_$side"} && $pair->{$side}->opened;
				my $size = $share;

				$size = $left if $side eq 'client' && defined $left && $left < $size;
				my $sent = syswrite($pair->{$side}, $pair->{"to_$side"}, $size);

				next unless $sent;
				substr($pair->{"to_$side"}, 0, $sent, '');
				if ($side eq 'client' && defined $left && ($left -= $sent) <= 0)
				{
					$left = undef;
					if ($then eq 'cut') { $cut_all->() }
					else { $mode = 'stall' }
				}
			}
		}
	}
}

sub DESTROY
{
	my ($self) = @_;

	return unless $self->{owner} == $$;
	close($self->{control});
	local ($?, $@);
	waitpid($self->{pid}, 0);
	return;
}

1;
