
=pod

=head1 NAME

ProfImport::Tls - certificates for tests, made with openssl

=head1 SYNOPSIS

  my $tls    = ProfImport::Tls->new;
  my $server = $tls->certificate('server', san => 'DNS:localhost,IP:127.0.0.1');
  my $old    = $tls->certificate('old', days => -1);          # expired
  my $client = $tls->certificate('client', san => 'DNS:client');
  my $broker = ProfImport::Broker->private('tls', tls => { %$server, ca => $tls->ca, verify => 0 });

  $broker->url($vhost, undef, undef, 'amqps');     # the TLS port

new() makes a certification authority; ca() is the file of its certificate, certificate() makes a pair and
returns { cert => file, key => file }.  tls => of a broker takes cert, key, ca, and verify: whether clients must show a
certificate of that authority.

=cut

package ProfImport::Tls;

use strict;
use warnings;

use Carp;
use File::Temp ();
use POSIX ();

sub new
{
	my ($class) = @_;
	my $self = bless { dir => File::Temp->newdir, serial => 1 }, $class;

	$self->_openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj),
		'/CN=profimport test authority', '-keyout', "$self->{dir}/ca.key", '-out', "$self->{dir}/ca.crt");
	return $self;
}

sub ca { return "$_[0]->{dir}/ca.crt" }

sub certificate
{
	my ($self, $name, %options) = @_;
	my $base = "$self->{dir}/$name";
	my $days = $options{days} // 30;
	my @when = $days > 0 ? ('-days', $days) : ();

	open(my $extensions, '>', "$base.ext") or croak "$base.ext: $!";
	print $extensions "[v]\nsubjectAltName = ", $options{san} || 'DNS:localhost,IP:127.0.0.1', "\n";
	# "openssl x509" cannot date back, "openssl ca" can.
	print $extensions "[ca]\ndefault_ca = d\n[d]\ndatabase = $base.db\nserial = $base.serial\nnew_certs_dir = $self->{dir}\n"
	  . "default_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n";
	close($extensions);
	open(my $database, ">", "$base.db") or croak "$base.db: $!";
	close($database);
	open(my $serial, '>', "$base.serial") or croak $!;
	printf $serial "%04X\n", $self->{serial}++;
	close($serial);

	$self->_openssl(qw(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj),
		"/CN=$name", '-keyout', "$base.key", '-out', "$base.csr");
	if ($days <= 0)
	{
		@when = map { $_->[0], POSIX::strftime('%Y%m%d%H%M%SZ', gmtime(time + $_->[1] * 86400)) }
		  ([ '-startdate', $days - 10 ], [ '-enddate', $days ]);
	}
	$self->_openssl('ca', '-batch', '-notext', '-config', "$base.ext", '-extensions', 'v', @when,
		'-cert', $self->ca, '-keyfile', "$self->{dir}/ca.key", '-in', "$base.csr", '-out', "$base.crt");
	# libpq's habit, and ours: a key is nobody else's business.
	chmod 0600, "$base.key";
	return { cert => "$base.crt", key => "$base.key" };
}

sub _openssl
{
	my ($self, @args) = @_;
	my $output = "$self->{dir}/openssl.out";

	local $?;
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		open(my $out, '>', $output) or POSIX::_exit(1);
		POSIX::dup2(fileno($out), 1);
		POSIX::dup2(fileno($out), 2);
		exec 'openssl', @args or POSIX::_exit(127);
	}
	waitpid($pid, 0);
	return unless $?;
	open(my $in, '<', $output) or croak "openssl @args failed";
	local $/;
	croak "openssl @args: " . <$in>;
}

1;
