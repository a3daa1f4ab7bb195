-- From 1.0.0 to 1.1.0. Whoever changes sql/ext adds the same change here; t/180_upgrade.pl compares.
\echo Use "ALTER EXTENSION profimport UPDATE TO '1.1.0'" to load this file. \quit

CREATE FUNCTION profimport.stat_get_minute(
	OUT minute timestamptz, OUT messages bigint, OUT succeeded bigint, OUT failed bigint, OUT created bigint, OUT updated bigint,
	OUT unchanged bigint, OUT redelivered bigint, OUT duplicates bigint, OUT batches bigint, OUT results_published bigint,
	OUT trigger_events bigint, OUT import_ms float8, OUT longest_batch_ms float8, OUT retries bigint, OUT connects bigint)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_minute_1_1';
COMMENT ON FUNCTION profimport.stat_get_minute() IS 'internal: what view stat_minute shows';

CREATE VIEW profimport.stat_minute AS
	SELECT s.minute, s.messages, s.succeeded, s.failed, s.created, s.updated, s.unchanged, s.redelivered, s.duplicates,
			s.batches, s.results_published, s.trigger_events, s.import_ms, s.longest_batch_ms, s.retries, s.connects
		FROM profimport.stat_get_minute() s;
COMMENT ON VIEW profimport.stat_minute IS 'what the workers did in the last day, a row per minute with traffic';
COMMENT ON COLUMN profimport.stat_minute.minute IS 'when the minute began';
COMMENT ON COLUMN profimport.stat_minute.messages IS 'messages answered: succeeded + failed + duplicates';
COMMENT ON COLUMN profimport.stat_minute.succeeded IS 'messages imported with error 0: created + updated + unchanged';
COMMENT ON COLUMN profimport.stat_minute.failed IS 'messages answered with another error';
COMMENT ON COLUMN profimport.stat_minute.created IS 'messages that created a profile';
COMMENT ON COLUMN profimport.stat_minute.updated IS 'messages that changed one';
COMMENT ON COLUMN profimport.stat_minute.unchanged IS 'messages that had nothing to change';
COMMENT ON COLUMN profimport.stat_minute.redelivered IS 'messages the broker had delivered before';
COMMENT ON COLUMN profimport.stat_minute.duplicates IS 'messages recognised as repeats and answered from the record';
COMMENT ON COLUMN profimport.stat_minute.batches IS 'transactions committed';
COMMENT ON COLUMN profimport.stat_minute.results_published IS 'messages published and confirmed by the broker';
COMMENT ON COLUMN profimport.stat_minute.trigger_events IS 'trigger events made';
COMMENT ON COLUMN profimport.stat_minute.import_ms IS 'time the batches took together, in milliseconds; of several workers more than passed';
COMMENT ON COLUMN profimport.stat_minute.longest_batch_ms IS 'time the longest of them took, in milliseconds';
COMMENT ON COLUMN profimport.stat_minute.retries IS 'transactions that failed as a whole and were tried again';
COMMENT ON COLUMN profimport.stat_minute.connects IS 'connections made to a broker';

REVOKE ALL ON FUNCTION profimport.stat_get_minute() FROM PUBLIC;
REVOKE ALL ON profimport.stat_minute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profimport.stat_get_minute() TO pg_monitor;
GRANT SELECT ON profimport.stat_minute TO pg_monitor;

COMMENT ON FUNCTION profimport.stat_reset() IS 'zeroes the counters of stat_worker, stat_result and stat_minute';
