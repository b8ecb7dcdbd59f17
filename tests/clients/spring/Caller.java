import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletionException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.requestreply.KafkaReplyTimeoutException;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.support.TopicPartitionOffset;

/**
 * Spring Kafka's caller for {@code headrace conformance}. First argument: "group" (a group of its own reads the
 * whole reply topic) or "partition" (it asks for replies on partition 1). Then the brokers and the reply topic.
 */
public final class Caller {
    public static void main(String[] args) throws Exception {
        var producers = new DefaultKafkaProducerFactory<String, String>(
                Map.of("bootstrap.servers", args[1]), new StringSerializer(), new StringSerializer());
        var consumers = new DefaultKafkaConsumerFactory<String, String>(
                Map.of("bootstrap.servers", args[1], "auto.offset.reset", "latest"),
                new StringDeserializer(), new StringDeserializer());
        var properties = args[0].equals("partition")
                ? new ContainerProperties(
                        new TopicPartitionOffset(args[2], 1, TopicPartitionOffset.SeekPosition.END))
                : new ContainerProperties(args[2]);
        properties.setGroupId("conformance-" + UUID.randomUUID());
        var template = new ReplyingKafkaTemplate<>(
                producers, new KafkaMessageListenerContainer<>(consumers, properties));
        template.setSharedReplyTopic(true);
        template.start();
        if (!template.waitForAssignment(Duration.ofSeconds(30))) {
            throw new IllegalStateException("no partition of the reply topic after 30 s");
        }
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        out.println("ready");
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] field = line.split("\t", 5); // number, topic, timeout, key, body
            template.sendAndReceive(
                            new ProducerRecord<>(field[1], field[3], field[4]),
                            Duration.ofMillis(Long.parseLong(field[2])))
                    .whenComplete((reply, error) -> out.println(field[0] + "\t" + outcome(
                            reply == null ? null : reply.value(), error)));
        }
        template.stop();
        template.destroy();
        producers.destroy();
    }

    private static String outcome(String body, Throwable error) {
        if (error == null) {
            return "reply\t" + (body == null ? "" : body);
        }
        Throwable cause = error instanceof CompletionException ? error.getCause() : error;
        return cause instanceof KafkaReplyTimeoutException ? "timeout" : "error\t" + cause;
    }
}
