import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.IntFunction;

/**
 * Sends many small messages to a longlived server with grpc-java over Netty, and says whether each was answered.
 *
 * <pre>java Peers.java HOST:PORT MESSAGES</pre>
 *
 * No call asks whether it is ready: all requests are handed over at once, as fast as grpc-java takes them. Messages are
 * written and read by field number, so that nothing has to be generated.
 */
public final class Peers {
  private static final int TIMEOUT_S = 600;
  // Of the oneof of SubscribeResponse.
  private static final int EVENT = 1;
  private static final int WELCOME = 2;

  private static final MethodDescriptor.Marshaller<byte[]> AS_IS =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] value) {
          return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
          try {
            return stream.readAllBytes();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        }
      };

  private static final MethodDescriptor<byte[], byte[]> PUBLISH_STREAM =
      method(MethodType.BIDI_STREAMING, "longlived.v1.PublishService/PublishStream");
  private static final MethodDescriptor<byte[], byte[]> BULK_PUBLISH =
      method(MethodType.CLIENT_STREAMING, "longlived.v1.PublishService/BulkPublish");
  private static final MethodDescriptor<byte[], byte[]> SESSION =
      method(MethodType.BIDI_STREAMING, "longlived.v1.SubscriptionService/Session");

  private interface Scenario {
    void run(Channel channel, int messages) throws Exception;
  }

  /** Counts responses, and completes when the call ends. */
  private static class Responses implements StreamObserver<byte[]> {
    final CompletableFuture<Void> ended = new CompletableFuture<>();
    int number;
    byte[] last = {};

    @Override
    public void onNext(byte[] response) {
      number++;
      last = response;
    }

    @Override
    public void onError(Throwable error) {
      ended.completeExceptionally(new Exception("after " + number + " responses: " + error, error));
    }

    @Override
    public void onCompleted() {
      ended.complete(null);
    }
  }

  private static MethodDescriptor<byte[], byte[]> method(MethodType type, String name) {
    return MethodDescriptor.<byte[], byte[]>newBuilder(AS_IS, AS_IS).setType(type).setFullMethodName(name).build();
  }

  /** A length-delimited field. All that is written here is shorter than 128 bytes. */
  private static byte[] field(int number, byte[]... contents) {
    ByteArrayOutputStream content = new ByteArrayOutputStream();
    for (byte[] one : contents) {
      content.writeBytes(one);
    }
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    whole.write(number << 3 | 2);
    whole.write(content.size());
    whole.writeBytes(content.toByteArray());
    return whole.toByteArray();
  }

  private static byte[] text(String text) {
    return text.getBytes(StandardCharsets.US_ASCII);
  }

  /** A PublishRequest with a payload of 20 bytes. */
  private static byte[] message(int number) {
    byte[] topic = field(1, text("peers.t"));
    byte[] payload = field(2, text(String.format("%020d", number)));
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    whole.writeBytes(topic);
    whole.writeBytes(payload);
    return whole.toByteArray();
  }

  /** A SessionRequest after the first: mostly for a Progress, at times one that waits for the log. */
  private static byte[] request(int number) {
    return switch (number % 1000) {
      case 0 -> field(2, field(1, text("other")));
      case 500 -> field(3, text("other"));
      default -> new byte[] {4 << 3, 1};
    };
  }

  private static int kind(byte[] response) {
    return response.length == 0 ? 0 : response[0] >> 3;
  }

  /** The first field of a BulkPublishResponse. */
  private static long published(byte[] response) {
    long count = 0;
    if (kind(response) == 1) {
      for (int at = 1, shift = 0; at < response.length; at++, shift += 7) {
        count |= (long) (response[at] & 0x7f) << shift;
        if (response[at] >= 0) {
          break;
        }
      }
    }
    return count;
  }

  private static void send(StreamObserver<byte[]> call, int messages, IntFunction<byte[]> make) {
    for (int number = 0; number < messages; number++) {
      call.onNext(make.apply(number));
    }
  }

  private static CallOptions options() {
    return CallOptions.DEFAULT.withDeadlineAfter(TIMEOUT_S, TimeUnit.SECONDS);
  }

  private static void require(boolean holds, String otherwise) throws Exception {
    if (!holds) {
      throw new Exception(otherwise);
    }
  }

  private static void publishStream(Channel channel, int messages) throws Exception {
    Responses answers = new Responses();
    StreamObserver<byte[]> call =
        ClientCalls.asyncBidiStreamingCall(channel.newCall(PUBLISH_STREAM, options()), answers);
    send(call, messages, Peers::message);
    call.onCompleted();
    answers.ended.get();
    require(answers.number == messages, answers.number + " answers to " + messages + " messages");
  }

  private static void bulkPublish(Channel channel, int messages) throws Exception {
    Responses answers = new Responses();
    StreamObserver<byte[]> call =
        ClientCalls.asyncClientStreamingCall(channel.newCall(BULK_PUBLISH, options()), answers);
    send(call, messages, Peers::message);
    call.onCompleted();
    answers.ended.get();
    long count = published(answers.last);
    require(count == messages, count + " of " + messages + " are published");
  }

  /** A session asks as often as its connection publishes: every event and every answer comes. */
  private static void session(Channel channel, int messages) throws Exception {
    CompletableFuture<Void> welcomed = new CompletableFuture<>();
    CompletableFuture<Void> allCame = new CompletableFuture<>();
    Responses responses =
        new Responses() {
          private int events;

          @Override
          public void onNext(byte[] response) {
            super.onNext(response);
            if (kind(response) == WELCOME) {
              welcomed.complete(null);
            } else if (kind(response) == EVENT) {
              events++;
            }
            if (events >= messages && number - events > messages) {
              allCame.complete(null);
            }
          }

          @Override
          public void onError(Throwable error) {
            Exception told = new Exception("after " + events + " events and " + (number - events) + " others: " + error);
            welcomed.completeExceptionally(told);
            allCame.completeExceptionally(told);
          }

          @Override
          public void onCompleted() {
            onError(new Exception("the session ended"));
          }
        };
    StreamObserver<byte[]> call =
        ClientCalls.asyncBidiStreamingCall(channel.newCall(SESSION, options()), responses);
    byte[] id = text("peer-java-" + ProcessHandle.current().pid());
    call.onNext(field(1, field(1, id), field(2, field(1, text("peers.>")))));
    welcomed.get();
    CompletableFuture<Void> publishing =
        CompletableFuture.runAsync(
            () -> {
              try {
                publishStream(channel, messages);
              } catch (Exception error) {
                throw new IllegalStateException(error);
              }
            });
    send(call, messages, Peers::request);
    publishing.get();
    allCame.get();
    call.onCompleted();
  }

  private static void run(String name, Scenario scenario, String address, int messages) {
    long since = System.nanoTime();
    ManagedChannel channel = NettyChannelBuilder.forTarget(address, InsecureChannelCredentials.create()).build();
    try {
      scenario.run(channel, messages);
    } catch (Exception error) {
      System.out.println("FAIL grpc-java " + name + ": " + error.getMessage());
      System.exit(1);
    }
    channel.shutdownNow();
    System.out.printf("ok grpc-java %s: %d in %.1f s%n", name, messages, (System.nanoTime() - since) / 1e9);
  }

  public static void main(String[] args) {
    int messages = Integer.parseInt(args[1]);
    run("PublishStream", Peers::publishStream, args[0], messages);
    run("BulkPublish", Peers::bulkPublish, args[0], messages);
    run("Session", Peers::session, args[0], messages);
    System.exit(0);
  }
}
