//! Frames and header blocks of a client, written by hand (RFC 9113, 4.1 and 6; RFC 7541, 6.2). It shares no code with the crate.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The identifiers of settings (6.5.2).
pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

pub(crate) const WINDOW_MAX: u32 = 0x7fff_ffff;
/// The windows of a new connection, and the smallest limit of a frame (6.5.2).
pub(crate) const WINDOW: u32 = 65_535;
pub(crate) const FRAME: usize = 16_384;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, if end { END_STREAM } else { 0 }, stream, payload)
}

/// Padding before and after: its length first, its zeros last (6.1).
pub(crate) fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    let mut whole = vec![padding];
    whole.extend(payload);
    whole.extend(std::iter::repeat_n(0, padding.into()));
    whole
}

/// A request or trailers in one frame.
pub(crate) fn headers(stream: u32, block: &[u8], end: bool) -> Vec<u8> {
    let end = if end { END_STREAM } else { 0 };
    frame(HEADERS, END_HEADERS | end, stream, block)
}

pub(crate) fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, &[])
}

pub(crate) fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &payload)
}

pub(crate) fn pong(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, ACK, 0, &payload)
}

pub(crate) fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(
        GOAWAY,
        0,
        0,
        &[last.to_be_bytes(), code.to_be_bytes()].concat(),
    )
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A stream that depends on another (5.3.2).
pub(crate) fn priority(stream: u32, depends_on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &dependency(depends_on))
}

pub(crate) fn dependency(depends_on: u32) -> [u8; 5] {
    let [a, b, c, d] = depends_on.to_be_bytes();
    [a, b, c, d, 15]
}

/// A connection's first bytes: preface, SETTINGS and the acknowledgement of the server's.
pub(crate) fn begin() -> Vec<u8> {
    [PREFACE, &settings(&[]), &settings_ack()].concat()
}

/// A literal field without indexing, its name and value as they are (RFC 7541, 6.2.2).
pub(crate) fn field(block: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    literal(block, 0x00, name, value.as_ref());
}

/// A literal field that goes into the table (RFC 7541, 6.2.1).
pub(crate) fn field_to_table(block: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    literal(block, 0x40, name, value.as_ref());
}

/// The newest field of the table (RFC 7541, 2.3.3).
pub(crate) const NEWEST: u8 = 0x80 + 62;

fn literal(block: &mut Vec<u8>, kind: u8, name: &str, value: &[u8]) {
    block.push(kind);
    for string in [name.as_bytes(), value] {
        length(block, string.len());
        block.extend(string);
    }
}

/// A length in the seven bits of its octet, or in more octets (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut left = length - 127;
    while left >= 128 {
        block.push((left % 128) as u8 | 128);
        left /= 128;
    }
    block.push(left as u8);
}

/// A header block of these fields.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        field(&mut block, name, value);
    }
    block
}

/// The pseudo-fields of a request with content.
pub(crate) const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/"),
];

/// The head of a request with these fields behind its pseudo-fields.
pub(crate) fn post(fields: &[(&str, &str)]) -> Vec<u8> {
    block(&[POST, fields].concat())
}
