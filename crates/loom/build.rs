//! Compiles this package, and no other, with `cfg(loom)`: tests that need the real types are left out.

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
}
