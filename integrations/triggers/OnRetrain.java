import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Starts a command for each RETRAIN, once: {@code java OnRetrain localhost:9092 ./train.sh}. The command
 * has the event's id in EVENT_ID. What was acted on is a file named after the event, in the folder acted.
 */
public final class OnRetrain {
  /** Older ones are left alone: a new group begins with what was asked weeks ago. */
  private static final Duration MAX_AGE = Duration.ofHours(24);

  private static final Path ACTED = Path.of("acted");
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    Files.createDirectories(ACTED);
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", arguments[0],
            "group.id", "on-retrain",
            "auto.offset.reset", "earliest",
            // Noted only after acting.
            "enable.auto.commit", false,
            // One at a time, and training may take hours: the group must not take us for dead.
            "max.poll.records", 1,
            "max.poll.interval.ms", 86_400_000);
    List<String> command = List.of(arguments).subList(1, arguments.length);
    var strings = new StringDeserializer();
    try (var consumer = new KafkaConsumer<>(settings, strings, strings)) {
      consumer.subscribe(List.of("retrain-triggers-json"));
      while (true) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
          act(record, command);
          consumer.commitSync();
        }
      }
    }
  }

  private static void act(ConsumerRecord<String, String> record, List<String> command)
      throws Exception {
    JsonNode trigger = JSON.readTree(record.value());
    boolean asks = trigger.path("action").asText().equals("RETRAIN");
    boolean believable = trigger.path("data_quality").path("passed").asBoolean();
    // By when it was told: event time may be another time altogether.
    long age = System.currentTimeMillis() - record.timestamp();
    if (!asks || !believable || age > MAX_AGE.toMillis()) {
      return;
    }
    String event = trigger.path("event_id").asText();
    if (Files.exists(ACTED.resolve(event))) {
      return;
    }
    System.out.println(event + ": " + trigger.path("reason").asText());
    ProcessBuilder process = new ProcessBuilder(command).inheritIO();
    process.environment().put("EVENT_ID", event);
    int status = process.start().waitFor();
    if (status != 0) {
      // The offset is not noted: it comes again when this is started again.
      throw new IllegalStateException("the command ended with " + status);
    }
    try {
      Files.createFile(ACTED.resolve(event));
    } catch (FileAlreadyExistsException alreadyThere) {
      // Another one of the group was as fast, and both did the same.
    }
  }
}
