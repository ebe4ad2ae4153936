//! The details that every status of `longlived.v1` carries.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The reason of a status and its metadata. Every status has both, and at most one time to come back.
pub fn cause(status: &Status) -> tonic_types::ErrorInfo {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "longlived");
    let told = status.get_details_retry_info();
    let told = told.map(|told| told.retry_delay.expect("a time").as_millis());
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.map(|ms| ms.to_str().expect("ASCII").parse().expect("a number"));
    assert_eq!(told, pushback, "{status:?}");
    info
}

/// The status, which gives a reason.
pub fn told(status: Status) -> Status {
    cause(&status);
    status
}

/// The code, and all of these parts in the text.
pub fn assert_says(status: &Status, code: Code, parts: &[&str]) {
    assert_eq!(status.code(), code, "{status:?}");
    for part in parts {
        assert!(
            status.message().contains(part),
            "`{part}` is not in `{}`",
            status.message()
        );
    }
}
