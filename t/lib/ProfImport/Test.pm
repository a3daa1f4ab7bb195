
=pod

=head1 NAME

ProfImport::Test - what a TAP test of profimport starts with

=head1 SYNOPSIS

  use strict;
  use warnings;
  use FindBin;
  use lib "$FindBin::RealBin/lib";
  use ProfImport::Test;

  my $broker = ProfImport::Broker->shared;
  my $vhost  = $broker->new_vhost('life');
  my $amqp   = $broker->client($vhost);
  my $node   = ProfImport::Node->create('main', url => $broker->url($vhost));

  $node->configure(1, 1);
  $node->wait_state('idle');
  $amqp->publish('database_import', message(email => 'a@example.com', data => { _fname => 'A' }));
  my ($result) = $amqp->results(1);
  is($result->{json}{error}, 0, 'imported');
  done_testing();

Brings Test::More, poll_until (ProfImport::Poll), ProfImport::Broker, ProfImport::Amqp (through
C<< $broker->client >>) and ProfImport::Node, each documented in its own file, and

=over

=item message(%keys)

A message for account 1, database 1, with empty data, and the keys given.  A hash; publish() encodes it.

=item json_true, json_false

For booleans in messages.

=item is_json($got, $expected, $name)

Compares two decoded documents, whatever the order of their keys, and shows both as JSON if they differ.

=back

A test runs alone with C<make test TESTS=010_life.pl>.

=cut

package ProfImport::Test;

use strict;
use warnings;

use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ProfImport::Amqp;
use ProfImport::Broker;
use ProfImport::Node;
use ProfImport::Poll;

sub import
{
	my $caller = caller;

	strict->import;
	warnings->import;
	no strict 'refs';
	*{"${caller}::$_"} = \&{"ProfImport::Test::$_"}
	  for qw(message json_true json_false is_json poll_until slurp_file),
	  grep { !/^\W/ } @Test::More::EXPORT;
	return;
}

sub message { return { account_id => 1, db_id => 1, data => {}, @_ } }
sub json_true { return JSON::PP::true }
sub json_false { return JSON::PP::false }

sub is_json
{
	my ($got, $expected, $name) = @_;
	my $json = JSON::PP->new->canonical->allow_nonref;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is($json->encode($got), $json->encode($expected), $name);
}

1;
