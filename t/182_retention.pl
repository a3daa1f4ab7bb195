# Rows that are kept for a time only: removed by a worker, also by one that always has something to import.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use ProfImport::Test;

my $broker = ProfImport::Broker->shared;
my $vhost = $broker->new_vhost('retention');
my $amqp = $broker->client($vhost);
my $node = ProfImport::Node->create('retention', url => $broker->url($vhost),
	conf => { 'profimport.trigger_retention' => '1h', 'profimport.error_retention' => '1h', 'profimport.batch_size' => 10, 'profimport.workers' => 0 });
$node->configure(1, 1);

my $old = 7500;
$node->sql(qq{
	INSERT INTO profimport.trigger_event (kind, account_id, db_id, profile_id, changes, occurred_at)
		SELECT 'profile_updated', 1, 1, 'p', '{}', now() - interval '2 hours' FROM generate_series(1, $old);
	INSERT INTO profimport.trigger_event (kind, account_id, db_id, profile_id, changes, occurred_at)
		SELECT 'profile_updated', 1, 1, 'p', '{}', now() - interval '50 minutes' FROM generate_series(1, 20);
	INSERT INTO profimport.import_error (error, error_text, feedback_id, body, occurred_at)
		SELECT 400, 'x', '', '', now() - CASE WHEN i <= $old THEN interval '2 hours' ELSE interval '50 minutes' END FROM generate_series(1, $old + 20) i});
$node->set('profimport.workers' => 1);
$node->poll('old events are removed', 'SELECT count(*) FROM profimport.trigger_event', 20);
$node->poll('old errors are removed', 'SELECT count(*) FROM profimport.import_error', 20);
is($node->sql(q{SELECT count(*) FROM profimport.trigger_event WHERE occurred_at > now() - interval '1 hour'}), 20, 'what is left of the events is new');

# ---- while there is always something to import

# In the middle of a long queue old rows come to be there, and it is time to look
# for them; towards its end it is noted whether they are there.
$node->wait_settled;
$node->sql(q{
	CREATE TABLE public.noted (n int);
	CREATE FUNCTION public.middle() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		-- slower than the broker delivers
		PERFORM count(*) FROM pg_catalog.generate_series(1, 10000);
		IF NEW.email = 'n100@example.com' THEN
			INSERT INTO profimport.trigger_event (kind, account_id, db_id, profile_id, changes, occurred_at)
				VALUES ('profile_updated', 1, 1, 'old', '{}', now() - interval '2 hours');
			PERFORM pg_catalog.pg_reload_conf();
		ELSIF NEW.email = 'n700@example.com' THEN
			INSERT INTO public.noted SELECT count(*) FROM profimport.trigger_event WHERE profile_id = 'old';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER middle BEFORE INSERT ON profimport.profile FOR EACH ROW EXECUTE FUNCTION public.middle()});
$node->sql('TRUNCATE profimport.trigger_event');
$node->set('profimport.enabled' => 'off');
$node->wait_state('disabled');
$amqp->publish_many('database_import', [ map { +{ body => message(email => "n$_\@example.com") } } 1 .. 800 ]);
$node->set('profimport.enabled' => undef);
$amqp->results(800);
is($node->sql('SELECT n FROM public.noted'), 0, 'old rows are removed while the queue is not empty');

done_testing();
