#!/usr/bin/env php
<?php
/*
 * A producer of profiles in PHP with php-amqplib: publish, be sure of it, wait for the results.
 *
 *     php producer.php [URL] <outbox.tsv
 *
 * Each line of the input is a key, a tab and a message.  The key becomes the message_id:
 * whoever sends a key again within profimport.dedup_window, after a crash, say, is answered
 * with the first result, and nothing is written twice.  Prints a line per result: key,
 * outcome, result.  Ends with 0 if every message was answered with error 0.
 */
declare(strict_types=1);

// Debian's php-amqplib; with Composer: require 'vendor/autoload.php'
require 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;

const IMPORT_QUEUE = 'database_import';
const RESULT_QUEUE = 'database_import_result';
const WAIT = 60;	// seconds for all results

function connect(string $url): AMQPStreamConnection
{
	$part = parse_url($url);
	return new AMQPStreamConnection(
		$part['host'], (string) ($part['port'] ?? 5672),
		rawurldecode($part['user'] ?? 'guest'), rawurldecode($part['pass'] ?? 'guest'),
		rawurldecode(ltrim($part['path'] ?? '', '/')) ?: '/');
}

function publish_all(AMQPStreamConnection $connection, array $outbox): void
{
	$channel = $connection->channel();
	// What no queue takes comes back before it is confirmed.
	$channel->set_return_listener(function () {
		throw new RuntimeException('queue ' . IMPORT_QUEUE . ' is missing');
	});
	$channel->set_nack_handler(function () {
		throw new RuntimeException('the broker refused a message');
	});
	$channel->confirm_select();
	foreach ($outbox as $key => $body) {
		$message = new AMQPMessage($body, [
			'content_type' => 'application/json',
			'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
			'message_id' => (string) $key,
			'correlation_id' => (string) $key,
		]);
		$channel->basic_publish($message, '', IMPORT_QUEUE, true);
	}
	// Returns when the broker has them all; throws if the connection broke.
	// Then run this again with the same keys.
	$channel->wait_for_pending_acks_returns(WAIT);
	$channel->close();
}

// Results by key.  Those of other producers stay unacknowledged: they go back to the queue at the end.
function wait_for_results(AMQPStreamConnection $connection, array $outbox): array
{
	$channel = $connection->channel();
	$results = [];
	$channel->basic_consume(RESULT_QUEUE, '', false, false, false, false,
		function (AMQPMessage $message) use ($outbox, &$results) {
			$key = $message->has('correlation_id') ? $message->get('correlation_id') : '';
			if (!isset($outbox[$key])) {
				return;
			}
			// Store the result where it belongs before you acknowledge it.  It can come twice.
			$headers = $message->get('application_headers')->getNativeData();
			$results[$key] = [$headers['outcome'], $message->body];
			$message->ack();
		});
	$deadline = time() + WAIT;
	while (count($results) < count($outbox) && time() < $deadline) {
		try {
			$channel->wait(null, false, 1);
		} catch (AMQPTimeoutException $e) {
			// nothing came within a second
		}
	}
	$channel->close();
	return $results;
}

$outbox = [];
while (($line = fgets(STDIN)) !== false) {
	[$key, $body] = explode("\t", rtrim($line, "\n"), 2);
	$outbox[$key] = $body;
}
$connection = connect($argv[1] ?? 'amqp://guest:guest@localhost:5672/%2F');
publish_all($connection, $outbox);
$results = wait_for_results($connection, $outbox);
$connection->close();
$status = 0;
foreach (array_keys($outbox) as $key) {
	[$outcome, $body] = $results[$key] ?? ['no result', 'null'];
	echo "$key $outcome $body\n";
	if ((json_decode($body)->error ?? 1) !== 0) {
		$status = 1;
	}
}
exit($status);
