
=pod

=head1 NAME

BenchReport - medians and spreads, the tables of bench/run, the pictures

=head1 SYNOPSIS

  my $report = BenchReport->new(out => $directory, terminal => $handle, head => "...");

  $report->section('main');
  $report->add('floor', $world->floor);            # as often as there are rounds
  $report->compare('Title', base => 'floor', rows => [ 'floor', ... ], writes => 1);
  $report->spread('floor', 'broker');                # "83.6 (81.0-90.2)", as every cell of it
  $report->table('Title', [ 'column', ... ], [ [ 'cell', ... ], ... ]);
  $report->aim($what, $aim, $figure);               # "at least 0.80" or "at most 1.50"
  $report->svg('batch', title => ..., xlabel => ..., ylabel => ..., log => 1, lines => { name => [ [ x, y ], ... ] });
  $report->write;                                   # results.md, main.md; pictures, as they are made, if gnuplot is there

=cut

package BenchReport;

use strict;
use warnings;

sub new
{
	my ($class, %options) = @_;

	return bless { text => '', values => {}, aims => [], sections => [], %options }, $class;
}

# What is told from here on belongs to a section; its aims end it.
sub section
{
	my ($self, $name) = @_;

	if ($self->{name})
	{
		$self->aims;
		push @{ $self->{sections} }, [ $self->{name}, $self->{text} ];
	}
	@$self{qw(name text aims)} = ($name, '', []);
	print { $self->{terminal} } "== $name\n" if $name;
	return;
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
	return unless $result->{rate};
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

# "12.3 (11.9-13.0)": the median, and the spread if there is one to tell.
sub spread
{
	my ($self, $name, $what, $digits) = @_;
	my @all = sort { $a <=> $b } grep { defined } @{ $self->{values}{$name}{$what} // [] };
	my ($median, $min, $max) = map { sprintf '%.*f', $digits // 1, $_ } @all ? (percentile(0.5, @all), @all[ 0, -1 ]) : return '';

	return @all > 1 ? "$median ($min-$max)" : $median;
}

# Speed and CPU; with "writes", a second table of what a message leaves behind.
sub compare
{
	my ($self, $title, %options) = @_;
	my $base = $self->median($options{base});
	my @names = grep { defined $self->median($_) } @{ $options{rows} };
	my $cells = sub {
		my @columns = @_;
		# a column that no row has anything for is none
		@columns = grep { my $c = $_; grep { length $self->spread($_, $c->[1]) } @names } @columns;
		return ([ map { $_->[0] } @columns ], map { my $name = $_; [ map { $self->spread($name, @$_[ 1, 2 ]) } @columns ] } @names);
	};

	return unless @names && $base;
	my ($head, @rows) = $cells->([ 'process us', 'client' ], [ 'backend us', 'backend' ], [ 'broker us', 'broker' ], [ 'others %', 'others', 0 ]);
	$self->table($title, [ 'what', 'messages/s', "of $options{base}", @$head ],
		[ map { [ $names[$_], $self->spread($names[$_], 'rate', 0), sprintf('%.2f', $self->median($names[$_]) / $base), @{ $rows[$_] } ] } 0 .. $#names ]);

	return unless $options{writes};
	($head, @rows) = $cells->([ 'WAL bytes', 'wal', 0 ], [ 'full pages', 'fpi', 0 ], [ 'blocks dirtied', 'dirty', 3 ], [ 'HOT %', 'hot' ],
		[ 'process MB', 'client_mb' ], [ 'backend MB', 'backend_mb' ]);
	$self->table("$title: written per message, memory", [ 'what', @$head ], [ map { [ $names[$_], @{ $rows[$_] } ] } 0 .. $#names ]) if @$head;
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
	my $key = $p{key} // 'bottom right';

	return if grep({ !@$_ } values %{ $p{lines} }) || system('gnuplot --version >/dev/null 2>&1') != 0;
	open my $g, '|-', 'gnuplot' or return;
	print $g "set terminal svg size 720,400 dynamic background '#ffffff' font 'sans,13'\nset output '$self->{out}/$name.svg'\n",
	  "set title '$p{title}'\nset xlabel '$p{xlabel}'\nset ylabel '$p{ylabel}'\nset yrange [0:*]\nset grid\nset key $key\n",
	  $p{log} ? "set logscale x\n" : '', $p{setup} // '',
	  'plot ', join(', ', map { "'-' with linespoints lw 2 pt 7 title '$_'" } @names), "\n";
	for my $line (@names)
	{
		print $g join(' ', @$_), "\n" for @{ $p{lines}{$line} };
		print $g "e\n";
	}
	close $g or return;
	$self->{text} .= "\n![$p{title}]($name.svg)\n";
	return;
}

# A file per section, so that another run may renew some of them, and all
# of this run in one.
sub write
{
	my ($self) = @_;

	$self->section(undef);
	for my $part ([ results => join '', map { $_->[1] } @{ $self->{sections} } ], @{ $self->{sections} })
	{
		my ($name, $text) = @$part;
		open my $f, '>', "$self->{out}/$name.md" or die;
		print $f "## $name\n\n$self->{head}$text\n";
		close $f;
	}
	return;
}

1;
