"""Makes header blocks (RFC 7541): random ones that are lawful, and mutations that mostly are not."""

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
TEXT = (b"grpc-timeout application/grpc+proto :authority longlived.v1.SubscriptionService/Session 20M te trailers "
        b"gzip, identity Mon, 21 Oct 2013 20:13:21 GMT x-request-id 4d5a-9f~{}<>|^`@#$[]!?*&;%=_" + bytes(range(256)))
STATIC_LEN = 61
TABLE_LIMITS = [0, 31, 32, 33, 64, 100, 256, 1024, 4095, 4096, 16384, 65535]


def integer(pattern, bits, value, extra=0):
    """An integer (5.1), with `extra` octets that say nothing."""
    prefix = (1 << bits) - 1
    if value < prefix and not extra:
        return bytes([pattern | value])
    out = [pattern | prefix]
    value = max(value - prefix, 0)
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    if extra:
        out.append(value | 0x80)
        out.extend([0x80] * (extra - 1) + [0])
    else:
        out.append(value)
    return bytes(out)


class Maker:
    """Makes blocks from a random generator."""

    def __init__(self, rng):
        self.rng = rng

    def octets(self):
        rng = self.rng
        chance = rng.random()
        if chance < 0.7:
            length = rng.randrange(13)
        elif chance < 0.95:
            length = rng.randrange(60)
        elif chance < 0.99:
            length = rng.randrange(1500)
        else:
            length = rng.randrange(3900, 4200)
        if rng.random() < 0.1:
            return rng.randbytes(length)
        begin = rng.randrange(len(TEXT) - 60)
        return (TEXT[begin:] * (1 + length // 60))[:length]

    def string(self):
        """A string literal (5.2)."""
        rng = self.rng
        octets = self.octets()
        if rng.random() < 0.5:
            return integer(0, 7, len(octets)) + octets
        encoded = HUFFMAN.encode(octets) if octets else b""
        if rng.random() < 0.03:
            encoded = self.spoilt(encoded)
        return integer(0x80, 7, len(encoded)) + encoded

    def spoilt(self, encoded):
        """A Huffman string with wrong padding, with EOS in it, or of random octets."""
        kind = self.rng.randrange(5)
        if kind == 0:
            return encoded + b"\xff"
        if kind == 1:
            return encoded + b"\xff\xff\xff\xff"
        if kind == 2:
            return encoded[:-1]
        if kind == 3 and encoded:
            return encoded[:-1] + bytes([encoded[-1] ^ 1 << self.rng.randrange(8)])
        return self.rng.randbytes(self.rng.randrange(1, 20))

    def index(self, entries):
        rng = self.rng
        chance = rng.random()
        if entries and chance < 0.5:
            return STATIC_LEN + 1 + min(int(rng.expovariate(0.2)), entries - 1)
        if chance < 0.995:
            return rng.randrange(1, STATIC_LEN + 1)
        return rng.choice([0, STATIC_LEN + entries, STATIC_LEN + entries + 1, 127, 200, 1 << 20, 1 << 27])

    def integer(self, pattern, bits, value):
        extra = self.rng.randrange(1, 6) if self.rng.random() < 0.003 else 0
        return integer(pattern, bits, value, extra)

    def field(self, entries):
        """A field (6.1 and 6.2), and whether it is added to the table."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.4:
            return self.integer(0x80, 7, self.index(entries)), False
        pattern, bits = (0x40, 6) if chance < 0.75 else (0x00, 4) if chance < 0.9 else (0x10, 4)
        index = self.index(entries) if rng.random() < 0.6 else 0
        name = b"" if index else self.string()
        field = self.integer(pattern, bits, index) + name + self.string()
        return field, pattern == 0x40

    def updates(self, limit, needed):
        """Size updates (4.2, 6.3): mostly what a limit of `limit`, and before it of `needed`, asks for."""
        rng = self.rng
        updates = []
        if needed is not None and rng.random() < 0.95:
            updates.append(needed if rng.random() < 0.7 else rng.randrange(needed + 1))
        if rng.random() < 0.1:
            updates.append(rng.choice([limit, limit, rng.randrange(limit + 1), limit + 1, 0]))
        if rng.random() < 0.01:
            updates.extend(rng.randrange(limit + 1) for _ in range(rng.randrange(1, 4)))
        return b"".join(self.integer(0x20, 5, size) for size in updates)

    def block(self, entries, limit, needed):
        """A block for a table with this many entries."""
        rng = self.rng
        if rng.random() < 0.01:
            return rng.randbytes(rng.randrange(40))
        parts = [self.updates(limit, needed)]
        for _ in range(rng.choice([0, 1, 1, 2, 3, 3, 4, 6, 8, 12])):
            part, is_added = self.field(entries)
            parts.append(part)
            # About as many entries fit.
            entries = min(entries + is_added, limit // 60)
        if rng.random() < 0.005:
            parts.append(integer(0x20, 5, rng.randrange(limit + 1)))
        block = b"".join(parts)
        return self.mutated(block) if block and rng.random() < 0.08 else block

    def mutated(self, block):
        rng = self.rng
        at = rng.randrange(len(block))
        kind = rng.randrange(6)
        if kind == 0:
            return block[:at] + bytes([block[at] ^ 1 << rng.randrange(8)]) + block[at + 1:]
        if kind == 1:
            return block[:at]
        if kind == 2:
            return block[:at] + rng.choice([b"\x00", b"\x7f", b"\x80", b"\xff", b"\x20", b"\x3f", b"\x40"]) + block[at + 1:]
        if kind == 3:
            return block[:at] + rng.randbytes(rng.randrange(1, 5)) + block[at:]
        if kind == 4:
            return block[:at] + block[at + rng.randrange(1, 5):]
        return block + block[at:]
