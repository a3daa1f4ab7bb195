# What README.md and the pages of doc/ named below tell a reader to try: every SQL block runs, every message
# imports, in the order of the text, and the answers shown for wrong messages are the real ones.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $top = "$FindBin::RealBin/..";
my $json = JSON::PP->new->utf8;
my $node = ProfImport::Node->create('readme', conf => { 'profimport.workers' => 0 });
my @answers;

# What the quick start types into psql.
$node->configure(1, 1, fields => { card => { type => 'int', matching => JSON::PP::true } });

# Fenced blocks: [ line number, language, text ].
sub blocks
{
	my ($file) = @_;
	my ($block, @blocks);

	open(my $fh, '<:raw', "$top/$file") or die "$file: $!";
	while (my $line = <$fh>)
	{
		if ($line !~ /^```(\w*)/) { $block->[2] .= $line if $block }
		elsif ($block) { push @blocks, $block; undef $block }
		else { $block = [ $., $1, '' ] }
	}
	return @blocks;
}

sub result_of
{
	my ($body) = @_;

	return $json->decode($node->sql("SELECT result FROM profimport.import_batch(ARRAY[decode('" . unpack('H*', $body) . "', 'hex')])"));
}

for my $file ('README.md', 'doc/sql.md', 'doc/migration.md')
{
	for my $block (blocks($file))
	{
		my ($n, $language, $text) = @$block;

		if ($language eq 'sql')
		{
			my ($status, $out, $err) = $node->try($text);
			is($status, 0, "$file:$n: SQL runs") or diag $err;
			unlike($out, qr/"error": [1-9]/, "$file:$n: and imports what it is meant to") if $text =~ /import\('/;
		}
		elsif ($language eq 'json')
		{
			for my $body (grep { /^\{"account_id".*"data"/ } split /\n/, $text)
			{
				my $result = result_of($body);
				is($result->{error}, 0, "$file:$n: the message imports") or diag "$body\n$result->{error_text}";
			}
		}
		elsif ($text =~ /^\{"account_id".*\n\{"error":/)
		{
			push @answers, [ "$file:$n", $text ];
		}
	}
}

# in the end, for they ask for what the messages made
for (@answers)
{
	my ($where, $text) = @$_;
	my @lines = split /\n/, $text;

	while (my ($body, $answer) = splice(@lines, 0, 2))
	{
		is_json(result_of($body), $json->decode($answer), "$where: the answer to $body");
	}
}
ok(@answers > 0, 'answers were found');

done_testing();
