#!/usr/bin/env python3
"""Decodes the same header blocks with longlived-http2, nghttp2 and Python's hpack, and compares what they make of them.

    in_step.py                                  5,000 blocks
    in_step.py --blocks 1000000 --seed 7        a million others
    in_step.py --corpus crates/http2/tests/corpus/hpack/blocks.txt

It needs `libnghttp2.so.14` (apt-get install libnghttp2-14), `hpack` (pip install hpack) and cargo. Blocks of one connection
go through the same decoders, so their dynamic tables are compared too. All decode the same fields, or all refuse the
block. What RFC 7541 leaves to each decoder is listed in `CHOICES`. Exit status 1: something else differed.
"""

import argparse
import collections
import random
import struct
import sys
import time

from blocks import TABLE_LIMITS, Maker
from corpus import Corpus
from decoders import Hpack, Nghttp2, Pipe, Refused, number

BLOCKS_OF_A_CONNECTION_MAX = 30
CARGO = ["cargo", "run", "--quiet", "--release", "--package", "longlived-http2", "--example", "hpack_pipe"]

# Our errors of blocks that another decoder takes, with the reason.
CHOICES = {
    "IntegerTooLong": "the octets of an integer are limited by each decoder (5.1); we read four behind the first, the others more",
    "SizeUpdatesTooMany": "an encoder sends at most two size updates (4.2); nghttp2 and hpack take any number",
    "SizeUpdateMissing": "after a limit was lowered and raised again the lowest is to be signalled (4.2); hpack knows the last only",
}


class Connection:
    """A run of blocks through the two others, and the request for ours."""

    def __init__(self, maker):
        self.maker = maker
        self.others = {"nghttp2": Nghttp2(), "hpack": Hpack()}
        self.limit, self.needed = 4096, None
        self.request = b""
        # Of each part with an answer: a block or None, and the answers by name. None is a refusal.
        self.parts = []

    def change_limit(self):
        rng = self.maker.rng
        self.limit = rng.choice(TABLE_LIMITS)
        self.needed = self.limit if self.needed is None else min(self.limit, self.needed)
        self.request += b"l" + number(self.limit)
        for other in self.others.values():
            other.limit(self.limit)

    def ask(self, block, ask):
        answers = {}
        for name, other in self.others.items():
            try:
                answers[name] = ask(other)
            except Refused:
                answers[name] = None
        self.parts.append((block, answers))
        return None not in answers.values()

    def run(self):
        """Up to the first block that one of them refuses."""
        rng = self.maker.rng
        for _ in range(rng.randrange(1, BLOCKS_OF_A_CONNECTION_MAX + 1)):
            while rng.random() < 0.1:
                self.change_limit()
            block = self.maker.block(self.others["nghttp2"].entry_count(), self.limit, self.needed)
            self.needed = None
            cut = rng.randrange(len(block) + 1)
            self.request += b"b" + number(cut) + number(len(block)) + block
            if not self.ask(block, lambda other: other.block(block)):
                break
            if rng.random() < 0.5:
                self.ask_table()
        else:
            self.ask_table()
        self.others["nghttp2"].close()

    def ask_table(self):
        self.request += b"t"
        self.ask(None, lambda other: other.table())


class Verdict:
    """What all connections came to."""

    def __init__(self):
        self.blocks = self.fields = self.tables = self.differences = 0
        self.errors = collections.Counter()
        self.choices = collections.Counter()

    def differs(self, connection, at, ours):
        self.differences += 1
        block, answers = connection.parts[at]
        print(f"difference in part {at} of the request {connection.request.hex()}", file=sys.stderr)
        print(f"  block {block and block.hex()}\n  ours {ours!r}", file=sys.stderr)
        for name, answer in answers.items():
            print(f"  {name} {answer!r}", file=sys.stderr)

    def judge(self, connection, answer):
        """Compares part by part, and returns our error if there was one, or None."""
        at = 0
        for part, (block, answers) in enumerate(connection.parts):
            self.blocks += block is not None
            self.tables += block is None
            rest = answer[at:]
            if rest[:1] == b"e":
                error = rest[5:].decode()
                refusals = [it is None for it in answers.values()]
                if all(refusals):
                    self.errors[error] += 1
                elif error in CHOICES:
                    others = " and ".join(name for name, it in answers.items() if it is not None)
                    self.choices[f"{error}, taken by {others}"] += 1
                else:
                    self.differs(connection, part, rest)
                return error
            for expected in answers.values():
                if expected is None or not rest.startswith(expected):
                    self.differs(connection, part, rest[:10_000])
                    return None
            if block is not None:
                self.fields += struct.unpack_from(">I", rest, 1)[0]
            at += len(expected)
        if at != len(answer):
            self.differs(connection, len(connection.parts) - 1, answer[at:])
        return None

    def print(self, seconds):
        print(f"{self.blocks} blocks in {seconds:.0f} s: {self.fields} fields and {self.tables} tables are equal, "
              f"{self.differences} differences")
        for title, counts in [("refused by all", self.errors), ("left to each decoder", self.choices)]:
            print(f"{title}: {sum(counts.values())}")
            for name, count in counts.most_common():
                print(f"  {count:8} {name}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5_000, help="how many blocks at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random generator (default: %(default)s)")
    parser.add_argument("--pipe", help="a built hpack_pipe; without it, cargo builds and runs it")
    parser.add_argument("--corpus", help="write connections of each kind to this file, for `cargo test`")
    return parser.parse_args()


def main():
    args = arguments()
    maker = Maker(random.Random(args.seed))
    pipe = Pipe([args.pipe] if args.pipe else CARGO)
    verdict = Verdict()
    corpus = Corpus()
    begun = time.monotonic()
    while verdict.blocks < args.blocks:
        connection = Connection(maker)
        connection.run()
        answer = pipe.connection(connection.request)
        error = verdict.judge(connection, answer)
        corpus.offer(connection.request, answer, error)
    verdict.print(time.monotonic() - begun)
    if args.corpus:
        corpus.write(args.corpus)
    return 1 if verdict.differences or pipe.close() else 0


if __name__ == "__main__":
    sys.exit(main())
