
=pod

=head1 NAME

ProfImport::Amqp - an AMQP client for tests, with every message property

=head1 SYNOPSIS

  my $amqp = $broker->client($vhost);

  $amqp->publish('database_import', { account_id => 1, db_id => 1, data => {} },
      message_id => 'm-1', headers => { source => 'crm' });
  my ($result) = $amqp->consume('database_import_result', 1);
  is($result->{json}{error}, 0);
  is($result->{headers}{outcome}, 'created');

Perl has no AMQP client in Debian that knows properties, so t/lib/amqp_agent.py (python3-pika) does the
work, one process per client, spoken to in lines of JSON.  It connects when it is first needed and again
after a broken connection; the operation that met the break is tried once more.

A message is a hash: body (bytes), json (the body decoded, if it is JSON), exchange, routing_key, redelivered,
and every property that it has: content_type, content_encoding, headers, delivery_mode, priority,
correlation_id, reply_to, expiration, message_id, timestamp, type, user_id, app_id.

=head1 METHODS

=over

=item ProfImport::Amqp->new(url => $url, [name => $connection_name])

Or C<< $broker->client($vhost) >>.

=item $amqp->publish($queue, $body, %properties)

A body that is a reference is encoded as JSON (canonical).  Persistent unless delivery_mode says otherwise.
Returns when the broker has confirmed it, dies if it was refused or no queue took it.  exchange => ... publishes there instead, with the queue's name as routing key.

=item $amqp->publish_many($queue, \@messages)

The same for many; each is a body, or a hash { body => ..., %properties } (so a body that is to be
encoded as JSON goes into such a hash).  Confirms are collected as they come: some thousands of messages a second.

=item @messages = $amqp->consume($queue, $count, [timeout => 60, ack => 1])

Waits for that many messages and acknowledges them; dies on the deadline, saying how many came and what the last
one was.

=item @messages = $amqp->results($count, [queue => 'database_import_result', timeout => 60])

consume() on the queue of results.

=item @messages = $amqp->drain($queue, [quiet => 1])

All there is, until nothing came for so many seconds.

=item $message = $amqp->get($queue, [ack => 1])

One message or undef, without waiting; ack => 0 puts it back.

=item $amqp->declare($queue, [durable => 1, arguments => {...}, exclusive => 0, auto_delete => 0])

=item $amqp->delete($queue), $amqp->purge($queue)

=item $amqp->exists($queue), $amqp->count($queue), $amqp->consumers($queue)

Ready messages (not those a consumer holds: for these see $broker->queues); count and consumers are undef without the queue.

=item $amqp->declare_exchange($name, $type, %options), $amqp->bind($queue, $exchange, $routing_key), $amqp->bind_exchange($destination, $exchange, $routing_key)

=item $amqp->close

=back

=cut

package ProfImport::Amqp;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Handle;
use IPC::Open2 ();
use JSON::PP ();
use MIME::Base64 qw(encode_base64 decode_base64);
use POSIX ();
use Socket;

# In Perl a body is bytes; JSON only sees it in base 64, unless it is plain ASCII.
my $wire = JSON::PP->new->ascii->canonical->allow_nonref;
my $json = JSON::PP->new->utf8->canonical->allow_nonref;

my $agent = dirname(abs_path(__FILE__)) . '/../amqp_agent.py';

# The system's Python, which is where Debian's pika is.
my $python = '/usr/bin/python3';

sub new
{
	my ($class, %options) = @_;

	return bless {%options}, $class;
}

sub _start
{
	my ($self) = @_;

	# Sockets and not the standard handles: those belong to the test harness.
	socketpair(my $parent, my $child, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or croak "socketpair: $!";
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		POSIX::dup2(fileno($child), 0);
		POSIX::dup2(fileno($child), 1);
		exec $python, $agent, $self->{url}, $self->{name} || 'profimport-test'
		  or POSIX::_exit(127);
	}
	close($child);
	$parent->autoflush(1);
	@$self{qw(socket pid owner)} = ($parent, $pid, $$);
	return;
}

# One request, one answer.
sub _ask
{
	my ($self, %request) = @_;

	$self->_start unless $self->{socket};
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{socket} } $wire->encode(\%request), "\n";
	my $line = readline($self->{socket}) // do
	{
		delete $self->{socket};
		croak "$request{op}: the AMQP agent ended";
	};
	my $answer = $wire->decode($line);

	croak "$request{op} $request{queue}: $answer->{error}" if exists $answer->{error};
	return $answer->{result};
}

sub _outgoing
{
	my ($body, %properties) = @_;

	$body = $json->encode($body) if ref $body;
	if ($body =~ /[^\x09\x0a\x0d\x20-\x7e]/)
	{
		utf8::encode($body) if utf8::is_utf8($body);
		return { %properties, body64 => encode_base64($body, '') };
	}
	return { %properties, body => $body };
}

sub _incoming
{
	my ($message) = @_;

	$message->{body} = decode_base64(delete $message->{body64}) if exists $message->{body64};
	my $decoded = eval { $json->decode($message->{body}) };
	$message->{json} = $decoded if defined $decoded;
	return $message;
}

sub publish
{
	my ($self, $queue, $body, %properties) = @_;
	my $exchange = delete $properties{exchange} // '';

	$self->_ask(
		op => 'publish',
		queue => $queue,
		exchange => $exchange,
		messages => [ _outgoing($body, %properties) ]);
	return;
}

sub publish_many
{
	my ($self, $queue, $messages, %options) = @_;
	my @rest = map { ref $_ eq 'HASH' && exists $_->{body} ? _outgoing($_->{body}, _properties($_)) : _outgoing($_) } @$messages;

	while (my @some = splice(@rest, 0, 500))
	{
		$self->_ask(
			op => 'publish',
			queue => $queue,
			exchange => $options{exchange} // '',
			messages => \@some);
	}
	return;
}

sub _properties
{
	my %properties = %{ $_[0] };

	delete $properties{body};
	return %properties;
}

sub consume
{
	my ($self, $queue, $count, %options) = @_;
	my $timeout = $options{timeout} // $ENV{PG_TEST_TIMEOUT_DEFAULT} // 60;
	my $messages = $self->_ask(
		op => 'consume',
		queue => $queue,
		count => $count,
		timeout => $timeout,
		ack => $options{ack} // 1);
	my @messages = map { _incoming($_) } @$messages;

	croak sprintf('%d of %d messages came from %s within %d s; the last: %s',
		scalar @messages, $count, $queue, $timeout, @messages ? $messages[-1]{body} : 'none')
	  if @messages < $count;
	return @messages;
}

sub results
{
	my ($self, $count, %options) = @_;

	return $self->consume(delete $options{queue} // 'database_import_result', $count, %options);
}

sub drain
{
	my ($self, $queue, %options) = @_;
	my $messages = $self->_ask(
		op => 'consume',
		queue => $queue,
		count => 0,
		timeout => $options{quiet} // 1,
		ack => 1);

	return map { _incoming($_) } @$messages;
}

sub get
{
	my ($self, $queue, %options) = @_;
	my $message = $self->_ask(op => 'get', queue => $queue, ack => $options{ack} // 1);

	return $message ? _incoming($message) : undef;
}

sub declare
{
	my ($self, $queue, %options) = @_;

	$self->_ask(
		op => 'declare',
		queue => $queue,
		durable => $options{durable} // 1,
		exclusive => $options{exclusive} // 0,
		auto_delete => $options{auto_delete} // 0,
		arguments => $options{arguments} || {});
	return;
}

sub delete { my ($self, $queue) = @_; $self->_ask(op => 'delete', queue => $queue); return }
sub purge { my ($self, $queue) = @_; $self->_ask(op => 'purge', queue => $queue); return }

sub exists { return defined $_[0]->count($_[1]) }

sub count
{
	my ($self, $queue) = @_;
	my $found = $self->_ask(op => 'look', queue => $queue);

	return $found && $found->{messages};
}

sub consumers
{
	my ($self, $queue) = @_;
	my $found = $self->_ask(op => 'look', queue => $queue);

	return $found && $found->{consumers};
}

sub declare_exchange
{
	my ($self, $name, $type, %options) = @_;

	$self->_ask(op => 'exchange', queue => $name, type => $type, %options);
	return;
}

sub bind
{
	my ($self, $queue, $exchange, $routing_key) = @_;

	$self->_ask(op => 'bind', queue => $queue, exchange => $exchange, routing_key => $routing_key // '');
	return;
}

sub bind_exchange
{
	my ($self, $destination, $exchange, $routing_key) = @_;

	$self->_ask(op => 'bind', queue => '', to_exchange => $destination, exchange => $exchange, routing_key => $routing_key // '');
	return;
}

sub close
{
	my ($self) = @_;

	return unless $self->{socket} && $self->{owner} == $$;
	# The end of its input is the end of the agent.
	CORE::close(delete $self->{socket});
	local $?;
	waitpid(delete $self->{pid}, 0);
	return;
}

sub DESTROY { my ($self) = @_; local $@; $self->close; return }

1;
