//! The wire contracts of longlived as Rust types: generated code, and the names of gRPC's status codes ([`code`]).
//!
//! - [`v1`]: `longlived.v1`, the contract of this project.
//! - [`protos`]: `protos.Longlived`, the original contract, frozen.
//!
//! Without features only the messages are there, and the names of services and methods ([`Method`]); `server` and
//! `client` add the generated services.

// Generated code follows the style of its generator.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

pub mod code;

/// The original, unversioned contract. It never changes.
pub mod protos {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

/// Version 1 of the contract.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/longlived.v1.rs"));
}

/// Both contracts as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Services and methods of both contracts, by their names.
mod methods {
    include!(concat!(env!("OUT_DIR"), "/methods.rs"));
}

pub use methods::{Method, SERVICES};
