//! How the static binary copies memory: every length, at every distance.

#![cfg(target_arch = "x86_64")]

use std::process::Command;

#[test]
fn every_byte_is_copied_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("check");
    let (source, target) = (concat!(env!("CARGO_MANIFEST_DIR"), "/native/check.c"), "x86_64-unknown-linux-gnu");
    let mut build = cc::Build::new();
    build.target(target).host(target).opt_level(2).cargo_metadata(false);
    build.flags(["-fno-builtin", "-fno-tree-loop-distribute-patterns"]);
    let compiled = build.get_compiler().to_command().arg(source).arg("-o").arg(&program).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let checked = Command::new(&program).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
