/*
 * bench/node/consumer.js URL IN OUT N BATCH
 *
 * What a careful engineer would write in place of the bridge, with amqplib and
 * pg: up to BATCH messages are one multi-row upsert and one commit; then the
 * results go out, persistent and mandatory; a batch is acknowledged when its
 * commit is durable.  Confirms come in while the next batch is at work, and no
 * more than PENDING results may lack theirs.
 *
 * It checks nothing but that a message is JSON: no types, no field list, no
 * other way to match than the email.  A result that was not confirmed is lost
 * if the process dies, as the input was acknowledged.
 *
 * Says "ready PID" (of its backend), begins with a line on standard input, says
 * how many seconds it took, and ends when standard input does.  The database is
 * found by PGHOST, PGPORT, PGDATABASE.
 */
'use strict';

const readline = require('readline');
const amqp = require('amqplib');
const pg = require('pg');

const [url, inQueue, outQueue, count, size] = process.argv.slice(2);
const n = Number(count);
const batchSize = Number(size);
const PENDING = 10 * batchSize;

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

async function main() {
	const db = new pg.Client();
	await db.connect();
	const consumer = await amqp.connect(url);
	const publisher = await amqp.connect(url);
	const inChannel = await consumer.createChannel();
	const outChannel = await publisher.createConfirmChannel();
	await inChannel.assertQueue(inQueue, { durable: true });
	await outChannel.checkQueue(outQueue);
	await inChannel.prefetch(2 * batchSize);
	outChannel.on('return', () => { throw new Error('a result was returned'); });

	const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
	console.log(`ready ${(await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid}`);
	await lines.next();

	const start = process.hrtime.bigint();
	let waiting = [];
	let busy = false;
	let answered = 0;
	let pending = 0;
	let done;
	const finished = new Promise((resolve) => { done = resolve; });

	async function importBatch(messages) {
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

		inChannel.ack(messages[messages.length - 1], true);
		messages.forEach((m, i) => {
			const body = parsed[i];
			const row = body && ids.get(key(body.account_id, body.db_id, body.email));
			const answer = {
				error: row ? 0 : 400,
				error_text: row ? '' : 'the body is not valid JSON',
				feedback_id: (body && body.feedback_id) || '',
				matching_field: row ? 'email' : '',
				profile_id: row ? row.id : ''
			};
			pending++;
			outChannel.publish('', outQueue, Buffer.from(JSON.stringify(answer)), {
				persistent: true,
				mandatory: true,
				contentType: 'application/json',
				appId: 'profimport',
				messageId: `${m.fields.deliveryTag}-${start}`,
				correlationId: answer.feedback_id,
				expiration: '86400000',
				headers: { outcome: row ? (row.created ? 'created' : 'updated') : 'failed' }
			}, (error) => {
				if (error)
					throw error;
				pending--;
				if (++answered === n)
					done();
				work();
			});
		});
	}

	async function work() {
		if (busy || pending > PENDING || waiting.length === 0)
			return;
		busy = true;
		const batch = waiting.slice(0, batchSize);
		waiting = waiting.slice(batchSize);
		await importBatch(batch);
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
