//! The voice of a publisher in each protocol.
//!
//! - [`grpc`]: `PublishStream`, within the server's windows.
//! - [`plain`]: Redis, NATS and the bare sender, which have no windows.

mod grpc;
mod plain;

use self::grpc::Grpc;
use self::plain::{Nats, Records, Resp};
use super::authorization::Authorization;
use super::control::{Plan, Protocol};
use super::voice::Voice;

/// The plan's, and the bytes that a connection begins with.
pub(super) fn open(
    plan: &Plan,
    authorization: &Authorization,
    in_flight_max: u64,
    out: &mut Vec<u8>,
) -> Box<dyn Voice> {
    match plan.protocol {
        Protocol::Grpc => Box::new(Grpc::open(plan, authorization, out)),
        Protocol::Resp => Box::new(Resp::default()),
        Protocol::Nats => Box::new(Nats::open(in_flight_max, out)),
        Protocol::Records { bytes } => Box::new(Records::open(bytes as usize, out)),
    }
}
