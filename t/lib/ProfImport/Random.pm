
=pod

=head1 NAME

ProfImport::Random - random messages and random rubbish, the same for the same seed

=head1 SYNOPSIS

  use ProfImport::Random;

  my $random = ProfImport::Random->new(42);
  $node->sql($random->configuration);
  my @bodies = map { $random->message($_) } 1 .. 3000;
  my @rubbish = map { $random->mutate($bodies[ $random->below(3000) ]) } 1 .. 1000;

A message is the text of a body.  Its values come from small pools, so that messages meet the same few
profiles, conflict, and match several; each key is now and then of the wrong type, missing,
unknown.  configuration() is SQL that declares what the messages speak of, for account 1, databases 1 and 2.

=cut

package ProfImport::Random;

use strict;
use warnings;

use JSON::PP ();

my $json = JSON::PP->new->ascii->canonical->allow_nonref;
my ($true, $false, $null) = (JSON::PP::true, JSON::PP::false, undef);

# Verbatim JSON, for numbers that Perl would not keep as they are.
sub _raw { my ($text) = @_; return bless \$text, 'ProfImport::Random::Raw' }

my @modes = qw(email email_profile email_sub phone phone_sub email_phone email_phone_sub push_sub profile_id custom custom_sub);
my @bad_emails = ('', ' ', 'x', 'a@', 'a@b@c', 'a b@c', "a\@b\x{1}", 'l' x 330 . '@y');
my @bad_phones = ('', ' ', '12', '+0123456789', 'phone', "+1\t0000001");
my @ids = ('p1', 'p2', 'p3', 'p1', 'p2', 'p3', 'none', '', 'P1');
my @words = ('red', 'green', 'a', 'b', 'news', 'ads', 'x y', "\x{43c}\x{443}\x{436}", '');

my %good = (
	string => [ map { $json->encode($_) } @words ],
	int => [qw(0 1 2 -3 1e2 9223372036854775807 "5" "-7" "007")],
	float => [qw(0 1.5 -2.5 "0.25" "1e3" 1e308 3)],
	bool => [qw(true false "TRUE" "false")],
	date => [qw("2001-12-31" "2001-12-31T10:00" "0001-01-01" "2000-02-29")],
	datetime => [qw("2001-12-31" "2001-12-31T10:20+03:00" "2001-12-31T10:20:30.1239Z" "9999-12-31T23:59:59.999")],
	list => [qw("red" "green" "7")],
	ip => [qw("10.0.0.1" "2001:DB8::1" "::1")],
	tags => [ '["a","b"]', '"a, b,,c"', '["c"]', '[]', '"b"', '[" a ",""]' ],
	object => [ '{}', '{"a":1}', '{"a":{"b":2},"c":null}', '{"action":"none"}', '{"a":[1,{"b":1}]}' ],
	arr_object => [ '[]', '[{"a":1}]', '[{"a":1},{"b":{"c":2}},{"a":null}]', '[{}]' ],
	tz => [qw("Europe/Moscow" "utc")],
	sex => [qw(0 1 2 "m" "W"), $json->encode("\x{436}\x{435}\x{43d}")],
	status => [qw(0 6 "3" "suspended" "invalid")],
	postal => [qw("00016" 190000)],
);
my @odd = ('1', '1.5', '1.0', '"x"', '""', 'true', 'null', 'null', '[]', '{}', '[1]', '[null]', '{"a":1}', '{"action":"x"}', '"2001-02-30"', '1e400', '9223372036854775808', '"NaN"');
my %type = (
	s => 'string', n => 'int', fl => 'float', bo => 'bool', d => 'date', dt => 'datetime', li => 'list', ip => 'ip', tg => 'tags', o => 'object', ao => 'arr_object', u => 'string', un => 'int',
	phones => 'phones', email => 'email', _fname => 'string', _city => 'string', _tz => 'tz', _bdate => 'datetime', _sex => 'sex', _ip => 'ip', _status => 'status', _postal_code => 'postal');
my %sub_type = (s => 'string', n => 'int', tg => 'tags', o => 'object', ao => 'arr_object', bo => 'bool', k => 'int');
my @channels = qw(email email email sms sms push push viber whatsapp notify telegram_bot);

sub new
{
	my ($class, $seed) = @_;

	# A generator of its own (the constants are Knuth's), because that of
	# Perl is shared with everything else in the process.
	return bless { state => $seed, era => 0, person => 0 }, $class;
}

sub below
{
	my ($self, $n) = @_;

	use integer;
	$self->{state} = $self->{state} * 6364136223846793005 + 1442695040888963407;
	my $bits = ($self->{state} >> 33) & 0x7fffffff;
	return $bits % $n;
}

# A message is about one of some people, whose addresses are their own; now and
# then it has one of somebody else's.
sub _person { my ($self) = @_; return $self->chance(94) ? $self->{person} : $self->{era} + $self->below(14) }

sub _email
{
	my ($self) = @_;
	my $who = $self->_person;

	return $self->pick("\x{444}$who\@x.io", "\x{444}$who\@X.io", "\x{424}$who\@x.io") if $who % 14 > 11;
	return $self->pick("m$who\@x.io", "M$who\@X.io", " m$who\@x.io ", "m$who\@x.IO\t");
}

sub _phone
{
	my ($self) = @_;
	my $number = 100 + $self->_person;

	return $self->pick("+10000$number", "+1 (000) 0-$number", "+1.0000$number", "+20000$number");
}

sub _push { my ($self) = @_; return $self->pick(qw(t T)) . $self->_person }

# A value of a type that is unique to the person, for what is matched.
sub _own
{
	my ($self, $type) = @_;
	my $who = $self->_person;

	return $self->pick($who + 100, '"' . ($who + 100) . '"') if $type eq 'int';
	return qq("k$who");
}

sub pick { my ($self, @from) = @_; return $from[ $self->below(scalar @from) ] }
sub chance { my ($self, $percent) = @_; return $self->below(100) < $percent }

sub configuration
{
	my $sql = <<'SQL';
INSERT INTO profimport.account (account_id) VALUES (1);
INSERT INTO profimport.database (account_id, db_id) VALUES (1, 1), (1, 2);
INSERT INTO profimport.resource (account_id, resource_id, db_ids, categories) VALUES (1, 10, NULL, '{news,ads}'), (1, 11, '{1}', '{}'), (1, 12, '{2}', '{}');
INSERT INTO profimport.resource_field (account_id, resource_id, name, type, required, matching) VALUES (1, 11, 'k', 'string', false, true), (1, 12, 'must', 'int', true, false);
INSERT INTO profimport.field (account_id, db_id, name, type, required) VALUES (1, 2, 'must', 'int', true);
SQL
	for my $name (sort grep { !/^_|^email$|^phones$/ } keys %type)
	{
		my $type = $type{$name};
		$sql .= sprintf "INSERT INTO profimport.field (account_id, db_id, name, type, options, matching, is_unique) VALUES (1, 1, '%s', '%s', %s, %s, %s);\n",
		  $name, $type, $type eq 'list' ? "'{red,green,7}'" : 'NULL', $type =~ /object/ ? 'false' : 'true', $name =~ /^u/ ? 'true' : 'false';
	}
	$sql .= sprintf "INSERT INTO profimport.resource_field (account_id, resource_id, name, type, matching) VALUES (1, 10, '%s', '%s', %s);\n", $_, $sub_type{$_}, $sub_type{$_} =~ /object/ ? 'false' : 'true'
	  for sort keys %sub_type;
	$sql .= "INSERT INTO profimport.profile (account_id, db_id, profile_id) VALUES (1, 1, 'p1'), (1, 1, 'p2'), (1, 1, 'p3');\n";
	return $sql;
}

# One member of data or custom_fields, as text.
sub _value
{
	my ($self, $type, $own) = @_;

	return $self->pick(@odd) if $self->chance(1);
	return 'null' if $self->chance(5) && $type ne 'email';
	my @good = @{ $good{$type} || [] };
	@good = map { $json->encode($self->_email) } 1 .. 2 if $type eq 'email';
	@good = ($json->encode($self->_phone), '[' . join(',', map { $json->encode($self->_phone) } 0 .. $self->below(3)) . ']', '[]') if $type eq 'phones';
	@good = ($self->_own($type)) if $own;
	return $self->pick(@good) unless $self->chance($type eq 'email' || $own ? 3 : $type =~ /tags|phones|object|int|float/ ? 60 : 15);

	my $fitting = $self->chance(96);
	my $action =
	    !$fitting ? $self->pick(qw(set unset incr add delete upsert none))
	  : $type =~ /^(int|float)$/ ? $self->pick(qw(incr incr incr set unset))
	  : $type =~ /^(tags|phones)$/ ? $self->pick(qw(add add delete set))
	  : $type eq 'arr_object' ? $self->pick(qw(add delete upsert set))
	  : $type eq 'object' ? $self->pick(qw(upsert upsert set unset))
	  : $type eq 'email' ? 'set'
	  : $self->pick(qw(set unset));
	my @members = (qq("action":"$action"));
	my $from = $action eq 'incr' ? [qw(1 -1 2 "3" 5 -2 9223372036854775807)] : $action eq 'upsert' ? [qw(1 null "x" {"b":1} [1])] : \@good;

	push @members, '"value":' . ($self->chance(1) ? $self->pick(@odd) : $self->pick(@$from)) unless $action eq 'unset' && $self->chance(50) || $self->chance(1);
	push @members, '"submatch":' . ($self->chance(3) ? $self->pick('""', '1', 'null') : $self->pick(qw("a" "b" "a.b" "c" "b.c" "x.y.z"))) if $action eq 'upsert' && $self->chance(98);
	push @members, '"more":1' if $self->chance(1);
	return '{' . join(',', @members) . '}';
}

sub _fields
{
	my ($self, $types, $at_most) = @_;
	my @members;

	for (1 .. $self->below($at_most + 1))
	{
		my $name = $self->pick(sort keys %$types);
		push @members, $json->encode($name) . ':' . $self->_value($types->{$name}, $name =~ /^(u|un|k)$/);
	}
	push @members, '"nope":1' if $self->chance(1);
	return @members;
}

sub _subscription
{
	my ($self) = @_;

	return $self->pick('1', 'null', '{}', '[]') if $self->chance(2);
	my $channel = $self->chance(1) ? 'fax' : $self->pick(@channels);
	my @members = ('"resource_id":' . ($self->chance(3) ? $self->pick('12', '99', '"10"', '10.0') : $self->pick(10, 10, 11)), qq("channel":"$channel"));

	push @members, '"email":' . $json->encode($self->_email) if $channel eq 'email' && $self->chance(99);
	push @members, '"phone":' . $json->encode($self->_phone) if $channel =~ /sms|viber|whatsapp|notify/ && $self->chance(99);
	push @members, '"provider":"' . $self->pick(qw(ios web)) . '","subscription_id":"' . $self->_push . '"' if $channel eq 'push';
	push @members, '"cc_data":' . '{"id":' . $self->_person . $self->pick('', '.0') . '}' if $channel eq 'telegram_bot';
	push @members, '"status":' . ($self->chance(4) ? $self->pick(@odd) : $self->pick(-1, 0, 1, '"complained"', '"5"')) if $self->chance(40);
	push @members, '"priority":' . ($self->chance(4) ? $self->pick(@odd) : $self->pick(-1, 0, 1, 7)) if $self->chance(30);
	push @members, '"cats":' . $self->pick('[]', '["news"]', '["ads","news"]', ($self->chance(5) ? '["none"]' : '[]')) if $self->chance(20);
	push @members, '"custom_fields":{' . join(',', $self->_fields(\%sub_type, 2)) . '}' if $self->chance(30);
	return '{' . join(',', @members) . '}';
}

sub message
{
	my ($self, $number) = @_;
	my $mode = $self->pick(@modes);
	# New people come now and then, so that not everything ends in conflicts.
	$self->{era} = 14 * int($number / 200);
	$self->{person} = $self->{era} + $self->below(14);
	my %key = (account_id => '1', db_id => $self->chance(94) ? '1' : $self->pick(qw(2 2 3)));
	my @data = $self->_fields(\%type, 3);

	push @data, '"must":' . $self->pick('1', '"2"', '"x"') if $key{db_id} eq '2' && $self->chance(80);
	push @data, '"subscriptions":' . ($self->chance(2) ? $self->pick(@odd) : '[' . join(',', map { $self->_subscription } 0 .. $self->below(3)) . ']') if $self->chance(35);
	$key{data} = '{' . join(',', @data) . '}';
	$key{matching} = $json->encode($mode) if $mode ne 'email' || $self->chance(50);
	$key{feedback_id} = $json->encode("f$number") if $self->chance(90);
	$key{email} = $json->encode($self->chance(4) ? $self->pick(@bad_emails) : $self->_email) if $mode =~ /email/ && $self->chance($mode =~ /phone/ ? 70 : 98);
	$key{phone} = $json->encode($self->chance(4) ? $self->pick(@bad_phones) : $self->_phone) if $mode =~ /phone/ && $self->chance($mode =~ /email/ ? 70 : 98);
	$key{profile_id} = $json->encode($self->pick(@ids)) if $mode eq 'profile_id';
	if ($mode eq 'push_sub')
	{
		$key{provider} = '"' . $self->pick(qw(ios web)) . '"';
		$key{subscription_id} = '"' . $self->_push . '"';
	}
	if ($mode =~ /^custom/)
	{
		my $types = $mode eq 'custom' ? \%type : \%sub_type;
		my $name = $self->chance(3) ? $self->pick(sort keys %$types)
		  : $mode eq 'custom' ? $self->pick(qw(u un un u s n fl bo d dt li ip tg))
		  : $self->pick(qw(k k k k s n tg bo));
		my ($value) = grep { !/^[\[{]|^(true|false)$|\./ } $name =~ /^(u|un|k)$/ ? $self->_own($types->{$name}) : map { $self->pick(@{ $good{ $types->{$name} } || ['"x"'] }) } 1 .. 4;

		$key{field_name} = $json->encode($self->chance(2) ? 'nope' : $name);
		$key{field_value} = $value // '"x"';
	}
	$key{resource_id} = $self->chance(4) ? $self->pick('99', '12', '"10"', '1.0') : $self->pick(10, 11) if $self->chance($mode =~ /_sub$/ ? 80 : 10);
	$key{update_only} = $self->pick('true', 'false') if $self->chance(25);
	$key{skip_triggers} = $self->pick('true', 'false') if $self->chance(10);
	$key{skip_invalid_subscriptions} = $self->pick('true', 'false', 'true') if $self->chance(20);
	$key{extra} = $self->pick(@odd) if $self->chance(5);

	# Now and then something is wrong with the message itself.
	if ($self->chance(3))
	{
		my $name = $self->pick(sort keys %key);
		if ($self->chance(40)) { delete $key{$name} }
		else { $key{$name} = $self->pick(@odd) }
	}

	my @members = map { qq("$_":$key{$_}) } sort keys %key;
	# any order
	for my $i (reverse 1 .. $#members)
	{
		my $j = $self->below($i + 1);
		@members[ $i, $j ] = @members[ $j, $i ];
	}
	my $space = $self->chance(10) ? ' ' : '';
	my $body = '{' . join(",$space", @members) . '}';
	return $body;
}

my @tokens = ('{', '}', '[', ']', ',', ':', '"', '\\', '\\u0000', '\\ud800', 'null', 'true', '1e400', '-', '0', '.5', '"a"', '""', "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf0\x9f\x98\x80", "\0", ' ', "\n", '{"action":"upsert","value":1,"submatch":"a"}', '[[[[[[', '"subscriptions":', '99999999999999999999', '\\u00', '"account_id":');

# A body with something done to its bytes.
sub mutate
{
	my ($self, $body, $other) = @_;

	for (0 .. $self->below(2))
	{
		my $length = length $body;
		my $at = $self->below($length + 1);
		my $what = $self->pick(0 .. 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9);

		if ($what == 0) { substr($body, $at, 1) = chr $self->below(256) if $at < $length }
		elsif ($what == 1) { substr($body, $at, 0) = $self->pick(@tokens) }
		elsif ($what == 2) { substr($body, $at, 1 + $self->below(5)) = '' if $at < $length }
		elsif ($what == 3) { substr($body, $at, 1 + $self->below(3)) = $self->pick(@tokens) if $at < $length }
		elsif ($what == 4) { $body = substr $body, 0, $at if $self->chance(30) }
		elsif ($what == 5) { $body = substr($body, 0, $at) . substr($other // $body, $self->below(length($other // $body) + 1)) if $self->chance(30) }
		elsif ($what == 6) { substr($body, $at, 0) = substr $body, $self->below($length + 1), $self->below(20) }
		elsif ($what == 7) { my $v = $self->pick(@odd); $body =~ s/:(?:"[^"\\]*"|-?\d+|true|false|null)/$self->chance(20) ? ":$v" : $&/e for 1 .. 3 }
		elsif ($what == 8) { my $v = $self->pick(@odd); my $n = $self->below(12); my $i = 0; $body =~ s/("[a-z_]+":)("[^"\\]*"|-?\d+|true|false|null)/$i++ == $n ? "$1$v" : "$1$2"/ge }
		else { my $n = $self->below(12); my $i = 0; my $k = $self->pick(qw(email phone data db_id matching subscriptions resource_id action value tg n nope phones custom_fields cats status)); $body =~ s/"([a-z_]+)":/$i++ == $n ? "\"$k\":" : "\"$1\":"/ge }
	}
	return $body;
}

# Bytes that were never a message.
sub rubbish
{
	my ($self) = @_;

	return join '', map { chr $self->below(256) } 1 .. $self->below(60) if $self->chance(30);
	return join '', map { $self->pick(@tokens) } 1 .. $self->below(40) if $self->chance(50);
	return ('[' x (1 + $self->below(300))) . (']' x $self->below(300));
}

1;
