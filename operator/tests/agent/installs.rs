//! The copy of the binary is the binary.

use std::process::Command;

use rorun_operator::contract;

use crate::programs;

#[test]
fn an_installed_copy_runs() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("rorun-operator");
    let install = |program: &std::ffi::OsStr| {
        programs::run(Command::new(program).args([contract::AGENT, contract::INSTALL]).arg(&path));
    };
    install(env!("CARGO_BIN_EXE_rorun-operator").as_ref());
    // Over itself, as after a restart of the init container.
    install(path.as_os_str());
    programs::run(Command::new(&path).args([contract::AGENT, "--help"]));
}
