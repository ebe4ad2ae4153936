//! SIGKILL and a new start on the same port: subscribers come back and are told of the lost events.

use longlived_api::{
    protos,
    v1::{self, gap::Reason, welcome::Outcome},
};

use super::support::{Frame, Server, Stream, request, until, within};

/// The state of a subscriber between its streams.
struct Subscriber {
    id: String,
    after: v1::Position,
    stream: Stream,
}

impl Subscriber {
    async fn subscribe(server: &Server, id: String) -> Self {
        let (stream, welcome) = server.open(request(&id, &["news.>"])).await;
        Self {
            id,
            after: welcome.position.expect("a position"),
            stream,
        }
    }

    async fn event(&mut self) -> v1::Event {
        let event = self.stream.event().await;
        self.after.sequence = event.sequence;
        event
    }

    fn resume(&self) -> v1::SubscribeRequest {
        v1::SubscribeRequest {
            resume_after: Some(self.after),
            ..request(&self.id, &["news.>"])
        }
    }
}

#[tokio::test]
async fn subscribers_of_a_killed_server_come_back_to_a_new_epoch_with_a_gap() {
    let mut server = Server::start(&[]).await;
    let mut subscribers = Vec::new();
    for n in 0..10 {
        subscribers.push(Subscriber::subscribe(&server, format!("s-{n}")).await);
    }
    for n in 1..=3 {
        let sequence = server.publish("news.local", "x").await;
        assert_eq!(sequence.expect("it is stored"), n);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.event().await.sequence, n);
        }
    }
    server.kill().await;
    for subscriber in &mut subscribers {
        let end = subscriber.stream.next().await.expect_err("it was killed");
        end.expect_err("no OK without a word");
    }
    let refused = server.subscribe(subscribers[0].resume()).await;
    refused.err().expect("nobody listens");

    let server = Server::start_on(server.address, &[]).await;
    let first = server.publish("news.local", "after").await;
    assert_eq!(first.expect("it is stored"), 1, "numbers begin again");
    for subscriber in &mut subscribers {
        let (mut stream, welcome) = server.open(subscriber.resume()).await;
        assert_eq!(welcome.outcome(), Outcome::Reset);
        assert_eq!(welcome.position, Some(subscriber.after));
        let at = v1::Position {
            epoch: welcome.epoch,
            sequence: 0,
        };
        assert_ne!(at.epoch, subscriber.after.epoch);
        match stream.frame().await {
            Frame::Gap(gap) => {
                assert_eq!(gap.reason(), Reason::EpochChanged);
                assert_eq!((gap.after_sequence, gap.through_sequence), (3, 0));
                assert_eq!((gap.through_epoch, gap.events), (at.epoch, 0));
            }
            other => panic!("{other:?}"),
        }
        let event = stream.event().await;
        assert_eq!((event.sequence, &event.payload[..]), (1, &b"after"[..]));
        match stream.frame().await {
            Frame::Progress(progress) => assert!(progress.current),
            other => panic!("{other:?}"),
        }
        subscriber.after = at;
        subscriber.stream = stream;
    }
    server.publish("news.world", "live").await.expect("stored");
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.event().await.sequence, 2);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_starts_at_once_on_its_port() {
    let mut server = Server::start(&[]).await;
    let address = server.address;
    let mut epochs = Vec::new();
    for _ in 0..4 {
        // Open connections leave the port in TIME_WAIT or worse.
        let (mut stream, welcome) = server.open(request("s", &["t"])).await;
        epochs.push(welcome.position.expect("a position").epoch);
        server.kill().await;
        let end = stream.next().await.expect_err("it was killed");
        end.expect_err("no OK without a word");
        server = Server::start_on(address, &[]).await;
        assert_eq!(server.address, address);
    }
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 4, "each start is a new history");
}

#[tokio::test]
async fn a_program_of_the_frozen_contract_is_served_across_a_kill() {
    let every = ["--generate-every", "50ms"];
    let mut server = Server::start(&every).await;
    for round in 0..2 {
        let channel = server.channel();
        let mut client = protos::longlived_client::LonglivedClient::new(channel);
        let mut stream = until("it subscribes", async || {
            let answer = client.subscribe(protos::Request { id: 1 }).await;
            answer.ok().map(tonic::Response::into_inner)
        })
        .await;
        for _ in 0..2 {
            let next = within("a tick", stream.message()).await;
            let next = next.expect("no error").expect("the stream goes on");
            assert_eq!(next.data, "data mock for: 1");
        }
        if round == 0 {
            server.kill().await;
            while within("the end", stream.message())
                .await
                .is_ok_and(|it| it.is_some())
            {}
            server = Server::start_on(server.address, &every).await;
        }
    }
}
