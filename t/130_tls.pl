# Encrypted connections, who may be at the other end, and where passwords must
# not turn up.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use File::Copy qw(copy);
use File::Temp ();
use ProfImport::Test;
use ProfImport::Tls;

use constant USER => 'importer';
use constant SECRET => 'Nachtigall-4711';
use constant URL_SECRET => 'Trapsen-0815';

my $tls = ProfImport::Tls->new;
my $stranger = ProfImport::Tls->new;
my %certificates = (
	good => $tls->certificate('good', san => 'DNS:localhost'),
	expired => $tls->certificate('expired', san => 'DNS:localhost', days => -1),
	elsewhere => $tls->certificate('elsewhere', san => 'DNS:elsewhere.example,IP:127.0.0.1'),
	unknown => $stranger->certificate('unknown', san => 'DNS:localhost'));
my $client = $tls->certificate('client', san => 'DNS:client');

# What the broker shows is a copy, so that it can be replaced.
my $dir = File::Temp->newdir;
my %shown = (cert => "$dir/server.crt", key => "$dir/server.key");
copy($certificates{good}{$_}, $shown{$_}) or die "copy: $!" for keys %shown;

my $broker = ProfImport::Broker->private('tls', tls => { %shown, ca => $tls->ca, verify => 1 });
my $vhost = $broker->new_vhost('tls');
my $amqp = $broker->client($vhost);

$broker->add_user(USER, SECRET, $vhost);

my $password_file = "$dir/password";
open(my $file, '>', $password_file) or die "$password_file: $!";
print $file SECRET, "\nanother line\n";
close($file);
chmod 0644, $password_file;

# By name: its first address may be one that the broker does not listen on.
my $url = $broker->url($vhost, USER, URL_SECRET, 'amqps');
(my $by_name = $url) =~ s/127\.0\.0\.1/localhost/;
like($by_name, qr{^amqps://\w+:[\w-]+\@localhost:}, 'the URL has a host name');

# A setting that is changed while the server runs is logged by the server, so
# everything with a password is in the file from the start.
my $node = ProfImport::Node->create(
	'tls',
	url => $by_name,
	conf => {
		'log_min_messages' => 'debug2',
		'log_statement' => 'all',
		'profimport.reconnect_delay_max' => '200ms',
		'profimport.amqp_password_file' => $password_file,
		'profimport.tls_ca_file' => $tls->ca,
		'profimport.tls_cert_file' => $client->{cert},
		'profimport.tls_key_file' => $client->{key} });
my $number = 0;

$node->configure(1, 1);

sub last_error
{
	my ($what, $pattern) = @_;

	return $node->poll($what, 'SELECT last_error FROM profimport.stat_worker WHERE worker = 1', $pattern);
}

sub imports
{
	my ($what) = @_;
	my $id = 'm' . ++$number;

	$node->wait_state('idle');
	$amqp->publish('database_import', message(email => "$id\@example.com"), correlation_id => $id);
	my ($result) = $amqp->results(1);
	is("$result->{correlation_id} $result->{json}{error}", "$id 0", $what);
	return;
}

# Shows another certificate to whoever connects from now on.
sub show_certificate
{
	my ($name) = @_;

	copy($certificates{$name}{$_}, $shown{$_}) or die "copy: $!" for keys %shown;
	$broker->erl('ssl:clear_pem_cache()');
	$broker->close_connections($vhost);
	return;
}

sub check
{
	my ($item) = @_;

	return $node->row("SELECT * FROM profimport.check() WHERE item = '$item'");
}

# ---- the password file

ok(last_error('mode', qr/password_file "\Q$password_file\E" .*group or others.*0600/), 'password file: mode 0644 is refused');
is($node->worker->{connects}, 0, 'password file: no connection was made');
chmod 0640, $password_file;
last_error('mode', qr/group or others/);
chmod 0600, $password_file;
imports('private CA, client certificate, host name, and the password of the file instead of the one in the URL');
my @ours = grep { ($_->{user_provided_name} // '') =~ /^profimport postgres/ } @{ $broker->connections($vhost) };
is_json([ map { $_->{user} } @ours ], [ USER, USER ], 'both connections are of the user of the URL');
like($node->worker->{broker}, qr/^amqps:/, 'stat_worker.broker says amqps');
is(check('broker')->{ok}, json_true, 'check() connects the same way');

# ---- who is not believed

for my $case (
	[ expired => qr/certificate of "localhost" refused: certificate has expired/, 'an expired certificate', qr/Renew the certificate on the broker/ ],
	[ elsewhere => qr/certificate of "localhost" refused: hostname mismatch/i, 'a certificate for another host', qr/Name the broker in profimport\.amqp_url as its certificate does/ ],
	[ unknown => qr/certificate of "localhost" refused: .*(issuer|self.signed)/i, 'a certificate of an unknown authority', qr/Set profimport\.tls_ca_file/ ])
{
	my ($name, $pattern, $what, $advice) = @$case;

	show_certificate($name);
	ok(last_error($what, $pattern), "$what is refused with its reason");
	isnt($node->worker->{state}, 'idle', "$what: not connected");
	my $check = check('broker');
	is($check->{ok}, json_false, "$what: check() says so, too");
	like($check->{detail}, $pattern, "$what: with the reason");
	like($check->{detail}, qr/\. $advice/, "$what: and what to do");
}

# The last one was of an unknown authority.
unlike(slurp_file($node->logfile), qr/is not verified/, 'no warning as long as it verifies');
$node->set('profimport.tls_verify' => 'off');
imports('tls_verify = off takes it');
like(slurp_file($node->logfile), qr/WARNING: .*the certificate of the broker is not verified/, 'with a warning');
show_certificate('expired');
imports('and an expired one');
$node->set('profimport.tls_verify' => undef);
$broker->close_connections($vhost);
ok(last_error('verified again', qr/certificate has expired/), 'tls_verify back to on: refused again');
show_certificate('good');
imports('the right certificate is taken again');

# The system's authorities do not know ours.
$node->set('profimport.tls_ca_file' => '');
$broker->close_connections($vhost);
ok(last_error('system CA', qr/certificate of "localhost" refused: .*(issuer|self.signed)/i), 'an empty tls_ca_file: the authorities of the system');
$node->set('profimport.tls_ca_file' => "$dir/nosuch.crt");
ok(last_error('no CA file', qr/could not load CA file "\Q$dir\E\/nosuch\.crt"/), 'a CA file that is not there is named');
$node->set('profimport.tls_ca_file' => $tls->ca);
imports('and recovers');

# ---- the client's certificate

$node->set('profimport.tls_cert_file' => '', 'profimport.tls_key_file' => '');
$broker->close_connections($vhost);
ok(last_error('no client certificate', qr/certificate.required|handshake.failure|bad certificate/i),
	'without a client certificate the reason is told');
like(check('broker')->{detail}, qr/does the broker ask for a client certificate/, 'and check() asks for it');
$node->set('profimport.tls_cert_file' => $client->{cert}, 'profimport.tls_key_file' => $certificates{good}{key});
ok(last_error('a wrong key', qr/could not load private key file .*mismatch/i), 'a key of another certificate is named');
$node->set('profimport.tls_key_file' => $client->{key});
imports('with its key it imports again');

# ---- a password that the broker does not take

$broker->change_password(USER, 'changed');
$broker->close_connections($vhost);
ok(last_error('login', qr/ACCESS_REFUSED|refused/i), 'a password that is not the right one');
is(check('login')->{ok}, json_false, 'check() says so');
$broker->change_password(USER, SECRET);
imports('and works again when it is');

# ---- where the passwords are not

$amqp->publish('database_import', message(email => 'not an address'));
$amqp->results(1);
$node->wait_settled;
my %places = (
	'the server log' => slurp_file($node->logfile),
	'job_server.log' => slurp_file($node->data_dir . '/' . $node->sql('SHOW log_directory') . '/job_server.log'),
	map { $_ => $node->sql("SELECT * FROM $_") }
	  qw(profimport.stat_worker profimport.status profimport.check() profimport.import_error pg_stat_activity));
for my $place (sort keys %places)
{
	isnt($places{$place}, '', "$place is not empty");
	unlike($places{$place}, qr/\Q@{[SECRET]}\E|\Q@{[URL_SECRET]}\E/, "no password in $place");
}
like($places{'job_server.log'}, qr/"error":\s*400/, 'job_server.log has the failure');
my @arguments = map { slurp_file("/proc/$_/cmdline") } $node->worker->{pid};
unlike("@arguments", qr/\Q@{[SECRET]}\E|\Q@{[URL_SECRET]}\E/, 'no password in the title of the process');

$node->sql('CREATE ROLE nobody_special LOGIN; GRANT pg_monitor TO nobody_special');
$node->sql('REVOKE pg_read_all_settings FROM pg_monitor');
my ($status, $stdout, $stderr) = $node->try('SHOW profimport.amqp_url', role => 'nobody_special');
isnt($status, 0, 'the URL is not for everybody');
unlike("$stdout$stderr", qr/\Q@{[URL_SECRET]}\E/, 'nor is its password in the refusal');
($status, $stdout) = $node->try('SELECT broker, last_error FROM profimport.stat_worker', role => 'nobody_special');
like($stdout, qr/^amqps:/, 'pg_monitor sees the broker');
unlike($stdout, qr/\Q@{[URL_SECRET]}\E/, 'and not the password');

# ---- by address

show_certificate('elsewhere');
last_error('by name', qr/hostname mismatch/i);
$node->set('profimport.amqp_url' => $url);
imports('an address is looked for among the addresses of a certificate');
show_certificate('good');
ok(last_error('by address', qr/certificate of "127\.0\.0\.1" refused: IP address mismatch/i), 'and refused if it is not there');

done_testing();
