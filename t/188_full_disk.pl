# A disk that is really full: nothing is answered and nothing lost; when there is room again, the
# import goes on, and every effect is there once.
#
# The disk is a small tmpfs in a mount namespace of this test's own, which an unprivileged user may
# make where the kernel allows user namespaces; elsewhere the test is skipped.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";

my $disk;

BEGIN
{
	$disk = $ENV{PROFIMPORT_SMALL_DISK};
	if (!$disk && !$^C)		# with -c nothing runs
	{
		# Mounting wants to be root there, the server wants not to be: two namespaces, one in the other.
		my ($base) = grep { -d } map { $_ // '' } $ENV{TESTDATADIR}, ($ENV{TESTDIR} // '') . '/tmp_check', $ENV{TMPDIR}, '/tmp';
		my @mapped = ('--map-user=' . $>, '--map-group=' . (split ' ', $))[0]);
		my $script = 'd=$1; shift; mount -t tmpfs -o size=24m,mode=0777 profimport "$d" && exec unshare -U "$@"';
		my @command = ('unshare', '-Urm', 'sh', '-c', $script, 'sh');

		$disk = "$base/small_disk_$$";
		mkdir $disk or die "could not create $disk: $!";
		if (system("@{[ join ' ', map { qq('$_') } @command, $disk, @mapped, 'true' ]} >/dev/null 2>&1") != 0)
		{
			rmdir $disk;
			print "1..0 # SKIP no mount namespace to be had here\n";
			exit 0;
		}
		$ENV{PROFIMPORT_SMALL_DISK} = $disk;
		exec @command, $disk, @mapped, $^X, (map { "-I$_" } @INC), $0 or die "could not run unshare: $!";
	}
}

use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('full');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create(
	'full',
	url => $broker->url($vhost),
	conf => { 'profimport.reconnect_delay_max' => '300ms', 'autovacuum' => 'off' });

$node->configure(1, 1, fields => { points => { type => 'int' }, notes => { type => 'string' } });
mkdir "$disk/tablespace" or die "could not create $disk/tablespace: $!";
$node->sql("CREATE TABLESPACE small LOCATION '$disk/tablespace'");
$node->wait_state('idle');

my $sum = 0;
my $round = 0;

# Incompressible, so that no page in use has room for even one of them.
sub publish
{
	my ($n, $bytes) = @_;

	$round++;
	$amqp->publish_many('database_import',
		[ map {
			my $notes = join '', map { chr(33 + int rand 90) } 1 .. $bytes;
			+{ body => message(email => "n$_\@example.com", feedback_id => "$round-$_",
					data => { notes => $notes, points => { action => 'incr', value => 1 } }) } } 1 .. $n ]);
	$sum += $n;
	return;
}

# All of what is left, to the last block.
sub fill
{
	open(my $ballast, '>', "$disk/ballast") or die "could not create $disk/ballast: $!";
	while (syswrite($ballast, "\0" x 4096)) { }
	die "could not fill $disk: $!" unless $!{ENOSPC};
	close($ballast);
	return;
}

sub is_stuck
{
	my ($what) = @_;
	my $batches = $node->worker->{batches};

	$node->wait_state('backoff');
	like($node->worker->{last_error}, qr/53100/, "$what: last_error tells");
	# Again and again, and to no avail.
	for my $again (1 .. 2)
	{
		my $last = $node->worker->{last_error_at};
		poll_until { my $now = $node->worker->{last_error_at}; ($now ne $last, $now) } "$what: retried";
	}
	is($node->worker->{batches}, $batches, "$what: no batch passes");
	is($amqp->count('database_import_result'), 0, "$what: nothing is answered");
	is($node->sql('SELECT count(*) FROM profimport.import_error'), 0, "$what: no message failed");
	return;
}

sub goes_on
{
	my ($what, $n) = @_;

	unlink "$disk/ballast" or die "could not remove $disk/ballast: $!";
	my %results = map { $_->{json}{feedback_id} => $_->{json}{error} } $amqp->results($n);
	is_json(\%results, { map { ("$round-$_" => 0) } 1 .. $n }, "$what: all imported when there is room again");
	is($node->sql("SELECT sum((data->>'points')::int) FROM profimport.profile"), $sum, "$what: every effect once");
	$node->wait_settled;
	is($amqp->count('database_import_result'), 0, "$what: every answer once");
	return;
}

# ---- no room for profiles

$node->sql('ALTER TABLE profimport.profile SET TABLESPACE small');
fill();
publish(30, 20_000);
is_stuck('profiles');
is($node->sql('SELECT count(*) FROM profimport.profile'), 0, 'profiles: nothing is half done');
goes_on('profiles', 30);

# ---- no room for the record of the batch, which is written last

$node->poll('records forgotten', 'SELECT count(*) FROM profimport.batch', 0);
$node->sql('ALTER TABLE profimport.profile SET TABLESPACE pg_default');
$node->sql('VACUUM FULL profimport.batch');
is($node->sql("SELECT pg_relation_size('profimport.batch')"), 0, 'the record takes no room');
$node->sql('ALTER TABLE profimport.batch SET TABLESPACE small');
fill();
publish(30, 10);
is_stuck('the record');
is($node->sql("SELECT sum((data->>'points')::int) FROM profimport.profile"), 30, 'the record: nothing is half done');
goes_on('the record', 30);

# ---- no room for errors

$node->sql('ALTER TABLE profimport.batch SET TABLESPACE pg_default');
$node->sql('ALTER TABLE profimport.import_error SET TABLESPACE small');
fill();
$amqp->publish('database_import', message(email => 'n1@example.com', feedback_id => 'wrong', data => { none => 1 }));
is_stuck('errors');
unlink "$disk/ballast" or die "could not remove $disk/ballast: $!";
is(($amqp->results(1))[0]{json}{error}, 400, 'errors: answered when there is room again');
is($node->sql('SELECT count(*) FROM profimport.import_error'), 1, 'errors: kept once');
$node->wait_settled;

$node->stop;
done_testing();
