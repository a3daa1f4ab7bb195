# What the packagers read agrees: one version everywhere, and META.json as PGXN's specification wants it.

use strict;
use warnings;
use FindBin;
use JSON::PP;
use Test::More;

my $top = "$FindBin::RealBin/..";

sub slurp
{
	my ($name) = @_;
	open my $fh, '<:raw', "$top/$name" or die "$name: $!";
	local $/;
	return scalar <$fh>;
}

# the version
my ($version) = slurp('profimport.control') =~ /^default_version *= *'(.*)'/m;
like($version, qr/^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}$/, 'the version has three numbers');
my $meta = JSON::PP->new->utf8->decode(slurp('META.json'));
is($meta->{version}, $version, 'META.json: version of the distribution');
is($meta->{provides}{profimport}{version}, $version, 'META.json: version of the extension');
my ($changes) = slurp('CHANGELOG.md') =~ /^## ([0-9.]+)/m;
is($changes, $version, 'CHANGELOG.md begins with it');
my ($debian) = slurp('debian/changelog') =~ /\A\S+ \(([^)]+)-[^-)]+\)/;
is($debian, $version, 'so does debian/changelog');
chomp(my $made = `make -s -C '$top' -f Makefile --eval='pi_version: ; \@echo \$(EXTVERSION)' pi_version`);
is($made, $version, 'the Makefile builds it');
for my $script (glob "$top/sql/profimport--*--*.sql")
{
	my ($from) = $script =~ /profimport--(.*?)--/;
	like(slurp('CHANGELOG.md'), qr/^## \Q$from\E$/m, "CHANGELOG.md has $from, of which there is an update");
}

# META.json: https://pgxn.org/spec, version 1.0.0
for my $key (qw(name version abstract maintainer license provides meta-spec))
{
	ok(defined $meta->{$key} && length $meta->{$key}, "META.json has $key");
}
like($meta->{'meta-spec'}{version}, qr/^1\.0\.\d+$/, 'meta-spec is one that PGXN knows');
is($meta->{'meta-spec'}{url}, 'http://pgxn.org/meta/spec.txt', 'by its address');
like($meta->{name}, qr/^[^\s\/\\\x00-\x1f]{2,}$/, 'a name without blanks and slashes');
my @licenses = qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3
	lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib
	open_source restricted unrestricted unknown);
ok((grep { $_ eq $meta->{license} } @licenses), 'a license of the list');
like($meta->{release_status} // 'stable', qr/^(?:stable|testing|unstable)$/, 'a release status of the list');
my %known = map { $_ => 1 } qw(name version abstract maintainer license provides meta-spec description generated_by tags
	no_index prereqs release_status resources);
is(join(' ', grep { !$known{$_} && !/^x_/i } sort keys %$meta), '', 'no key that the specification does not have');
for my $tag (@{ $meta->{tags} // [] })
{
	ok(!ref $tag && length $tag >= 1 && length $tag <= 255 && $tag !~ m{[/\\\x00-\x1f]}, "tag \"$tag\"");
}
for my $name (sort keys %{ $meta->{provides} })
{
	my $provided = $meta->{provides}{$name};
	ok(-f "$top/$name.control", "$name is an extension");
	ok(-f "$top/$provided->{$_}", "$name: $_ is there") for qw(file docfile);
}
for my $phase (sort keys %{ $meta->{prereqs} })
{
	like($phase, qr/^(?:configure|build|test|runtime|develop)$/, "phase $phase");
	for my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		like($relation, qr/^(?:requires|recommends|suggests|conflicts)$/, "$phase: $relation");
		like($_, qr/^\d+\.\d+\.\d+$/, "$phase $relation: a version") for values %{ $meta->{prereqs}{$phase}{$relation} };
	}
}
my ($oldest) = slurp('src/compat.h') =~ /PG_VERSION_NUM < (\d+)0000\n#error/;
is($meta->{prereqs}{runtime}{requires}{PostgreSQL}, "$oldest.0.0", 'the oldest server is that of src/compat.h');

done_testing();
