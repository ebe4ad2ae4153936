//! Builds the hub of `benches/peers/grpc-go` with this machine's Go.
//!
//! Holds: the hub is built from the sources and the contract that this program was built with. Everything is written
//! into the folder that is given, and into Go's own caches.
//! Does not: install Go.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use longlived_api::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::compiler::{CodeGeneratorRequest, CodeGeneratorResponse};

const SOURCES: [(&str, &str); 4] = [
    (
        "go.mod",
        include_str!("../../../../benches/peers/grpc-go/go.mod"),
    ),
    (
        "go.sum",
        include_str!("../../../../benches/peers/grpc-go/go.sum"),
    ),
    (
        "hub.go",
        include_str!("../../../../benches/peers/grpc-go/hub.go"),
    ),
    (
        "main.go",
        include_str!("../../../../benches/peers/grpc-go/main.go"),
    ),
];
const CONTRACT: &str = "longlived/v1/longlived.proto";
/// What the contract imports.
const WELL_KNOWN: &str = "google/protobuf/";
/// The module of `go.mod`, and the package in it that is generated from the contract.
const PARAMETER: &str =
    "module=longlived.test/hub,Mlonglived/v1/longlived.proto=longlived.test/hub/longlivedv1";
/// The messages, and the services.
const GENERATORS: [&str; 2] = ["protoc-gen-go", "protoc-gen-go-grpc"];

/// Builds the hub in an empty folder; the program, or why there is none.
pub(super) fn build(go: &Path, folder: &Path) -> Result<PathBuf, String> {
    for (name, text) in SOURCES {
        write(&folder.join(name), text)?;
    }
    let go = Go { go, folder };
    go.run(&["mod", "download"], Stdio::null())
        .map_err(|why| format!("its modules cannot be had: {why}"))?;
    generate(&go).map_err(|why| format!("the contract's code cannot be generated: {why}"))?;
    let build = ["build", "-trimpath", "-o", "hub", "."];
    go.run(&build, Stdio::null())
        .map_err(|why| format!("it cannot be built: {why}"))?;
    Ok(folder.join("hub"))
}

/// Generates the contract's Go code as protoc would have it done.
fn generate(go: &Go<'_>) -> Result<(), String> {
    let asked = go.folder.join("contract.binpb");
    fs::write(&asked, request().encode_to_vec()).map_err(|error| error.to_string())?;
    for generator in GENERATORS {
        let input = File::open(&asked).map_err(|error| error.to_string())?;
        let answer = go.run(&["tool", generator], input.into())?;
        let answer = CodeGeneratorResponse::decode(answer.as_slice())
            .map_err(|error| format!("{generator}: {error}"))?;
        if let Some(why) = answer.error {
            return Err(format!("{generator}: {why}"));
        }
        for file in &answer.file {
            write(&go.folder.join(file.name()), file.content())?;
        }
    }
    Ok(())
}

fn request() -> CodeGeneratorRequest {
    let contracts = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
        .expect("the crate of the contracts has valid descriptors");
    let mut files = contracts.file;
    // The frozen contract has no package of Go.
    files.retain(|file| file.name() == CONTRACT || file.name().starts_with(WELL_KNOWN));
    CodeGeneratorRequest {
        file_to_generate: vec![CONTRACT.to_owned()],
        parameter: Some(PARAMETER.to_owned()),
        proto_file: files,
        ..CodeGeneratorRequest::default()
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The command `go` in the hub's module.
struct Go<'a> {
    go: &'a Path,
    folder: &'a Path,
}

impl Go<'_> {
    /// Its standard output, or the last that it said.
    fn run(&self, words: &[&str], input: Stdio) -> Result<Vec<u8>, String> {
        let ended = Command::new(self.go)
            .args(words)
            .current_dir(self.folder)
            // What its user has set for other modules.
            .env_remove("GOFLAGS")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .stdin(input)
            .output()
            .map_err(|error| format!("{}: {error}", self.go.display()))?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let said = said.lines().rev().find(|line| !line.trim().is_empty());
        let said = said.unwrap_or("it says nothing").trim();
        Err(format!("go {}: {said}", words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_go_that_fails_is_quoted() {
        let (program, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let nothing = program.path().join("go");
        let why = build(&nothing, folder.path()).unwrap_err();
        assert!(why.starts_with("its modules cannot be had: "), "{why}");
        assert!(why.contains("No such file"), "{why}");
        // There are no files of these names to list.
        let why = build(Path::new("/usr/bin/ls"), folder.path()).unwrap_err();
        let (_, said) = why.split_once("go mod download: ").unwrap();
        assert!(said.contains("download"), "{why}");
    }

    #[test]
    fn generators_are_given_the_contract_after_what_it_imports() {
        let names = request().proto_file;
        let names: Vec<_> = names.iter().map(|file| file.name().to_owned()).collect();
        let (contract, imported) = names.split_last().unwrap();
        assert_eq!(contract, CONTRACT);
        assert!(imported.iter().all(|name| name.starts_with(WELL_KNOWN)));
        assert_eq!(imported.len(), 2, "{imported:?}");
    }
}
