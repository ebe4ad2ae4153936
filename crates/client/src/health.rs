//! Asks whether a server serves, by gRPC's own health service.

use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::Client;
use crate::pool::Lane;
use crate::unary::{self, CallError};

/// The health of a server or of one of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes calls.
    Serving,
    /// It takes none at present.
    NotServing,
    /// It does not know.
    Unknown,
}

impl Client {
    /// Asks whether the server serves, or one of its services when `service` names one
    /// (`grpc.health.v1.Health/Check`).
    pub async fn health(&self, service: &str, timeout: Duration) -> Result<Health, CallError> {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = unary::call(
            self,
            Lane::Unary,
            &request,
            timeout,
            |wire, request| async move { HealthClient::new(wire).check(request).await },
        );
        let answer = answer.await.map_err(|failed| failed.error)?;
        Ok(match answer.status() {
            ServingStatus::Serving => Health::Serving,
            ServingStatus::NotServing => Health::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => Health::Unknown,
        })
    }
}
