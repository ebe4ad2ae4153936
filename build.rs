//! Compiles both contracts with protox, a compiler written in Rust, so that no protoc has to be installed.

use std::path::PathBuf;

use prost::Message as _;
use prost_types::FileDescriptorSet;

const CONTRACTS: [&str; 2] = ["protos/longlived.proto", "longlived/v1/longlived.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for contract in CONTRACTS {
        println!("cargo:rerun-if-changed=proto/{contract}");
    }
    let descriptors = protox::compile(CONTRACTS, ["proto"])?;

    // Server reflection answers from this file.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    std::fs::write(out.join("methods.rs"), methods(&descriptors))?;

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

/// The services and methods of the contracts as Rust, the newest contract first. The server routes calls by this list, so
/// that a method that is added to a contract cannot be forgotten.
fn methods(descriptors: &FileDescriptorSet) -> String {
    let contracts = CONTRACTS.iter().rev();
    let files = contracts.flat_map(|name| {
        let files = descriptors.file.iter();
        files.filter(move |file| file.name() == *name)
    });
    let mut services = Vec::new();
    // Of each method its variant, its service and its path.
    let mut methods = Vec::new();
    for file in files {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let variant = format!("{}{}", service.name(), method.name());
                let path = format!("/{full}/{}", method.name());
                methods.push((variant, full.clone(), path));
            }
            services.push(full);
        }
    }
    let each = |line: fn(&(String, String, String)) -> String| -> String {
        methods.iter().map(line).collect::<Vec<_>>().concat()
    };
    let variants = each(|(variant, _, path)| format!("/// `{path}`\n{variant},\n"));
    let of_services = each(|(variant, full, _)| format!("Self::{variant} => {full:?},\n"));
    let paths = each(|(variant, _, path)| format!("Self::{variant} => {path:?},\n"));
    let of_paths = each(|(variant, _, path)| format!("{path:?} => Self::{variant},\n"));
    let count = services.len();
    format!(
        "/// Full names of the services.\n\
         pub const SERVICES: [&str; {count}] = {services:?};\n\
         /// A method of one of the contracts.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq)]\n\
         pub enum Method {{\n{variants}}}\n\
         impl Method {{\n\
         /// The full name of its service.\n\
         pub const fn service(self) -> &'static str {{ match self {{\n{of_services}}} }}\n\
         /// Where it is called.\n\
         pub const fn path(self) -> &'static str {{ match self {{\n{paths}}} }}\n\
         /// The one that is called there.\n\
         pub fn of(path: &str) -> Option<Self> {{\n\
         Some(match path {{\n{of_paths}_ => return None,\n}})\n}}\n}}\n"
    )
}
