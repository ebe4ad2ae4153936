//! Many clients, one verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use longlived_api::protos;
use longlived_api::v1;
use longlived_api::v1::subscribe_response::Frame;
use longlived_api::v1::welcome::Outcome::{New, Reset, Resumed};
use longlived_client::Position;
use longlived_client::fleet::{Contract, Fleet, FleetConfig, Show, What};
use longlived_testkit::wait::until_so;
use tokio::time::timeout;
use tonic::Code;

use crate::scripted::{Call, PATIENCE, Server};

const EPOCH: u64 = 7;

fn config(clients: u32) -> FleetConfig {
    FleetConfig {
        clients,
        stagger: Duration::ZERO,
        topics: vec!["t".to_owned()],
        audit: vec!["t".to_owned()],
        show: Show::States,
        ..FleetConfig::default()
    }
}

/// The streams of all clients, by their ids.
async fn streams(server: &mut Server, clients: usize) -> BTreeMap<String, Call> {
    let mut streams = BTreeMap::new();
    for _ in 0..clients {
        let (request, call) = server.subscribe().await;
        streams.insert(request.subscriber_id, call);
    }
    streams
}

/// Answers every Unsubscribe and ends its stream with OK.
async fn unsubscribe_all(server: &mut Server, mut streams: BTreeMap<String, Call>) {
    while !streams.is_empty() {
        let mut call = server.call().await;
        let request: v1::UnsubscribeRequest = call.message().await.unwrap();
        let mut stream = streams
            .remove(&request.subscriber_id)
            .expect("a stream of this id");
        stream.end(Code::Ok);
        call.send(&v1::UnsubscribeResponse { position: None });
        call.end(Code::Ok);
    }
}

async fn delivered(fleet: &Fleet, count: u64) {
    until_so("all are delivered", || fleet.snapshot().delivered >= count).await;
}

#[tokio::test]
async fn a_fleet_that_lost_nothing_survives() {
    let mut server = Server::start().await;
    let mut fleet = Fleet::start(server.client().build().unwrap(), config(3));
    let mut first = streams(&mut server, 3).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["1", "2", "3"]);
    for call in first.values_mut() {
        call.welcome(New, EPOCH, 0);
        call.event(1);
    }
    delivered(&fleet, 3).await;
    let snapshot = fleet.snapshot();
    assert_eq!(
        (snapshot.clients, snapshot.connected, snapshot.reconnecting),
        (3, 3, 0)
    );
    for call in first.values_mut() {
        call.end(Code::Unavailable);
    }
    let mut second = streams(&mut server, 3).await;
    for call in second.values_mut() {
        call.welcome(Resumed, EPOCH, 1);
        call.event(2);
    }
    delivered(&fleet, 6).await;
    for sequence in [1, 2] {
        fleet.acknowledged(Position::new(EPOCH, sequence), "t");
    }
    assert_eq!(fleet.outstanding(), 0);
    fleet.leave();
    let mut told = BTreeMap::<&str, u32>::new();
    let tell = async {
        while let Some(happening) = fleet.next_happening().await {
            *told
                .entry(match happening.what {
                    What::Subscribed => "subscribed",
                    What::BackingOff {
                        had_stream: true, ..
                    } => "lost",
                    What::Resubscribed { .. } => "resubscribed",
                    What::Unsubscribed { ok: true } => "unsubscribed",
                    other => panic!("{other:?}"),
                })
                .or_default() += 1;
        }
    };
    tokio::join!(tell, unsubscribe_all(&mut server, second));
    assert!(
        told.values().all(|count| *count == 3) && told.len() == 4,
        "{told:?}"
    );
    let verdict = fleet.stop().await;
    assert!(verdict.survived(), "{verdict:?}");
    assert_eq!(
        (
            verdict.delivered,
            verdict.reconnects,
            verdict.unsubscribed_ok
        ),
        (6, 3, 3)
    );
    assert_eq!(
        (verdict.lost, verdict.repeated, verdict.gaps),
        (Some(0), Some(0), 0)
    );
    assert_eq!((verdict.never_delivered, verdict.acknowledged), (0, 2));
    assert!(verdict.recover_p50.is_some() && verdict.recover_max >= verdict.recover_p50);
}

#[tokio::test]
async fn an_acknowledged_message_that_is_neither_delivered_nor_announced_is_lost() {
    let mut server = Server::start().await;
    let fleet = Fleet::start(server.client().build().unwrap(), config(2));
    let mut first = streams(&mut server, 2).await;
    for call in first.values_mut() {
        call.welcome(New, EPOCH, 0);
        call.event(1);
    }
    delivered(&fleet, 2).await;
    for sequence in [1, 2] {
        fleet.acknowledged(Position::new(EPOCH, sequence), "t");
    }
    // The server starts again with an empty history, and only client 1 hears of the gap.
    for call in first.values_mut() {
        call.kill_connection();
    }
    let mut second = streams(&mut server, 2).await;
    for (id, call) in &mut second {
        call.welcome(Reset, 8, 0);
        if id == "1" {
            call.frame(Frame::Gap(v1::Gap {
                reason: v1::gap::Reason::EpochChanged.into(),
                after_sequence: 1,
                through_sequence: 0,
                events: 0,
                through_epoch: 8,
            }));
        }
        call.event_after(1, 0);
    }
    delivered(&fleet, 4).await;
    fleet.acknowledged(Position::new(8, 1), "t");
    assert_eq!(fleet.outstanding(), 1);
    let (verdict, ()) = tokio::join!(fleet.stop(), unsubscribe_all(&mut server, second));
    assert_eq!(verdict.lost, Some(1), "{verdict:?}");
    assert_eq!(verdict.per_client[0].lost, Some(0));
    assert_eq!(verdict.per_client[1].lost, Some(1));
    assert_eq!(verdict.gaps, 1);
    assert!(!verdict.is_clean());
}

#[tokio::test]
async fn a_fleet_whose_server_is_gone_stops_without_its_ok() {
    let mut server = Server::start().await;
    let fleet = Fleet::start(server.client().build().unwrap(), config(2));
    let mut first = streams(&mut server, 2).await;
    for call in first.values_mut() {
        call.welcome(New, EPOCH, 0);
        call.event(1);
    }
    delivered(&fleet, 2).await;
    server.kill().await;
    let verdict = timeout(PATIENCE, fleet.stop()).await.unwrap();
    assert_eq!((verdict.clients, verdict.unsubscribed_ok), (2, 0));
    assert_eq!(verdict.delivered, 2);
    assert!(verdict.is_clean());
}

#[tokio::test]
async fn a_client_that_never_came_so_far_leaves_no_clean_verdict() {
    let mut server = Server::start().await;
    // The second would start long after the end.
    let config = FleetConfig {
        stagger: Duration::from_secs(3_600),
        ..config(2)
    };
    let fleet = Fleet::start(server.client().build().unwrap(), config);
    let mut first = streams(&mut server, 1).await;
    for call in first.values_mut() {
        call.welcome(New, EPOCH, 0);
        call.event(1);
    }
    delivered(&fleet, 1).await;
    let (verdict, ()) = tokio::join!(fleet.stop(), unsubscribe_all(&mut server, first));
    assert_eq!((verdict.clients, verdict.never_current), (2, 1));
    assert_eq!((verdict.lost, verdict.repeated), (Some(0), Some(0)));
    assert!(!verdict.is_clean(), "{verdict:?}");
}

#[tokio::test]
async fn a_client_that_was_taken_over_leaves_no_clean_verdict() {
    let mut server = Server::start().await;
    let fleet = Fleet::start(server.client().build().unwrap(), config(2));
    let mut first = streams(&mut server, 2).await;
    for call in first.values_mut() {
        call.welcome(New, EPOCH, 0);
        call.event(1);
    }
    delivered(&fleet, 2).await;
    first.remove("1").unwrap().end(Code::Aborted);
    until_so("client 1 ends", || fleet.snapshot().ended > 0).await;
    let (verdict, ()) = tokio::join!(fleet.stop(), unsubscribe_all(&mut server, first));
    assert_eq!((verdict.failed, verdict.never_current), (1, 0));
    assert!(!verdict.is_clean(), "{verdict:?}");
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_left_in_time() {
    let mut server = Server::start().await;
    let config = FleetConfig {
        stop_timeout: Duration::from_millis(200),
        ..config(2)
    };
    let fleet = Fleet::start(server.client().build().unwrap(), config);
    let mut first = streams(&mut server, 2).await;
    for call in first.values_mut() {
        call.welcome(New, EPOCH, 0);
        call.event(1);
    }
    delivered(&fleet, 2).await;
    let verdict = timeout(Duration::from_secs(2), fleet.stop()).await.unwrap();
    assert_eq!((verdict.delivered, verdict.unsubscribed_ok), (2, 0));
    assert_eq!(verdict.clients, 2);
}

#[tokio::test]
async fn each_client_follows_its_own_inbox_unless_told_otherwise() {
    let mut server = Server::start().await;
    let config = FleetConfig {
        clients: 2,
        stagger: Duration::ZERO,
        ..FleetConfig::default()
    };
    let _fleet = Fleet::start(server.client().build().unwrap(), config);
    for _ in 0..2 {
        let (request, _call) = server.subscribe().await;
        let filters: Vec<_> = request
            .subscriptions
            .iter()
            .map(|subscription| subscription.topic_filter.clone())
            .collect();
        assert_eq!(filters, [format!("inbox.{}", request.subscriber_id)]);
    }
}

#[tokio::test]
async fn the_frozen_contract_counts_and_claims_nothing() {
    let mut server = Server::start().await;
    let config = FleetConfig {
        contract: Contract::Protos,
        ..config(1)
    };
    let fleet = Fleet::start(server.client().build().unwrap(), config);
    let mut stream = server.call().await;
    assert_eq!(stream.path, "/protos.Longlived/Subscribe");
    stream.send(&protos::Response {
        data: "data mock for: 1".to_owned(),
    });
    delivered(&fleet, 1).await;
    let (verdict, ()) = tokio::join!(fleet.stop(), async {
        let mut call = server.call().await;
        assert_eq!(call.path, "/protos.Longlived/Unsubscribe");
        stream.end(Code::Ok);
        call.send(&protos::Response::default());
        call.end(Code::Ok);
    });
    assert_eq!((verdict.delivered, verdict.unsubscribed_ok), (1, 1));
    assert_eq!((verdict.lost, verdict.repeated), (None, None));
    assert!(verdict.is_clean());
}
