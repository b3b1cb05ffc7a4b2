//! A migration that is added must be compiled in: cargo does not see files that no source names.

fn main() {
    println!("cargo::rerun-if-changed=sql/migrations");
}
