//! Where the bytes are cut does not matter: the events are the same once adjacent DATA is joined.

use longlived_http2::Config;
use proptest::prelude::*;

use crate::anything::HELD_MAX;
use crate::dialogue::{self, Choices};
use crate::peer::Frame;
use crate::server::{Said, Server, Take};
use crate::wire;

pub(crate) fn config() -> Config {
    Config {
        streams_max: 8,
        // So wide that no credit is given back, which would depend on the pieces.
        connection_window: 0x7fff_ffff,
        header_list_bytes_max: 4_096,
        ..Config::default()
    }
}

/// What was said and sent when the bytes came in pieces of these sizes, over and over.
#[track_caller]
pub(crate) fn in_pieces(bytes: &[u8], sizes: &[usize]) -> (Vec<Said>, Vec<Frame>) {
    let mut server = Server::new(config());
    server.take = Take::AtTheEnd;
    server.answers = true;
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        server.send(piece);
        let held = server.connection.held().total();
        assert!(held <= HELD_MAX, "{held} bytes are held");
        rest = after;
        if rest.is_empty() || server.error.is_some() {
            break;
        }
    }
    let mut frames = server.take_frames();
    frames.retain(|it| it.kind != wire::WINDOW_UPDATE);
    (joined(server.take_said()), frames)
}

fn joined(said: Vec<Said>) -> Vec<Said> {
    let mut joined: Vec<Said> = Vec::new();
    for said in said {
        match (joined.last_mut(), said) {
            (Some(Said::Data(a, bytes, end)), Said::Data(b, more, ends)) if *a == b && !*end => {
                bytes.extend(more);
                *end = ends;
            }
            (_, said) => joined.push(said),
        }
    }
    joined
}

/// The same events at each of these cuts.
#[track_caller]
pub(crate) fn same_at_any_cut(bytes: &[u8], sizes: &[usize]) {
    let whole = in_pieces(bytes, &[bytes.len().max(1)]);
    for sizes in [sizes, &[1], &[9], &[8, 1, 1]] {
        let cut = in_pieces(bytes, sizes);
        assert_eq!(cut, whole, "in pieces of {sizes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_conversation_means_the_same_wherever_it_is_cut(
        choices in prop::collection::vec(any::<u8>(), 0..150),
        breaks in 0_usize..9,
        sizes in prop::collection::vec(1_usize..400, 1..6),
    ) {
        let bytes = dialogue::frames(&mut Choices(&choices), breaks).concat();
        same_at_any_cut(&bytes, &sizes);
    }
}
