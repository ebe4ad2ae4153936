//! A generated service behind the layers, called by a generated client.

use std::time::Duration;

use longlived_server::testkit::{Drain, Layers};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::Layer;

use super::support::{node_of, within};

#[tokio::test]
async fn unary_calls_and_streams_of_generated_code_pass() {
    let drain = Drain::new();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("test", ServingStatus::Serving)
        .await;
    let layers = Layers::new(|| 1, drain.clone(), || Duration::ZERO);
    let (node, _guard) = node_of(layers.layer(service), drain.clone());

    let channel = Endpoint::from_shared(format!("http://{node}")).expect("an address");
    let mut client = HealthClient::new(
        within("a step", channel.connect())
            .await
            .expect("it listens"),
    );
    let request = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = within("a step", client.check(request("test")))
        .await
        .expect("it is known");
    assert!(answer.metadata().get("x-request-id").is_some());
    assert_eq!(answer.into_inner().status, ServingStatus::Serving as i32);
    let unknown = within("a step", client.check(request("other")))
        .await
        .expect_err("it is not known");
    assert_eq!(unknown.code(), Code::NotFound);

    let mut watch = within("a step", client.watch(request("test")))
        .await
        .expect("it is known")
        .into_inner();
    assert!(
        within("a step", watch.message())
            .await
            .expect("no error")
            .is_some()
    );
    drain.begin();
    reporter
        .set_service_status("test", ServingStatus::NotServing)
        .await;
    let changed = within("a step", watch.message())
        .await
        .expect("no error")
        .expect("it goes on while draining");
    assert_eq!(changed.status, ServingStatus::NotServing as i32);

    let mut timed = tonic::Request::new(request("test"));
    timed.set_timeout(Duration::from_millis(200));
    let mut watch = within("a step", client.watch(timed))
        .await
        .expect("it is known")
        .into_inner();
    let ended = loop {
        match within("a step", watch.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    // The client's own timer may be first, which it calls CANCELLED.
    assert!(
        matches!(ended, Some(Code::DeadlineExceeded | Code::Cancelled)),
        "{ended:?}"
    );
}
