/*
 * A producer of profiles in Java with RabbitMQ's client: publish, be sure of it, wait for the results.
 *
 *     java -cp /usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-nop.jar Producer.java [URL] <outbox.tsv
 *
 * Each line of the input is a key, a tab and a message.  The key becomes the message_id: whoever
 * sends a key again within profimport.dedup_window, after a crash, say, is answered with the first
 * result, and nothing is written twice.  Prints a line per result: key, outcome, result.  Ends with
 * 0 if every message was answered, whatever with.
 */
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

public class Producer {
	static final String IMPORT_QUEUE = "database_import";
	static final String RESULT_QUEUE = "database_import_result";
	static final int WAIT = 60; // seconds for all results

	static void publishAll(Connection connection, Map<String, String> outbox) throws Exception {
		Channel channel = connection.createChannel();
		AtomicBoolean returned = new AtomicBoolean();

		// What no queue takes comes back before it is confirmed.
		channel.addReturnListener((code, text, exchange, key, properties, body) -> returned.set(true));
		channel.confirmSelect();
		for (Map.Entry<String, String> entry : outbox.entrySet()) {
			AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
				.contentType("application/json")
				.deliveryMode(2)
				.messageId(entry.getKey())
				.correlationId(entry.getKey())
				.build();
			channel.basicPublish("", IMPORT_QUEUE, true, properties,
				entry.getValue().getBytes(StandardCharsets.UTF_8));
		}
		// Returns when the broker has them all; throws if it refused one or the connection broke.
		// Then run this again with the same keys.
		channel.waitForConfirmsOrDie(WAIT * 1000L);
		if (returned.get())
			throw new IOException("queue " + IMPORT_QUEUE + " is missing");
		channel.close();
	}

	// Results by key.  Those of other producers stay unacknowledged: they go back to the queue at the end.
	static Map<String, String> waitForResults(Connection connection, Map<String, String> outbox) throws Exception {
		Channel channel = connection.createChannel();
		Map<String, String> results = new ConcurrentHashMap<>();
		CountDownLatch missing = new CountDownLatch(outbox.size());

		channel.basicConsume(RESULT_QUEUE, false, new DefaultConsumer(channel) {
			@Override
			public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body)
					throws IOException {
				String key = properties.getCorrelationId();
				if (key == null || !outbox.containsKey(key))
					return;
				// Store the result where it belongs before you acknowledge it.  It can come twice.
				String result = properties.getHeaders().get("outcome") + " " + new String(body, StandardCharsets.UTF_8);
				boolean first = results.putIfAbsent(key, result) == null;
				channel.basicAck(envelope.getDeliveryTag(), false);
				if (first)
					missing.countDown();
			}
		});
		missing.await(WAIT, TimeUnit.SECONDS);
		channel.close();
		return results;
	}

	public static void main(String[] arguments) throws Exception {
		Map<String, String> outbox = new LinkedHashMap<>();
		BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
		for (String line; (line = input.readLine()) != null; ) {
			String[] parts = line.split("\t", 2);
			outbox.put(parts[0], parts[1]);
		}
		ConnectionFactory factory = new ConnectionFactory();
		factory.setUri(arguments.length > 0 ? arguments[0] : "amqp://guest:guest@localhost:5672/%2F");
		Map<String, String> results;
		try (Connection connection = factory.newConnection()) {
			publishAll(connection, outbox);
			results = waitForResults(connection, outbox);
		}
		for (String key : outbox.keySet())
			System.out.println(key + " " + results.getOrDefault(key, "no result"));
		System.exit(results.size() == outbox.size() ? 0 : 1);
	}
}
