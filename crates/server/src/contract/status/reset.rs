//! The status of a call whose client has reset its stream, by the code of HTTP/2.

use longlived_http2::ErrorCode;
use tonic::{Code, Status};

/// As gRPC maps the codes (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors>). The client does not read it; the
/// log and the counters do.
pub(super) fn status(code: ErrorCode, text: String) -> Status {
    let code = match code {
        ErrorCode::REFUSED_STREAM => Code::Unavailable,
        ErrorCode::CANCEL => Code::Cancelled,
        ErrorCode::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        ErrorCode::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    };
    Status::new(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::status::of_request;
    use crate::transport::connection::RequestError;

    #[test]
    fn each_code_of_a_reset_has_the_status_that_grpc_gives_it() {
        for (code, expected) in [
            (ErrorCode::CANCEL, Code::Cancelled),
            (ErrorCode::REFUSED_STREAM, Code::Unavailable),
            (ErrorCode::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
            (ErrorCode::INADEQUATE_SECURITY, Code::PermissionDenied),
            (ErrorCode::NO_ERROR, Code::Internal),
            (ErrorCode::PROTOCOL_ERROR, Code::Internal),
            (ErrorCode::STREAM_CLOSED, Code::Internal),
            (ErrorCode(0xff), Code::Internal),
        ] {
            let status = of_request(&RequestError::Reset(code));
            assert_eq!(status.code(), expected, "{code}");
        }
    }
}
