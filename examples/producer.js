#!/usr/bin/env node
/*
 * A producer of profiles in Node.js with amqplib: publish, be sure of it, wait for the results.
 *
 *     npm install amqplib
 *     node producer.js [URL] <outbox.tsv
 *
 * Each line of the input is a key, a tab and a message.  The key becomes the message_id:
 * whoever sends a key again within profimport.dedup_window, after a crash, say, is answered
 * with the first result, and nothing is written twice.  Prints a line per result: key,
 * outcome, result.  Ends with 0 if every message was answered with error 0.
 */
'use strict';

const amqp = require('amqplib');
const fs = require('fs');

const IMPORT_QUEUE = 'database_import';
const RESULT_QUEUE = 'database_import_result';
const WAIT = 60000; // ms for all results

async function publishAll(connection, outbox) {
	const channel = await connection.createConfirmChannel();
	let returned = null;

	// What no queue takes comes back before it is confirmed.
	channel.on('return', (message) => { returned = message; });
	for (const [key, body] of outbox) {
		channel.publish('', IMPORT_QUEUE, Buffer.from(body), {
			persistent: true,
			mandatory: true,
			contentType: 'application/json',
			messageId: key,
			correlationId: key
		});
	}
	// Resolves when the broker has them all; rejects if it refused one or the connection broke.
	// Then run this again with the same keys.
	await channel.waitForConfirms();
	if (returned)
		throw new Error(`queue ${IMPORT_QUEUE} is missing`);
	await channel.close();
}

// Results by key.  Those of other producers stay unacknowledged: they go back to the queue at the end.
async function waitForResults(connection, outbox) {
	const channel = await connection.createChannel();
	const results = new Map();

	await new Promise((resolve, reject) => {
		const timer = setTimeout(resolve, WAIT);
		channel.consume(RESULT_QUEUE, (message) => {
			const key = message && message.properties.correlationId;
			if (!outbox.has(key))
				return;
			// Store the result where it belongs before you acknowledge it.  It can come twice.
			results.set(key, {
				outcome: message.properties.headers.outcome,
				result: JSON.parse(message.content.toString())
			});
			channel.ack(message);
			if (results.size === outbox.size) {
				clearTimeout(timer);
				resolve();
			}
		}).catch(reject);
	});
	await channel.close();
	return results;
}

async function main() {
	const connection = await amqp.connect(process.argv[2] || 'amqp://guest:guest@localhost:5672/%2F');
	const outbox = new Map(fs.readFileSync(0, 'utf8').split('\n').filter(Boolean).map((line) => {
		const tab = line.indexOf('\t');
		return [line.slice(0, tab), line.slice(tab + 1)];
	}));

	await publishAll(connection, outbox);
	const results = await waitForResults(connection, outbox);
	await connection.close();
	for (const key of outbox.keys()) {
		const { outcome, result } = results.get(key) || { outcome: 'no result', result: null };
		console.log(key, outcome, JSON.stringify(result));
		if (!result || result.error !== 0)
			process.exitCode = 1;
	}
}

main().catch((error) => { console.error(error.message); process.exitCode = 2; });
