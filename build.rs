//! Compiles both contracts with protox, a compiler written in Rust, so that no protoc has to be installed.

use std::path::PathBuf;

use prost::Message as _;

const CONTRACTS: [&str; 2] = ["protos/longlived.proto", "longlived/v1/longlived.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for contract in CONTRACTS {
        println!("cargo:rerun-if-changed=proto/{contract}");
    }
    let descriptors = protox::compile(CONTRACTS, ["proto"])?;

    // Server reflection answers from this file.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // Payloads are handed on without a copy.
        .bytes(".longlived.v1")
        // One order of headers and labels, so that equal messages have equal bytes.
        .btree_map(".")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
