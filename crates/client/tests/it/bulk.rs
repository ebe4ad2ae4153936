//! Messages that are sent as one call and answered once.

use longlived_api::v1;
use longlived_client::{BulkError, CallError, Message, Position};
use tokio_stream::Stream;
use tonic::Code;

use crate::scripted::Server;

const EPOCH: u64 = 7;

fn file() -> impl Stream<Item = Message> + Send + 'static {
    tokio_stream::iter((1..=3).map(|line| Message::new("t", format!("line {line}"))))
}

#[tokio::test]
async fn a_bulk_is_sent_to_its_end_and_answered_once() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let (answer, ()) = tokio::join!(publisher.bulk(file()), async {
        let mut call = server.call().await;
        assert_eq!(call.path, "/longlived.v1.PublishService/BulkPublish");
        let mut count = 0;
        while call.message::<v1::PublishRequest>().await.is_some() {
            count += 1;
        }
        call.send(&v1::BulkPublishResponse {
            published: count,
            duplicates: 0,
            last_position: Some(v1::Position {
                epoch: EPOCH,
                sequence: 3,
            }),
            durability: v1::Durability::Memory.into(),
        });
        call.end(Code::Ok);
    });
    let answer = answer.unwrap();
    assert_eq!(
        (answer.published, answer.last_position),
        (3, Some(Position::new(EPOCH, 3)))
    );
}

#[tokio::test]
async fn a_bulk_that_is_refused_says_how_far_it_came() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let (answer, ()) = tokio::join!(publisher.bulk(file()), async {
        let mut call = server.call().await;
        call.end_with(Code::ResourceExhausted, &[("longlived-published", "2")]);
    });
    let error: BulkError = answer.unwrap_err();
    assert_eq!(error.published, Some(2));
    assert!(matches!(error.cause, CallError::Refused(_)));

    let (answer, ()) = tokio::join!(publisher.bulk(file()), async {
        server.call().await.kill_connection();
    });
    assert_eq!(answer.unwrap_err().published, None);
}
