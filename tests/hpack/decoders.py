"""The decoders that are compared. What one makes of a block is said in the octets of an answer of `hpack_pipe`."""

import ctypes
import struct
import subprocess

import hpack


class Refused(Exception):
    """The decoder calls the block a connection error."""


def number(value):
    return struct.pack(">I", value)


def pair(name, value):
    return struct.pack(">II", len(name), len(value)) + name + value


def fields(decoded):
    """An answer of name, value and whether it must never be indexed, each."""
    octets = b"".join(bytes([never]) + pair(name, value) for name, value, never in decoded)
    return b"f" + number(len(decoded)) + octets


def table(entries, size):
    octets = b"".join(pair(name, value) for name, value in entries)
    return b"t" + number(size) + number(len(entries)) + octets


class Hpack:
    """The package `hpack` for Python."""

    def __init__(self):
        self.decoder = hpack.Decoder(max_header_list_size=1 << 40)

    def limit(self, size):
        self.decoder.max_allowed_table_size = size

    def block(self, block):
        try:
            decoded = self.decoder.decode(block, raw=True)
        except hpack.HPACKError as error:
            raise Refused(repr(error)) from error
        return fields([(bytes(it[0]), bytes(it[1]), not it.indexable) for it in decoded])

    def table(self):
        entries = [(bytes(name), bytes(value)) for name, value in self.decoder.header_table.dynamic_entries]
        return table(entries, sum(len(name) + len(value) + 32 for name, value in entries))


class Nv(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("name_len", ctypes.c_size_t),
        ("value_len", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    ]

    def pair(self):
        return ctypes.string_at(self.name, self.name_len), ctypes.string_at(self.value, self.value_len)


class Nghttp2:
    """libnghttp2."""

    NO_INDEX = 1
    FINAL, EMIT = 1, 2
    STATIC_LEN = 61

    def __init__(self):
        self.decoder = ctypes.c_void_p()
        if LIBRARY.nghttp2_hd_inflate_new(ctypes.byref(self.decoder)):
            raise MemoryError

    def close(self):
        LIBRARY.nghttp2_hd_inflate_del(self.decoder)

    def limit(self, size):
        if LIBRARY.nghttp2_hd_inflate_change_table_size(self.decoder, size):
            raise RuntimeError("nghttp2 is within a block")

    def block(self, block):
        field, flags = Nv(), ctypes.c_int()
        at, decoded = 0, []
        begin = ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p).value
        while not flags.value & self.FINAL:
            taken = LIBRARY.nghttp2_hd_inflate_hd2(self.decoder, ctypes.byref(field), ctypes.byref(flags),
                                                   begin + at, len(block) - at, 1)
            if taken < 0:
                raise Refused(f"nghttp2 error {taken}")
            at += taken
            if flags.value & self.EMIT:
                decoded.append((*field.pair(), field.flags & self.NO_INDEX))
        LIBRARY.nghttp2_hd_inflate_end_headers(self.decoder)
        return fields(decoded)

    def entry_count(self):
        return LIBRARY.nghttp2_hd_inflate_get_num_table_entries(self.decoder) - self.STATIC_LEN

    def table(self):
        entries = []
        for index in range(self.entry_count()):
            entry = LIBRARY.nghttp2_hd_inflate_get_table_entry(self.decoder, self.STATIC_LEN + 1 + index)
            entries.append(entry.contents.pair())
        return table(entries, LIBRARY.nghttp2_hd_inflate_get_dynamic_table_size(self.decoder))


def load_nghttp2():
    library = ctypes.CDLL("libnghttp2.so.14")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.nghttp2_hd_inflate_change_table_size.argtypes = [pointer, size]
    library.nghttp2_hd_inflate_hd2.argtypes = [pointer, pointer, pointer, pointer, size, ctypes.c_int]
    library.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
    library.nghttp2_hd_inflate_get_table_entry.argtypes = [pointer, size]
    library.nghttp2_hd_inflate_get_table_entry.restype = ctypes.POINTER(Nv)
    for name in ["get_num_table_entries", "get_dynamic_table_size"]:
        function = getattr(library, f"nghttp2_hd_inflate_{name}")
        function.argtypes, function.restype = [pointer], size
    for name in ["del", "end_headers"]:
        getattr(library, f"nghttp2_hd_inflate_{name}").argtypes = [pointer]
    return library


LIBRARY = load_nghttp2()


class Pipe:
    """Ours: the program `hpack_pipe`. It decodes a whole connection at once."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def connection(self, request):
        """The answers to the parts of a request that have one, each with its octets."""
        self.process.stdin.write(number(len(request)) + request)
        self.process.stdin.flush()
        length = self.process.stdout.read(4)
        if len(length) < 4:
            raise SystemExit(f"hpack_pipe ended with {self.process.wait()} in the request {request.hex()}")
        return self.process.stdout.read(*struct.unpack(">I", length))

    def close(self):
        self.process.stdin.close()
        return self.process.wait()
