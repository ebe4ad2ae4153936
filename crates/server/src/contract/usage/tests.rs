use futures_util::FutureExt as _;

use super::*;

const QUOTAS: Quotas = Quotas {
    streams: 2,
    filters: 10,
    publish_messages: 10,
    publish_bytes: 1_000_000,
    in_flight_bytes: 64 << 10,
};

#[tokio::test(start_paused = true)]
async fn a_second_of_the_rate_goes_at_once_and_then_no_more_than_the_rate() {
    let usage = Usage::new(QUOTAS, 1);
    let begin = Instant::now();
    let mut published = 0;
    while begin.elapsed() < Duration::from_secs(60) {
        match usage.check_publish(Instant::now()) {
            Ok(()) => {
                usage.count_published(1, 10, Instant::now());
                published += 1;
            }
            Err(refused) => {
                assert_eq!((refused.quota, refused.limit), ("publish_messages", 10));
                let wait = refused.wait.expect("it is known");
                assert!(wait <= Duration::from_millis(100), "{wait:?}");
                tokio::time::advance(wait).await;
            }
        }
    }
    assert!((609..=611).contains(&published), "{published}");
}

#[tokio::test(start_paused = true)]
async fn what_was_too_much_is_waited_for() {
    let usage = Usage::new(QUOTAS, 1);
    usage.count_published(1, 3_000_000, Instant::now());
    let wait = usage.publish_wait(Instant::now());
    assert!(
        (Duration::from_secs(2)..Duration::from_millis(2_001)).contains(&wait),
        "{wait:?}"
    );
    let refused = usage.check_publish(Instant::now()).expect_err("too much");
    assert_eq!(refused.quota, "publish_bytes");
    tokio::time::advance(wait).await;
    usage.check_publish(Instant::now()).expect("it is paid for");
}

#[tokio::test]
async fn streams_and_filters_are_counted_up_to_their_quota_and_given_back() {
    let usage = Usage::new(QUOTAS, 1);
    usage.add_stream().expect("the first");
    usage.add_stream().expect("the second");
    assert_eq!(
        usage.add_stream().expect_err("full"),
        usage.check_stream().expect_err("full")
    );
    let text = usage.add_stream().expect_err("full").to_string();
    assert_eq!(text, "the quota streams of this caller, 2, is used up");
    usage.remove_stream();
    usage.check_stream().expect("room again");
    usage.add_filters(8).expect("room");
    usage.add_filters(3).expect_err("one too many");
    usage.add_filters(2).expect("room");
    usage.remove_filters(10);
    usage.add_filters(10).expect("room again");
    usage.set_quotas(
        Quotas {
            streams: 1,
            ..QUOTAS
        },
        2,
    );
    usage.check_stream().expect_err("newer rules hold");
}

#[tokio::test]
async fn messages_in_flight_wait_for_each_other_and_one_that_is_larger_than_the_quota_goes_alone() {
    let usage = Usage::new(QUOTAS, 1);
    let first = usage.try_in_flight(40 << 10).expect("room");
    usage.try_in_flight(40 << 10).expect_err("too much");
    let mut large = Box::pin(usage.clone().in_flight(1 << 30));
    assert!((&mut large).now_or_never().is_none());
    drop(first);
    let large = large.await;
    usage.try_in_flight(1).expect_err("it goes alone");
    drop(large);
    usage.try_in_flight(64 << 10).expect("all is given back");
}

#[tokio::test]
async fn a_smaller_quota_of_bytes_in_flight_holds_as_they_come_back_and_older_rules_change_nothing()
{
    let usage = Usage::new(QUOTAS, 1);
    let all = usage.try_in_flight(64 << 10).expect("room");
    let of = |in_flight_bytes| Quotas {
        in_flight_bytes,
        ..QUOTAS
    };
    usage.set_quotas(of(8 << 10), 2);
    usage.set_quotas(of(64 << 10), 3);
    usage.set_quotas(of(16 << 10), 4);
    usage.set_quotas(of(1 << 30), 3);
    drop(all);
    let most = usage.try_in_flight(16 << 10).expect("room");
    usage.try_in_flight(1).expect_err("no more than that");
    drop(most);
    usage.set_quotas(of(64 << 10), 5);
    let _most = usage.try_in_flight(64 << 10).expect("room");
    usage.try_in_flight(1).expect_err("no more than that");
}
