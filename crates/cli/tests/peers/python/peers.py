"""Sends many small messages to a longlived server with grpcio, and says whether each was answered.

    peers.py HOST:PORT MESSAGES

Messages are written and read by field number, so that nothing has to be generated.
"""

import os
import sys
import threading
import time

import grpc

PUBLISH_STREAM = "/longlived.v1.PublishService/PublishStream"
BULK_PUBLISH = "/longlived.v1.PublishService/BulkPublish"
SESSION = "/longlived.v1.SubscriptionService/Session"
TIMEOUT = 600
# Of the oneof of SubscribeResponse.
EVENT, WELCOME = 1, 2


def field(number, content):
    """A length-delimited field. All that is written here is shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def message(number):
    """A PublishRequest with a payload of 20 bytes."""
    return field(1, b"peers.t") + field(2, b"%020d" % number)


def request(number):
    """A SessionRequest after the first: mostly for a Progress, at times one that waits for the log."""
    if number % 1000 == 0:
        return field(2, field(1, b"other"))
    if number % 1000 == 500:
        return field(3, b"other")
    return bytes([4 << 3, 1])


def published(response):
    """The first field of a BulkPublishResponse."""
    count = shift = 0
    if response[:1] == bytes([1 << 3]):
        for byte in response[1:]:
            count |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
    return count


def publish_stream(channel, messages):
    call = channel.stream_stream(PUBLISH_STREAM)
    answers = sum(1 for _ in call(map(message, range(messages)), timeout=TIMEOUT))
    assert answers == messages, f"{answers} answers to {messages} messages"


def bulk_publish(channel, messages):
    call = channel.stream_unary(BULK_PUBLISH)
    count = published(call(map(message, range(messages)), timeout=TIMEOUT))
    assert count == messages, f"{count} of {messages} are published"


def session(channel, messages):
    """A session asks as often as its connection publishes: every event and every answer comes."""
    welcome, all_came = threading.Event(), threading.Event()

    def requests():
        subscriber = b"peer-python-%d" % os.getpid()
        yield field(1, field(1, subscriber) + field(2, field(1, b"peers.>")))
        welcome.wait(TIMEOUT)
        yield from map(request, range(messages))
        all_came.wait(TIMEOUT)

    responses = channel.stream_stream(SESSION)(requests(), timeout=TIMEOUT)
    assert next(responses)[0] >> 3 == WELCOME
    failures = []

    def publish():
        try:
            publish_stream(channel, messages)
        except Exception as error:
            failures.append(error)

    publishing = threading.Thread(target=publish)
    publishing.start()
    welcome.set()
    events = answers = 0
    try:
        while events < messages or answers < messages:
            if next(responses)[0] >> 3 == EVENT:
                events += 1
            else:
                answers += 1
    finally:
        all_came.set()
        publishing.join()
    if failures:
        raise failures[0]


def main(address, messages):
    for name, run in [
        ("PublishStream", publish_stream),
        ("BulkPublish", bulk_publish),
        ("Session", session),
    ]:
        since = time.monotonic()
        try:
            with grpc.insecure_channel(address) as channel:
                run(channel, messages)
        except (grpc.RpcError, AssertionError) as error:
            print(f"FAIL grpcio {name}: {error}")
            return 1
        print(f"ok grpcio {name}: {messages} in {time.monotonic() - since:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
