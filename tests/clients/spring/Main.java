import java.util.Map;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.ProducerFactory;

/** Runs the example of docs/caller.md in an application: asks once, at once, and prints the reply. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Map<String, Object> brokers = Map.of("bootstrap.servers", args[0]);
        try (var context = new AnnotationConfigApplicationContext()) {
            // What Spring Boot makes of spring.kafka.bootstrap-servers.
            context.registerBean(ProducerFactory.class, () -> new DefaultKafkaProducerFactory<>(
                    brokers, new StringSerializer(), new StringSerializer()));
            context.registerBean(ConsumerFactory.class, () -> new DefaultKafkaConsumerFactory<>(
                    brokers, new StringDeserializer(), new StringDeserializer()));
            context.register(Recommender.class);
            context.refresh();
            System.out.println(context.getBean(Recommender.Asker.class).ask(args[1], args[2]));
        }
    }
}
