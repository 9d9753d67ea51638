//! Compiles what the static binary copies memory with: `native/memmove.c` says why.

use std::env;

#[expect(clippy::disallowed_methods, reason = "so cargo tells a build script what it builds for")]
fn main() {
    println!("cargo::rerun-if-changed=native");
    let target = |part: &str| env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if target("ENV") == "musl" && target("ARCH") == "x86_64" {
        // A loop that copies is not to become a call of the function that it is in, by clang (the first) or gcc (the second).
        // Whole, so that musl's is never asked for.
        let mut build = cc::Build::new();
        build.file("native/memmove.c").opt_level(2).flags(["-fno-builtin", "-fno-tree-loop-distribute-patterns"]);
        build.link_lib_modifier("+whole-archive").compile("memmove");
    }
}
