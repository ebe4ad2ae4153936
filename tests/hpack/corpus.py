"""The connections that are kept for `cargo test`, as lines of text: crates/http2/tests/it/hpack/corpus.rs reads them."""

import collections
import struct

CONNECTIONS_OF_A_KIND_MAX = 7
CONNECTIONS_WITHOUT_ERROR_MAX = 20
REQUEST_LEN_MAX = 1_000


def text(octets):
    """Printable, without spaces, and never empty."""
    return "=" + "".join(chr(it) if 0x21 <= it <= 0x7E and it != 0x5C else f"\\x{it:02x}" for it in octets)


class Reader:
    """Reads a request or an answer of `hpack_pipe`."""

    def __init__(self, octets):
        self.octets, self.at = octets, 0

    def __bool__(self):
        return self.at < len(self.octets)

    def take(self, length):
        self.at += length
        return self.octets[self.at - length:self.at]

    def number(self):
        return struct.unpack(">I", self.take(4))[0]

    def pair(self):
        name_len, value_len = self.number(), self.number()
        return f"{text(self.take(name_len))} {text(self.take(value_len))}"


def answer_lines(answer):
    kind = answer.take(1)
    if kind == b"e":
        return [f"error {answer.take(answer.number()).decode()}"]
    if kind == b"t":
        size, count = answer.number(), answer.number()
        return [f"table {size}"] + [f"entry {answer.pair()}" for _ in range(count)]
    words = ["field", "never"]
    return ["fields"] + [f"{words[answer.take(1)[0]]} {answer.pair()}" for _ in range(answer.number())]


def lines(request, answer):
    request, answer = Reader(request), Reader(answer)
    yield "connection"
    while request:
        kind = request.take(1)
        if kind == b"l":
            yield f"limit {request.number()}"
            continue
        if kind == b"b":
            request.number()
            yield f"block {request.take(request.number()).hex()}"
        if not answer:
            return
        yield from answer_lines(answer)


class Corpus:
    """Keeps a number of connections for each error, and of those without one."""

    def __init__(self):
        self.kept = collections.defaultdict(list)

    def offer(self, request, answer, error):
        kept = self.kept[error]
        most = CONNECTIONS_OF_A_KIND_MAX if error else CONNECTIONS_WITHOUT_ERROR_MAX
        if len(kept) < most and len(request) <= REQUEST_LEN_MAX:
            kept.append("\n".join(lines(request, answer)))

    def write(self, path):
        with open(path, "w", encoding="ascii") as file:
            for error in sorted(self.kept, key=str):
                file.write("".join(f"{it}\n" for it in self.kept[error]))
