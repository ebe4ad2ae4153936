"""Calls a longlived server over TLS with grpcio: with a token, with a client certificate, and with what must not do.

    secure.py HOST:PORT FOLDER MESSAGES

FOLDER has ca.pem, other-ca.pem, client.pem, client.key and token.
"""

import pathlib
import sys
import time

import grpc

from peers import field, message, publish_stream

PUBLISH = "/longlived.v1.PublishService/Publish"
SUBSCRIBE = "/longlived.v1.SubscriptionService/Subscribe"
HEALTH = "/grpc.health.v1.Health/Check"
TIMEOUT = 60


def status(call):
    """The code of a call, and the text of its status."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def expect(what, found, code, text=""):
    assert found[0] == code and text in found[1], f"{what}: {found}, not {code} {text!r}"
    print(f"ok grpcio {what}: {code.name}", flush=True)


def to(topic):
    return field(1, topic) + field(2, b"x")


def checks(address, folder, messages):
    read = lambda name: (folder / name).read_bytes()
    plain = grpc.ssl_channel_credentials(read("ca.pem"))
    mutual = grpc.ssl_channel_credentials(read("ca.pem"), read("client.key"), read("client.pem"))
    token = lambda text: grpc.access_token_call_credentials(text)
    right = read("token").decode().strip()
    code = grpc.StatusCode

    def publish(channel, topic, credentials=None):
        call = channel.unary_unary(PUBLISH)
        return status(lambda: call(to(topic), timeout=TIMEOUT, credentials=credentials))

    with grpc.secure_channel(address, plain) as channel:
        expect("without a credential", publish(channel, b"peers.t"), code.UNAUTHENTICATED)
        bad = token(right[:-1] + "!")
        expect("with a bad token", publish(channel, b"peers.t", bad), code.UNAUTHENTICATED)
        good = token(right)
        expect("with a token", publish(channel, b"peers.t", good), code.OK)
        denied = publish(channel, b"other.t", good)
        expect("what is not granted", denied, code.PERMISSION_DENIED, "publish.allow")
        health = channel.unary_unary(HEALTH)
        expect("health", status(lambda: health(b"", timeout=TIMEOUT)), code.OK)
    both = grpc.composite_channel_credentials(plain, token(right))
    with grpc.secure_channel(address, both) as channel:
        since = time.monotonic()
        publish_stream(channel, messages)
        took = time.monotonic() - since
        print(f"ok grpcio PublishStream over TLS: {messages} in {took:.1f} s", flush=True)
        call = channel.unary_stream(SUBSCRIBE)
        asked = field(1, b"secure") + field(2, field(1, b"peers.>")) + field(7, bytes([1 << 3, 1]))
        responses = call(asked, timeout=TIMEOUT)
        events = sum(1 for _, response in zip(range(messages + 2), responses) if response[0] >> 3 == 1)
        assert events >= messages, f"{events} events of {messages}"
        responses.cancel()
        print(f"ok grpcio Subscribe over TLS: {events} events", flush=True)
    with grpc.secure_channel(address, mutual) as channel:
        expect("with a certificate", publish(channel, b"certified.t"), code.OK)
        expect("beyond its grants", publish(channel, b"peers.t"), code.PERMISSION_DENIED)
        expect("with both, as the token", publish(channel, b"peers.t", token(right)), code.OK)
    stranger = grpc.ssl_channel_credentials(read("other-ca.pem"))
    with grpc.secure_channel(address, stranger) as channel:
        expect("with another authority", publish(channel, b"peers.t"), code.UNAVAILABLE)


def main(address, folder, messages):
    try:
        checks(address, pathlib.Path(folder), messages)
    except (grpc.RpcError, AssertionError) as error:
        print(f"FAIL grpcio over TLS: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
