
=pod

=head1 NAME

BenchReport - medians, the tables of bench/run, the picture

=head1 SYNOPSIS

  my $report = BenchReport->new(out => $directory, terminal => $handle, head => "...");

  $report->add('floor', $world->floor);            # as often as there are rounds
  $report->compare('Title', base => 'floor', rows => [ 'floor', ... ]);
  $report->table('Title', [ 'column', ... ], [ [ 'cell', ... ], ... ]);
  $report->aim($what, $aim, $figure);               # "at least 0.80" or "at most 1.50"
  $report->svg('batch', title => ..., xlabel => ..., ylabel => ..., log => 1, lines => { name => [ [ x, y ], ... ] });
  $report->write;                                   # results.md; pictures if gnuplot is there

=cut

package BenchReport;

use strict;
use warnings;

sub new
{
	my ($class, %options) = @_;

	return bless { text => '', values => {}, aims => [], %options }, $class;
}

sub say
{
	my ($self, $text) = @_;

	print { $self->{terminal} } $text;
	$self->{text} .= $text;
	return;
}

sub add
{
	my ($self, $name, $result) = @_;

	return unless $result;
	push @{ $self->{values}{$name}{$_} }, $result->{$_} for keys %$result;
	printf { $self->{terminal} } "  %-36s %8.0f/s%s\n", $name, $result->{rate},
	  defined $result->{others} ? sprintf('  (others %.0f %%)', $result->{others}) : '';
	return;
}

sub percentile
{
	my ($p, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;

	return unless @sorted;
	return $sorted[ int($p * $#sorted + 0.5) ];
}

sub median
{
	my ($self, $name, $what) = @_;

	return percentile(0.5, @{ $self->{values}{$name}{ $what // 'rate' } // [] });
}

sub compare
{
	my ($self, $title, %options) = @_;
	my $base = $self->median($options{base});
	my @rows;

	for my $name (@{ $options{rows} })
	{
		my $rate = $self->median($name) // next;
		my @all = sort { $a <=> $b } @{ $self->{values}{$name}{rate} };
		my $figure = sub { my $v = $self->median($name, $_[0]); return defined $v ? sprintf('%.1f', $v) : '' };
		my ($wal, $others) = map { $self->median($name, $_) } qw(wal others);

		push @rows, [
			$name, sprintf('%.0f', $rate), sprintf('%.0f-%.0f', @all[ 0, -1 ]), sprintf('%.2f', $rate / $base),
			map({ $figure->($_) } qw(client backend broker)), 
			map({ defined $_ ? sprintf('%.0f', $_) : '' } $wal, $others) ];
	}
	$self->table($title,
		[ 'what', 'messages/s', 'min-max', "of $options{base}", 'process us', 'backend us', 'broker us', 'WAL bytes', 'others %' ], \@rows) if @rows;
	return;
}

sub table
{
	my ($self, $title, $head, $rows) = @_;
	my @width = map { my $c = $_; percentile(1, map { length $_->[$c] } $head, @$rows) } 0 .. $#$head;
	my $line = sub {
		my @cells = @_;
		return '| ' . join(' | ', map { sprintf($_ ? '%*s' : '%-*s', $width[$_], $cells[$_]) } 0 .. $#cells) . " |\n";
	};

	$self->say("\n### $title\n\n" . $line->(@$head) . '|' . join('|', map { ($_ ? '-' x ($width[$_] + 1) . ':' : '-' x ($width[0] + 2)) } 0 .. $#$head) . "|\n"
		  . join('', map { $line->(@$_) } @$rows));
	return;
}

sub aim
{
	my ($self, $what, $aim, $figure) = @_;

	return unless defined $figure;
	my ($kind, $limit) = $aim =~ /^at (least|most) ([\d.]+)/ or die $aim;
	push @{ $self->{aims} }, [ $what, $aim, sprintf('%.2f', $figure),
		($kind eq 'least' ? $figure >= $limit : $figure <= $limit) ? 'met' : 'missed' ];
	return;
}

sub aims
{
	my ($self) = @_;

	return $self->table('Aims', [ 'what', 'aim', 'seen', '' ], $self->{aims}) if @{ $self->{aims} };
	return;
}

sub svg
{
	my ($self, $name, %p) = @_;
	my @names = sort keys %{ $p{lines} };

	return if grep({ !@$_ } values %{ $p{lines} }) || system('gnuplot --version >/dev/null 2>&1') != 0;
	open my $g, '|-', 'gnuplot' or return;
	print $g "set terminal svg size 720,400 dynamic background '#ffffff' font 'sans,13'\nset output '$self->{out}/$name.svg'\n",
	  "set title '$p{title}'\nset xlabel '$p{xlabel}'\nset ylabel '$p{ylabel}'\nset yrange [0:*]\nset grid\nset key bottom right\n",
	  $p{log} ? "set logscale x\n" : '', $p{setup} // '',
	  'plot ', join(', ', map { "'-' with linespoints lw 2 pt 7 title '$_'" } @names), "\n";
	for my $line (@names)
	{
		print $g join(' ', @$_), "\n" for @{ $p{lines}{$line} };
		print $g "e\n";
	}
	close $g;
	return;
}

sub write
{
	my ($self) = @_;

	open my $f, '>', "$self->{out}/results.md" or die;
	print $f $self->{head}, $self->{text};
	close $f;
	return;
}

1;
