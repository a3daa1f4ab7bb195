
=pod

=head1 NAME

ProfImport::Load - a load under which harm is done, and what must be true after it

=head1 SYNOPSIS

  my $load = ProfImport::Load->new(node => $node, broker => $broker, vhost => $vhost);

  $load->survive('connections closed', sub { $broker->close_connections($vhost) });

Every message adds 1 to field "points" (an int of database 1 of account 1) of one of forty profiles, so that a double
and a loss show in the sum.  survive() publishes, does the harm when some messages are imported and
some are not, and then looks: every message answered, under one message_id; the sum; no error; nothing pending.

=head1 METHODS

=over

=item $load->survive($what, $hurt, %options)

A backlog is built up while the worker is switched off, and doubled as often as it is imported before harm could be
done.  identity => 'none' leaves out the feedback_id, so that bodies repeat; 'serial' too, and tells them apart by
field "serial".  left => how many have to be left when harm is done (300).

=item $load->total

The sum.

=item $load->left

How many messages of this round are not yet imported.

=back

=cut

package ProfImport::Load;

use strict;
use warnings;

use ProfImport::Poll;
use ProfImport::Test;

sub new
{
	my ($class, %world) = @_;

	return bless { round => 0, target => 0, %world }, $class;
}

sub total
{
	my ($self) = @_;

	return $self->{node}->sql("SELECT coalesce(sum((data->>'points')::bigint), 0) FROM profimport.profile");
}

sub left { return $_[0]->{target} - $_[0]->total }

# Away meanwhile, or little would be left to be imported.
sub _publish
{
	my ($self, $identity, $from, $to) = @_;
	my ($node, $round) = @$self{qw(node round)};

	$node->set('profimport.enabled' => 'off');
	$node->wait_state('disabled');
	$self->{broker}->client($self->{vhost})->publish_many(
		'database_import',
		[
			map {
				{
					body => message(
						email => 'p' . ($_ % 40) . '@example.com',
						($identity ? () : (feedback_id => "$round-$_")),
						data => {
							points => { action => 'incr', value => 1 },
							($identity eq 'serial' ? (serial => $round * 1_000_000 + $_) : ()) }),
					correlation_id => "$round-$_"
				}
			} $from .. $to
		]);
	$self->{target} += $to - $from + 1;
	$node->set('profimport.enabled' => undef);
	return;
}

sub survive
{
	my ($self, $what, $hurt, %options) = @_;
	my $node = $self->{node};
	my $before = $self->total;
	my ($n, $more) = (0, 1500);
	my $left = $options{left} // 300;
	my %answers;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->{round}++;
	$self->{target} = $before;
	do
	{
		my $some = $self->total + 40;

		$self->_publish($options{identity} // '', $n + 1, $n + $more);
		$n += $more;
		$more = $n;
		poll_until { my $total = $self->total; ($total >= $some, $total) } "$what: some are imported";
	} until ($self->left >= $left);
	my $imported = $self->total - $before;
	$hurt->();

	# The broker may be another one.
	my $amqp = $self->{broker}->client($self->{vhost});
	my $collect = sub {
		$answers{ $_->{correlation_id} }{ $_->{message_id} }++ for $amqp->drain('database_import_result', quiet => 0.2);
	};
	poll_until { $collect->(); (keys %answers >= $n, scalar(keys %answers) . " of $n answered") } "$what: answers", 120;
	$node->wait_settled;
	$collect->();
	is(scalar(keys %answers), $n, "$what: every message is answered");
	my @again = grep { keys %{ $answers{$_} } > 1 } keys %answers;
	is(scalar(@again), 0, "$what: and under one message_id")
	  or diag("harm was done when $imported were imported; imported twice: " . join(' ', sort { $a <=> $b } map { /-(\d+)/ } @again));
	is($self->total - $before, $n, "$what: every effect once");
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: no error");
	$node->poll("$what: nothing pending", 'SELECT count(*) FROM profimport.batch WHERE outgoing IS NOT NULL', 0);
	return;
}

1;
