//! `grpc.health.v1.Health`, as its specification says it: a watch of a service that is not known says SERVICE_UNKNOWN
//! and stays, while the published implementation ends it. Everything else is that implementation's.

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tonic::{Code, Request, Response, Status};
use tonic_health::{
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

/// Tells the statuses of the reporter.
pub(super) fn service(reporter: &HealthReporter) -> HealthServer<impl Health> {
    let service = HealthService::from_health_reporter(reporter.clone());
    HealthServer::new(AllWatched(service))
}

struct AllWatched(HealthService);

#[tonic::async_trait]
impl Health for AllWatched {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        match self.0.watch(request).await {
            Ok(known) => Ok(known.map(futures_util::StreamExt::boxed)),
            // The services of a node are known from its begin: this one never will be.
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: ServingStatus::ServiceUnknown.into(),
                };
                let unknown = stream::iter([Ok(unknown)]).chain(stream::pending());
                Ok(Response::new(unknown.boxed()))
            }
            Err(status) => Err(status),
        }
    }
}
