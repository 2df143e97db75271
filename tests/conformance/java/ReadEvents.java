import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.openlineage.client.OpenLineage;
import io.openlineage.client.OpenLineageClientUtils;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic from its beginning to its end as it is now, by Apache Kafka's own consumer, and each message by
 * OpenLineage's Java client, which must know every field of it, outside facets of others. Prints a line a message:
 * partition, key, kind of event, job, and "same" where the client writes what it read, or what went wrong.
 */
public final class ReadEvents {
  private static final ObjectMapper PLAIN = new ObjectMapper();
  private static final ObjectMapper STRICT = OpenLineageClientUtils.newObjectMapper();

  private ReadEvents() {}

  public static void main(String[] arguments) {
    STRICT.configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, true);
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", arguments[0]);
    settings.put("max.partition.fetch.bytes", 16 << 20);
    try (var consumer =
        new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> all =
          consumer.partitionsFor(arguments[1]).stream()
              .map(one -> new TopicPartition(one.topic(), one.partition()))
              .toList();
      consumer.assign(all);
      consumer.seekToBeginning(all);
      Map<TopicPartition, Long> ends = consumer.endOffsets(all);
      while (all.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
        for (ConsumerRecord<byte[], byte[]> message : consumer.poll(Duration.ofSeconds(1))) {
          System.out.println(message.partition() + "\t" + text(message.key()) + "\t" + read(text(message.value())));
        }
      }
    }
  }

  private static String read(String text) {
    try {
      JsonNode told = PLAIN.readTree(text);
      Class<? extends OpenLineage.BaseEvent> kind =
          told.has("run") ? OpenLineage.RunEvent.class : OpenLineage.JobEvent.class;
      OpenLineage.BaseEvent event = STRICT.readValue(text, kind);
      boolean same = told.equals(PLAIN.readTree(OpenLineageClientUtils.toJson(event)));
      String name = told.get("job").get("name").asText();
      return told.path("eventType").asText("JOB") + "\t" + name + "\t" + (same ? "same" : "something was lost");
    } catch (Exception error) {
      return "\t\t" + error.getClass().getSimpleName() + ": " + String.valueOf(error.getMessage()).lines().findFirst().orElse("");
    }
  }

  private static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }
}
