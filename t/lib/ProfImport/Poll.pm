
=pod

=head1 NAME

ProfImport::Poll - waiting with a deadline

=head1 SYNOPSIS

  poll_until { -e $file } 'the file is there';
  poll_until { my $n = count(); ($n == 10, $n) } 'ten of them', 30;

Runs the block twenty times a second until its first value is true, and returns that.  After the
deadline (60 seconds, or PG_TEST_TIMEOUT_DEFAULT) it dies with what was waited for and the block's last value: the
second one if it gives two, else the first.

Tests never sleep: they wait for what they mean.

=cut

package ProfImport::Poll;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT = qw(poll_until);

sub poll_until(&$;$)
{
	my ($block, $what, $seconds) = @_;
	my $deadline = time + ($seconds // $ENV{PG_TEST_TIMEOUT_DEFAULT} // 60);

	while (1)
	{
		my @values = $block->();

		return $values[0] if $values[0];
		if (time > $deadline)
		{
			my $last = @values > 1 ? $values[1] : $values[0];

			$last = defined $last ? "\"$last\"" : 'undefined';
			croak "waited in vain for: $what; last seen: $last";
		}
		select(undef, undef, undef, 0.05);
	}
}

1;
