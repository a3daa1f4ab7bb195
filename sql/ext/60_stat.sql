-- ---------------------------------------------------------------------------
-- Statistics
-- ---------------------------------------------------------------------------
-- The numbers live in shared memory.  Without shared_preload_libraries there
-- is none: stat_worker, stat_result and stat_minute are empty then, and the one row of
-- status shows no worker.
--
-- A view's tables are read with the rights of its owner, its functions are
-- called with those of the reader; hence the grants on both.

CREATE FUNCTION profimport.stat_get_worker(
	OUT worker int, OUT pid int, OUT state text, OUT broker text, OUT connected_since timestamptz, OUT blocked bool,
	OUT messages bigint, OUT succeeded bigint, OUT failed bigint, OUT redelivered bigint, OUT duplicates bigint,
	OUT batches bigint, OUT results_published bigint, OUT results_pending bigint, OUT trigger_events bigint,
	OUT connects bigint, OUT last_batch_at timestamptz, OUT last_batch_messages int, OUT last_batch_ms float8,
	OUT last_error text, OUT last_error_at timestamptz, OUT stats_reset timestamptz)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_worker_1_0';
COMMENT ON FUNCTION profimport.stat_get_worker() IS 'internal: what view stat_worker shows';

CREATE FUNCTION profimport.stat_get_result(OUT error int, OUT outcome text, OUT messages bigint)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_result_1_0';
COMMENT ON FUNCTION profimport.stat_get_result() IS 'internal: what view stat_result shows';

CREATE FUNCTION profimport.stat_get_minute(
	OUT minute timestamptz, OUT messages bigint, OUT succeeded bigint, OUT failed bigint, OUT created bigint, OUT updated bigint,
	OUT unchanged bigint, OUT redelivered bigint, OUT duplicates bigint, OUT batches bigint, OUT results_published bigint,
	OUT trigger_events bigint, OUT import_ms float8, OUT longest_batch_ms float8, OUT retries bigint, OUT connects bigint)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_minute_1_1';
COMMENT ON FUNCTION profimport.stat_get_minute() IS 'internal: what view stat_minute shows';

CREATE FUNCTION profimport.stat_get_status(
	OUT enabled bool, OUT workers_configured int, OUT workers_running int, OUT workers_connected int,
	OUT queue_messages bigint, OUT queue_consumers int, OUT messages_per_second float8)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'pi_stat_status_1_0';
COMMENT ON FUNCTION profimport.stat_get_status() IS 'internal: what view status shows of shared memory';

CREATE FUNCTION profimport.stat_reset() RETURNS void
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pi_stat_reset_1_0';
COMMENT ON FUNCTION profimport.stat_reset() IS 'zeroes the counters of stat_worker, stat_result and stat_minute';

CREATE VIEW profimport.stat_worker AS
	SELECT s.worker, s.pid, s.state, s.broker, s.connected_since, s.blocked, s.messages, s.succeeded, s.failed,
			s.redelivered, s.duplicates, s.batches, s.results_published, s.results_pending, s.trigger_events, s.connects,
			s.last_batch_at, s.last_batch_messages, s.last_batch_ms, s.last_error, s.last_error_at, s.stats_reset
		FROM profimport.stat_get_worker() s;
COMMENT ON VIEW profimport.stat_worker IS 'a row per configured worker: what it does, its counters, its last error';
COMMENT ON COLUMN profimport.stat_worker.worker IS 'number of the worker, from 1';
COMMENT ON COLUMN profimport.stat_worker.pid IS 'its process; NULL if it does not run';
COMMENT ON COLUMN profimport.stat_worker.state IS
	'stopped, disabled, waiting (for the extension), connecting, idle, importing, blocked (by the broker), paused, backoff or error';
COMMENT ON COLUMN profimport.stat_worker.broker IS 'the broker it is or was last connected to, without password';
COMMENT ON COLUMN profimport.stat_worker.connected_since IS 'when the connection was made; NULL if there is none';
COMMENT ON COLUMN profimport.stat_worker.blocked IS 'the broker takes no publishes (memory or disk alarm)';
COMMENT ON COLUMN profimport.stat_worker.messages IS 'messages answered: succeeded + failed + duplicates';
COMMENT ON COLUMN profimport.stat_worker.succeeded IS 'messages imported with error 0';
COMMENT ON COLUMN profimport.stat_worker.failed IS 'messages answered with another error';
COMMENT ON COLUMN profimport.stat_worker.redelivered IS 'messages the broker had delivered before';
COMMENT ON COLUMN profimport.stat_worker.duplicates IS 'messages recognised as repeats and answered from the record';
COMMENT ON COLUMN profimport.stat_worker.batches IS 'transactions committed';
COMMENT ON COLUMN profimport.stat_worker.results_published IS 'messages published and confirmed by the broker';
COMMENT ON COLUMN profimport.stat_worker.results_pending IS 'results this worker holds that the broker has not confirmed';
COMMENT ON COLUMN profimport.stat_worker.trigger_events IS 'trigger events made';
COMMENT ON COLUMN profimport.stat_worker.connects IS 'connections made to a broker';
COMMENT ON COLUMN profimport.stat_worker.last_batch_at IS 'when the last batch was committed';
COMMENT ON COLUMN profimport.stat_worker.last_batch_messages IS 'messages in it';
COMMENT ON COLUMN profimport.stat_worker.last_batch_ms IS 'time it took, in milliseconds';
COMMENT ON COLUMN profimport.stat_worker.last_error IS 'last trouble with the broker, the database or the process; no failed message, no data';
COMMENT ON COLUMN profimport.stat_worker.last_error_at IS 'when that was';
COMMENT ON COLUMN profimport.stat_worker.stats_reset IS 'since when the counters count: stat_reset(), or the start of the server';

CREATE VIEW profimport.stat_result AS
	SELECT s.error, s.outcome, s.messages FROM profimport.stat_get_result() s;
COMMENT ON VIEW profimport.stat_result IS 'messages by result code and outcome, a row for each that can occur';
COMMENT ON COLUMN profimport.stat_result.error IS 'result code';
COMMENT ON COLUMN profimport.stat_result.outcome IS 'created, updated, unchanged or failed';
COMMENT ON COLUMN profimport.stat_result.messages IS 'messages answered so';

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

CREATE VIEW profimport.status AS
	SELECT s.enabled, s.workers_configured, s.workers_running, s.workers_connected, s.queue_messages, s.queue_consumers,
			coalesce(b.pending, 0) AS results_pending, e.unresolved AS errors_unresolved, s.messages_per_second,
			b.oldest AS oldest_pending_result
		FROM profimport.stat_get_status() s,
			(SELECT sum(pending) AS pending, min(committed_at) AS oldest FROM profimport.batch WHERE pending > 0) b,
			(SELECT count(*) AS unresolved FROM profimport.import_error WHERE resolved_at IS NULL) e;
COMMENT ON VIEW profimport.status IS 'the whole import in one row';
COMMENT ON COLUMN profimport.status.enabled IS 'setting profimport.enabled';
COMMENT ON COLUMN profimport.status.workers_configured IS 'workers asked for, at most profimport.max_workers';
COMMENT ON COLUMN profimport.status.workers_running IS 'workers that have a process';
COMMENT ON COLUMN profimport.status.workers_connected IS 'workers connected to a broker';
COMMENT ON COLUMN profimport.status.queue_messages IS 'messages waiting in the import queue; NULL if no worker could tell within 10 seconds';
COMMENT ON COLUMN profimport.status.queue_consumers IS 'consumers of the import queue; NULL likewise';
COMMENT ON COLUMN profimport.status.results_pending IS 'results and events the broker has not confirmed yet';
COMMENT ON COLUMN profimport.status.errors_unresolved IS 'rows of import_error without resolved_at';
COMMENT ON COLUMN profimport.status.messages_per_second IS 'messages a second, over the last 60 seconds';
COMMENT ON COLUMN profimport.status.oldest_pending_result IS 'when the oldest result not confirmed yet was committed';

REVOKE ALL ON FUNCTION profimport.stat_get_worker(), profimport.stat_get_result(), profimport.stat_get_minute(),
	profimport.stat_get_status(), profimport.stat_reset() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION profimport.stat_get_worker(), profimport.stat_get_result(), profimport.stat_get_minute(),
	profimport.stat_get_status() TO pg_monitor;
