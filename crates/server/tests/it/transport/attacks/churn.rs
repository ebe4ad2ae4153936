//! Connections and calls that come and go.

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{END_STREAM, WINDOW_INITIAL, hello, reset};

use super::{
    Answer, CHECK, ENHANCE_YOUR_CALM, REFUSED_STREAM, STREAMS_MAX, WATCH, assert_answer, attacked,
    call, flood, headers, scale, streams, watch,
};

#[test]
fn connections_that_come_and_go_leave_nothing() {
    attacked(async |arena| {
        let hello = hello(WINDOW_INITIAL);
        let open: Vec<u8> = streams(8).flat_map(watch).collect();
        let half = &headers(1, END_STREAM, &Block::grpc(CHECK))[..20];
        let begins: [&[u8]; 7] = [
            b"",
            b"P",
            &hello[..24],
            &hello,
            &[&hello, half].concat(),
            &[&hello[..], &open].concat(),
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        for round in 0..100 * scale() {
            for (number, begin) in begins.iter().enumerate() {
                let mut attacker = Attacker::connect(arena.address()).await;
                attacker.send(begin).await;
                // Some stay until they are answered, and others are gone before.
                if round % 2 == 0 && (3..6).contains(&number) && number != 4 {
                    attacker.is_taken().await;
                }
            }
        }
    });
}

/// A connection that is cut comes back as another.
#[test]
fn rapid_reset_from_connection_after_connection_is_cut_each_time() {
    attacked(async |arena| {
        for _ in 0..3 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            let round = |number: u32| {
                let stream = 2 * number + 1;
                [call(stream, WATCH), reset(stream)].concat()
            };
            let (code, _) = flood(arena, &mut attacker, round).await;
            assert_eq!(code, Some(ENHANCE_YOUR_CALM));
        }
    });
}

/// As many as may be open are opened, and closed together.
#[test]
fn streams_that_are_opened_and_reset_in_bulk_are_cut() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        let round = |number: u32| {
            let ids = (1_000 * number..1_000 * (number + 1)).map(|id| 2 * id + 1);
            let opened = ids.clone().flat_map(|id| call(id, WATCH));
            opened.chain(ids.flat_map(reset)).collect()
        };
        let (code, _) = flood(arena, &mut attacker, round).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    });
}

/// The peer was told the limit (5.1.2), and goes on.
#[test]
fn streams_over_the_limit_are_refused_and_then_cut() {
    attacked(async |arena| {
        let full: Vec<u8> = streams(STREAMS_MAX)
            .map(|stream| stream + 2)
            .flat_map(|stream| call(stream, WATCH))
            .collect();
        let mut attacker = Attacker::hello(arena.address()).await;
        attacker.send(&full).await;
        assert!(attacker.is_taken().await);
        let over = |number| call(2 * (STREAMS_MAX + 1 + number) + 1, WATCH);
        let (code, refused) = flood(arena, &mut attacker, over).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM));
        assert!(refused > 1_000, "{refused}");
        let code = attacker.reset(2 * (STREAMS_MAX + 1) + 1);
        assert_eq!(code, Some(REFUSED_STREAM));
    });
}

/// Calls that end by themselves are no attack, however fast they come.
#[test]
fn calls_that_are_answered_are_not_cut() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        let count = 5_000 * scale();
        for stream in streams(count) {
            let check = headers(stream, END_STREAM, &Block::grpc(CHECK));
            assert!(attacker.send(&check).await);
        }
        assert!(attacker.is_answered(count.into()).await);
        assert_answer(arena, "another", &watch(1), Answer::Nothing).await;
    });
}
