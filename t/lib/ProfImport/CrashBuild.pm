
=pod

=head1 NAME

ProfImport::CrashBuild - a build of profimport that can be killed at named points

=head1 SYNOPSIS

  my $path = ProfImport::CrashBuild->install;    # makes it, once per "make test"
  my $node = ProfImport::Node->create('main', install_path => $path, ...);

  ProfImport::CrashBuild->arm($node, 'before-ack kill');
  ...
  ProfImport::CrashBuild->wait_for_crash($node);

The points and actions are listed in src/crashpoint.c; nothing of them is in the normal build.  This one also
has a patience of four seconds instead of a minute before it gives deliveries back, and in stat_minute a day of three
minutes of two seconds.

=cut

package ProfImport::CrashBuild;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path getcwd);
use Fcntl qw(:flock);
use File::Basename qw(dirname);
use ProfImport::Poll;

my $armed = 'profimport.crash';

sub install
{
	my ($class) = @_;
	my $run = $ENV{PROFIMPORT_RUN} or croak 'needs t/sandbox';
	my $cflags = $ENV{PROFIMPORT_CFLAGS} // '';
	my $prefix = "$run/crash";
	my $bindir = _output($ENV{PG_CONFIG}, '--bindir');
	my $path = dirname($prefix . substr($bindir, length "$run/pg"));

	# Test files run two at a time; the first one builds.
	open my $lock, '>', "$prefix.lock" or croak "$prefix.lock: $!";
	flock $lock, LOCK_EX or croak "flock: $!";
	return $path if -e "$prefix/done";
	_run('rm', '-rf', $prefix);

	my $tree = dirname(abs_path(__FILE__)) . '/../../..';
	my $pg_config = "$path/bin/pg_config";
	_run('cp', '-a', "$run/pg", $prefix);
	_run('mkdir', "$prefix/tree");
	_run('cp', '-r', "$tree/src", "$tree/sql", "$tree/Makefile", "$tree/profimport.control", "$prefix/tree");
	unlink glob("$prefix/tree/src/*.o"), glob("$prefix/tree/src/*.d");
	_run('make', '-s', '-j2', '-C', "$prefix/tree", "PG_CONFIG=$pg_config",
		"PROFILE=-Werror $cflags -DPROFIMPORT_CRASHPOINTS -DPI_PATIENCE_MS=4000 -DPI_MINUTES=3 -DPI_MINUTE_USECS=2000000", 'all');
	_run('make', '-s', '-C', "$prefix/tree", "PG_CONFIG=$pg_config", 'install');
	open my $done, '>', "$prefix/done" or croak "$prefix/done: $!";
	return $path;
}

# Sets the point, and lets it act once.
sub arm
{
	my ($class, $node, $point) = @_;

	$node->set('profimport.crash_point' => $point);
	open my $file, '>', $node->data_dir . "/$armed" or croak "$armed: $!";
	return;
}

# Waits until it has acted, and the server takes connections.
sub wait_for_crash
{
	my ($class, $node, %options) = @_;
	my $file = $node->data_dir . "/$armed";

	poll_until { (!-e $file, 'the worker has not come there') } 'a crash', $options{timeout};
	$node->poll('a server that answers', 'SELECT 1', 1, %options);
	return;
}

sub _run
{
	my (@command) = @_;
	my $pid = open(my $out, '-|') // croak "fork: $!";

	if (!$pid)
	{
		open STDERR, '>&', \*STDOUT;
		exec @command or die "$command[0]: $!";
	}
	my $text = join '', <$out>;
	close $out or croak "@command failed:\n$text";
	return $text;
}

sub _output
{
	my $text = _run(@_);

	chomp $text;
	return $text;
}

1;
