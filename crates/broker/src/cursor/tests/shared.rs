//! Cursors that leave their tail to one reader.

use super::*;

const ALL: [Compression; 3] = [Compression::Identity, Compression::Gzip, Compression::Zstd];

async fn publish_payload(log: &Log, payload: &[u8]) {
    let message = Message::new(TopicName::parse("t").unwrap(), payload.to_vec());
    let answer = log.submit(vec![message].into(), PublishOptions::default());
    answer.await.unwrap().await.unwrap();
}

/// A cursor that waits for the next event.
async fn at_rest(log: &Log, compression: Compression) -> Cursor {
    let options = ReadOptions {
        compression,
        ..OPTIONS
    };
    let mut cursor = open(log, &[filter("t")], Begin::Next, options).await.cursor;
    while poll(&mut cursor).is_ready() {}
    cursor
}

fn delivered(cursor: &mut Cursor) -> (Bytes, usize) {
    match poll(cursor) {
        Poll::Ready(Ok(Delivery::Events { bytes, count })) => (bytes, count),
        other => panic!("not events: {other:?}"),
    }
}

fn handed_out(reader: &mut TailReader) -> (Bytes, usize) {
    match reader.poll_next(&mut Context::from_waker(Waker::noop()), DELIVERY_BYTES) {
        Poll::Ready(Some(SharedDelivery { bytes, count, .. })) => (bytes, count),
        other => panic!("nothing was handed out: {other:?}"),
    }
}

#[test]
fn a_reader_is_followed_by_cursors_of_its_compression_and_hands_out_the_events_that_each_would_have_read()
 {
    let payloads: [&[u8]; 3] = [&[b'x'; 2_048], &[b'x'; 100], &[b'y'; 2_048]];
    for compression in ALL {
        with_log(vec![], 1 << 20, async |log| {
            let mut first = at_rest(&log, compression).await;
            let mut second = at_rest(&log, compression).await;
            let mut alone = at_rest(&log, compression).await;
            let mut reader = first.tail_reader().expect("others read there too");
            assert!(first.follow(&mut reader) && second.follow(&mut reader));
            for other in ALL {
                let follows = at_rest(&log, other).await.follow(&mut reader);
                assert_eq!(follows, other == compression, "{other:?}");
            }
            let mut flags = Vec::new();
            for payload in payloads {
                publish_payload(&log, payload).await;
                let (bytes, count) = handed_out(&mut reader);
                flags.push(bytes[0]);
                assert_eq!((bytes, count), delivered(&mut alone));
            }
            let counts = log.compression_counts();
            let (gzip, zstd) = match compression {
                Compression::Identity => (0, 0),
                Compression::Gzip => (2, 0),
                Compression::Zstd => (0, 2),
            };
            assert_eq!((counts.gzip, counts.zstd), (gzip, zstd));
            let flag = u8::from(compression != Compression::Identity);
            assert_eq!(flags, [flag, 0, flag]);

            // A cursor that goes on by itself reads the same bytes again.
            first.unfollow(reader.position());
            publish_payload(&log, payloads[0]).await;
            assert_eq!(delivered(&mut first), handed_out(&mut reader));
        });
    }
}

#[test]
fn a_backlog_of_several_deliveries_parts_nobody() {
    // In batches of their own, and in one that is larger than a delivery.
    for (messages, payload_bytes, in_one) in
        [(300, 1_000, false), (200, 1_200, true), (3, 200_000, false)]
    {
        with_log(vec![], 8 << 20, async |log| {
            let mut first = at_rest(&log, Compression::Identity).await;
            let mut alone = at_rest(&log, Compression::Identity).await;
            let mut reader = first.tail_reader().expect("others read there too");
            assert!(first.follow(&mut reader));
            let message =
                || Message::new(TopicName::parse("t").unwrap(), vec![b'x'; payload_bytes]);
            let group = if in_one { messages } else { 1 };
            for _ in 0..messages / group {
                let batch = (0..group).map(|_| message()).collect();
                let answer = log.submit(batch, PublishOptions::default());
                answer.await.unwrap().await.unwrap();
            }
            let mut left = messages;
            while left > 0 {
                let (bytes, count) = handed_out(&mut reader);
                assert!(
                    bytes.len() <= DELIVERY_BYTES || count == 1,
                    "{}",
                    bytes.len()
                );
                assert_eq!((bytes, count), delivered(&mut alone));
                left -= count;
            }
            assert_eq!(reader.position(), log.visible());
        });
    }
}
