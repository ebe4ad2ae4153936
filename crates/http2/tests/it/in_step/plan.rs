//! What a seed decides, known to both ends.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A whole run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) calls: usize,
    /// Calls that are under way at once, at most, as the client would have it.
    pub(super) at_once: usize,
    /// Bytes that the pipe holds in each direction.
    pub(super) pipe: usize,
    pub(super) config: longlived_http2::Config,
    /// The server says GOAWAY after it has seen this many calls.
    pub(super) go_away_after: Option<usize>,
    /// The client's windows, and its largest frame.
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) frame_max: u32,
    /// The client changes its windows in flight, to one of these.
    pub(super) window_moves: bool,
    pub(super) windows: &'static [u32],
    /// Nobody resets a stream.
    pub(super) calm: bool,
    bytes_max: usize,
}

/// Windows that the client may have, where content is so short that one of a byte is soon used often enough.
const NARROW: [u32; 6] = [0, 1, 50, 4_000, 70_000, 500_000];

fn pick<T: Copy>(rng: &mut SmallRng, all: &[T]) -> T {
    all[rng.random_range(0..all.len())]
}

impl Run {
    pub(super) fn draw(seed: u64, rng: &mut SmallRng) -> Self {
        // Now and then thousands of streams, with little content each.
        let crowd = seed % 100 == 7;
        let bytes_max = if crowd {
            300
        } else {
            pick(rng, &[100, 20_000, 60_000])
        };
        let windows = if bytes_max < 1_000 {
            &NARROW[..]
        } else {
            &NARROW[3..]
        };
        let pipes: &[usize] = if bytes_max < 1_000 {
            &[100, 1_000, 16_384]
        } else {
            &[5_000, 16_384, 100_000]
        };
        let calls = if crowd {
            2_000
        } else {
            rng.random_range(1..40)
        };
        Self {
            seed,
            calls,
            at_once: if crowd {
                1_500
            } else {
                rng.random_range(1..30)
            },
            pipe: pick(rng, pipes),
            config: longlived_http2::Config {
                streams_max: if crowd {
                    1_200
                } else {
                    pick(rng, &[1, 3, 20, 100])
                },
                stream_window: pick(rng, &[1_000, 20_000, 65_535, 300_000]),
                connection_window: pick(rng, &[65_535, 200_000]),
                header_table_bytes: pick(rng, &[0, 1_024, 4_096]),
                ..longlived_http2::Config::default()
            },
            go_away_after: rng.random_bool(0.3).then(|| rng.random_range(0..calls)),
            stream_window: pick(rng, windows),
            windows,
            connection_window: pick(rng, &[65_535, 1_000_000]),
            frame_max: pick(rng, &[16_384, 40_000]),
            window_moves: rng.random_bool(0.5),
            calm: rng.random_bool(0.3),
            bytes_max,
        }
    }

    /// The plan of a call.
    pub(super) fn plan(&self, call: usize) -> Plan {
        let rng = &mut SmallRng::seed_from_u64(self.seed << 20 | call as u64);
        let most = if rng.random_bool(0.2) {
            0
        } else {
            self.bytes_max
        };
        let reset = |rng: &mut SmallRng| {
            let at = rng.random_range(0..=most);
            (!self.calm && rng.random_bool(0.15)).then_some(at)
        };
        Plan {
            head: rng.random_bool(0.1),
            request: pieces(rng, most),
            request_trailers: rng.random_bool(0.2),
            says_length: rng.random_bool(0.3),
            response: pieces(rng, most),
            response_trailers: rng.random_bool(0.4),
            early: rng.random_bool(0.3),
            complete_early: rng.random_bool(0.3),
            client_resets_sending: reset(rng),
            client_resets_receiving: reset(rng),
            client_drops: rng.random_bool(0.3),
            server_resets_receiving: reset(rng),
            server_resets_sending: reset(rng),
            slow: rng.random_bool(0.3),
        }
    }
}

fn pieces(rng: &mut SmallRng, most: usize) -> Vec<usize> {
    let mut left = rng.random_range(0..=most);
    let mut pieces = Vec::new();
    while left > 0 {
        let piece = rng.random_range(1..=left.min(20_000));
        pieces.push(piece);
        left -= piece;
    }
    pieces
}

/// What happens in one call.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its method is HEAD: the response has no content.
    pub(super) head: bool,
    pub(super) request: Vec<usize>,
    pub(super) request_trailers: bool,
    /// The request has `content-length`.
    pub(super) says_length: bool,
    pub(super) response: Vec<usize>,
    pub(super) response_trailers: bool,
    /// The response begins before the request has ended.
    pub(super) early: bool,
    /// A response that is complete ends the stream, also if the request is under way (8.1).
    pub(super) complete_early: bool,
    /// Resets, when this many bytes were sent or received.
    pub(super) client_resets_sending: Option<usize>,
    pub(super) client_resets_receiving: Option<usize>,
    /// The client drops what it has of the stream, instead of a reset.
    pub(super) client_drops: bool,
    pub(super) server_resets_receiving: Option<usize>,
    pub(super) server_resets_sending: Option<usize>,
    /// The server takes content later.
    pub(super) slow: bool,
}

impl Plan {
    pub(super) fn request_bytes(&self) -> usize {
        self.request.iter().sum()
    }
}

const PERIOD: usize = 251;

/// Content of a call from an offset on: it differs between calls, and shows where a piece belongs.
pub(super) fn content(call: usize, offset: usize, length: usize) -> Vec<u8> {
    let from = (call * 7 + offset) % PERIOD;
    (0..=u8::MAX)
        .take(PERIOD)
        .cycle()
        .skip(from)
        .take(length)
        .collect()
}

/// Whether these bytes are content of the call from this offset on.
pub(super) fn is_content(call: usize, offset: usize, bytes: &[u8]) -> bool {
    bytes == content(call, offset, bytes.len())
}
