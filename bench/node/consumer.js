/*
 * bench/node/consumer.js MODE URL IN OUT N BATCH
 *
 * What a careful engineer would write in place of the bridge, with amqplib and
 * pg: up to BATCH messages are one statement and one commit; then the results go
 * out, persistent and mandatory, and their confirms come in while the next
 * batches are at work.  A batch is acknowledged when its commit is durable and
 * all of its results are confirmed, so that nothing is lost: who waits for
 * a result gets at least one, as from the bridge.
 *
 * upsert        a multi-row upsert of its own table.  It checks nothing but that
 *               a message is JSON: no types, no field list, no other way to match
 *               than the email, no trigger events, no record of failures
 * import_batch  calls the extension's own function: the same rules, the same
 *               events, no worker
 *
 * What neither has: after a crash, messages that were applied but not yet
 * acknowledged are applied once more and answered with another message_id; the bridge
 * recognises them by its record of the batch.  Nor do they reconnect.
 *
 * Says "ready PID" (of its backend), begins with a line on standard input, says
 * how many seconds it took, and ends when standard input does.  The database is
 * found by PGHOST, PGPORT, PGDATABASE.
 */
'use strict';

const readline = require('readline');
const amqp = require('amqplib');
const pg = require('pg');

const [mode, url, inQueue, outQueue, count, size] = process.argv.slice(2);
const n = Number(count);
const batchSize = Number(size);
/* unacknowledged deliveries: one batch at work, others waiting for confirms */
const PREFETCH = 4 * batchSize;

/* The last message on a profile within a batch counts last: one row each. */
const UPSERT = {
	name: 'upsert',
	text: `
		INSERT INTO bench_profile AS p (account_id, db_id, email, data)
		SELECT * FROM unnest($1::int[], $2::int[], $3::text[], $4::jsonb[])
		ON CONFLICT (lower(email), db_id, account_id)
		DO UPDATE SET data = p.data || excluded.data, updated_at = now()
		RETURNING account_id, db_id, lower(email) AS email, id, xmax = 0 AS created`
};

function key(account, db, email) {
	return `${account} ${db} ${email.toLowerCase()}`;
}

/* Each answer: what is published, and the header that tells what was done. */
async function upsert(db, messages) {
	const rows = new Map();
	const parsed = messages.map((m) => {
		let body;
		try {
			body = JSON.parse(m.content);
		} catch (e) {
			return null;
		}
		const k = key(body.account_id, body.db_id, body.email);
		const row = rows.get(k);
		if (row)
			Object.assign(row.data, body.data);
		else
			rows.set(k, { ...body, data: { ...body.data } });
		return body;
	});
	const all = [...rows.values()];
	const result = await db.query({
		...UPSERT,
		values: [all.map((r) => r.account_id), all.map((r) => r.db_id), all.map((r) => r.email),
			all.map((r) => JSON.stringify(r.data))]
	});
	const ids = new Map(result.rows.map((r) => [key(r.account_id, r.db_id, r.email), r]));

	return parsed.map((body) => {
		const row = body && ids.get(key(body.account_id, body.db_id, body.email));
		const feedbackId = (body && body.feedback_id) || '';
		return {
			feedbackId,
			outcome: row ? (row.created ? 'created' : 'updated') : 'failed',
			text: JSON.stringify({
				error: row ? 0 : 400,
				error_text: row ? '' : 'the body is not valid JSON',
				feedback_id: feedbackId,
				matching_field: row ? 'email' : '',
				profile_id: row ? row.id : ''
			})
		};
	});
}

async function callImportBatch(db, messages) {
	const result = await db.query({
		name: 'import_batch',
		text: `SELECT result::text AS text, result ->> 'feedback_id' AS "feedbackId", outcome
			FROM profimport.import_batch($1::bytea[]) ORDER BY ordinal`,
		values: [messages.map((m) => m.content)]
	});
	return result.rows;
}

const importBatch = { upsert, import_batch: callImportBatch }[mode];

async function main() {
	const db = new pg.Client();
	await db.connect();
	const consumer = await amqp.connect(url);
	const publisher = await amqp.connect(url);
	const inChannel = await consumer.createChannel();
	const outChannel = await publisher.createConfirmChannel();
	await inChannel.checkQueue(inQueue);
	await outChannel.checkQueue(outQueue);
	await inChannel.prefetch(PREFETCH);
	outChannel.on('return', () => { throw new Error('a result was returned'); });

	const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
	console.log(`ready ${(await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid}`);
	await lines.next();

	const start = process.hrtime.bigint();
	const unconfirmed = [];		/* batches, in the order of their deliveries */
	let waiting = [];
	let busy = false;
	let answered = 0;
	let done;
	const finished = new Promise((resolve) => { done = resolve; });

	function confirmed(batch) {
		answered++;
		batch.left--;
		let last;
		while (unconfirmed.length > 0 && unconfirmed[0].left === 0)
			last = unconfirmed.shift().last;
		if (last)
			inChannel.ack(last, true);
		if (answered === n)
			done();
	}

	async function work() {
		if (busy || waiting.length === 0)
			return;
		busy = true;
		const messages = waiting.slice(0, batchSize);
		waiting = waiting.slice(batchSize);
		const answers = await importBatch(db, messages);
		const batch = { left: messages.length, last: messages[messages.length - 1] };
		unconfirmed.push(batch);
		answers.forEach((answer, i) => {
			outChannel.publish('', outQueue, Buffer.from(answer.text), {
				persistent: true,
				mandatory: true,
				contentType: 'application/json',
				appId: 'profimport',
				messageId: `${messages[i].fields.deliveryTag}-${start}`,
				correlationId: answer.feedbackId,
				expiration: '86400000',
				headers: { outcome: answer.outcome }
			}, (error) => {
				if (error)
					throw error;
				confirmed(batch);
			});
		});
		busy = false;
		setImmediate(work);
	}

	/* after everything that one read brought */
	let scheduled = false;
	await inChannel.consume(inQueue, (m) => {
		waiting.push(m);
		if (!scheduled) {
			scheduled = true;
			setImmediate(() => { scheduled = false; work(); });
		}
	});
	await finished;
	console.log((Number(process.hrtime.bigint() - start) / 1e9).toFixed(6));
	await lines.next();
	process.exit(0);
}

main().catch((e) => { console.error(e); process.exit(1); });
