//! The health that Argo CD shows for a status, by the chart's check in the interpreter that Argo CD has, beside that of kstatus.

use std::{fs, process::Command};

use rorun_e2e::engine::{Cache, tools};
use rorun_operator::api::v1alpha1::{RorunStack, RorunStackStatus};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    states::Kstatus::{self, Current, Failed, InProgress},
    states::kstatus,
    support::stack,
};

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/rorun-operator/files/health.lua");

/// Takes away the libraries that Argo CD does not give a health check.
const WITHOUT_LIBRARIES: &str = "string, math, io, debug, coroutine, channel = nil, nil, nil, nil, nil, nil\n";

/// The verdict and the message for a stack with this status.
pub fn health(cr: &RorunStack, status: Option<&RorunStackStatus>) -> (String, String) {
    let mut object = serde_json::to_value(cr).unwrap();
    object["status"] = serde_json::to_value(status).unwrap();
    let check = fs::read_to_string(CHECK).unwrap();
    let script = format!(
        "{WITHOUT_LIBRARIES}obj = {}\nlocal function check()\n{check}\nend\nlocal said = check()\n\
         print(said.status)\nprint(said.message)\n",
        lua(&object)
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("check.lua");
    fs::write(&file, script).unwrap();
    let glua = tools::GLUA.path(&Cache::from_env().unwrap()).unwrap();
    let ran = Command::new(glua).arg(&file).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let (status, message) = said.split_once('\n').unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    (status.to_owned(), message.trim_end().to_owned())
}

/// The health that Argo CD shows beside this one of kstatus, as long as no user has asked the stack to wait.
pub fn shown(kstatus: &Kstatus) -> &'static str {
    match kstatus {
        InProgress => "Progressing",
        Failed => "Degraded",
        Current => "Healthy",
    }
}

/// A value as the source of Lua has it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("[{}] = {}", quoted(key), lua(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A status of that generation, with conditions such as `Ready=False NotHealthy`.
fn status(generation: i64, conditions: &[&str]) -> RorunStackStatus {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|line| {
            let (kind, rest) = line.split_once('=').unwrap();
            let (status, reason) = rest.split_once(' ').unwrap();
            json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} says \"{reason}\""),
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        })
        .collect();
    serde_json::from_value(json!({"observedGeneration": generation, "conditions": conditions})).unwrap()
}

/// A stack of generation 2: the conditions of its status, and what Argo CD and kstatus make of them.
#[rstest]
#[case::it_serves(&["Available=True Ready", "Ready=True Ready"], "Healthy", "Ready", Current)]
#[case::nothing_is_observed_yet(&[], "Progressing", "", Current)]
#[case::the_first_status(&["Ready=Unknown Progressing", "Reconciling=True Progressing"], "Progressing", "Reconciling", InProgress)]
#[case::a_release_rolls_out(&["Available=True Ready", "Ready=False Progressing", "Reconciling=True Progressing"],
    "Progressing", "Reconciling", InProgress)]
#[case::a_release_waits_for_approval(&["Available=True Ready", "Ready=False AwaitingApproval"],
    "Suspended", "Ready", InProgress)]
#[case::a_service_is_down(&["Available=True Ready", "Ready=False Unreachable"], "Progressing", "Ready", InProgress)]
#[case::a_pod_crashes(&["Available=False CrashLoop", "Ready=False CrashLoop"], "Progressing", "Ready", InProgress)]
#[case::a_migration_failed(&["Available=True Ready", "Ready=False MigrationFailed", "Stalled=True MigrationFailed"],
    "Degraded", "Stalled", Failed)]
#[case::a_release_was_rolled_back(&["Available=True Ready", "Ready=False RolledBack", "Stalled=True RolledBack"],
    "Degraded", "Stalled", Failed)]
#[case::it_is_suspended(&["Ready=True Ready", "Suspended=True Suspended"], "Suspended", "Suspended", Current)]
#[case::it_is_suspended_and_broken(&["Ready=False NameTaken", "Stalled=True NameTaken", "Suspended=True Suspended"],
    "Degraded", "Stalled", Failed)]
#[case::it_hibernates(&["Available=False ScaledToZero", "Hibernated=True Hibernated", "Ready=True ScaledToZero"],
    "Suspended", "Hibernated", Current)]
fn what_argo_cd_shows(
    #[case] conditions: &[&str],
    #[case] verdict: &str,
    #[case] speaker: &str,
    #[case] by_kstatus: Kstatus,
) {
    let mut cr = stack("shop").build();
    cr.metadata.generation = Some(2);
    let now = status(2, conditions);
    let said = health(&cr, Some(&now));
    let message = now.conditions.iter().find(|condition| condition.type_ == speaker);
    let message = message.map(|condition| condition.message.clone());
    let not_yet = "the operator has not observed this generation of the spec yet".to_owned();
    assert_eq!(said, (verdict.to_owned(), message.unwrap_or_else(|| not_yet.clone())));
    assert_eq!(kstatus(Some(2), &now), by_kstatus);

    // A status of another generation says nothing of this one.
    assert_eq!(health(&cr, Some(&status(1, conditions))), ("Progressing".to_owned(), not_yet.clone()));
    assert_eq!(health(&cr, None), ("Progressing".to_owned(), not_yet));
}

#[test]
fn a_stack_that_is_deleted_is_in_progress_until_a_user_has_to_act() {
    let mut cr = stack("shop").build();
    cr.metadata.generation = Some(3);
    cr.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let conditions = ["Ready=True Ready", "Suspended=True Suspended"];
    assert_eq!(health(&cr, Some(&status(3, &conditions))), ("Progressing".into(), "the stack is being deleted".into()));
    let conditions = ["Ready=False ConfirmationRequired", "Stalled=True ConfirmationRequired"];
    let said = health(&cr, Some(&status(3, &conditions)));
    assert_eq!(said, ("Degraded".into(), "Stalled says \"ConfirmationRequired\"".into()));
}

/// By the table of reasons: a reason that ends by itself never fails a sync, and one that needs a user always does.
#[test]
fn only_reasons_that_need_a_user_are_degraded() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conditions.md")).unwrap();
    let rows = page.split_once("## Reasons").unwrap().1.lines().filter_map(|line| line.strip_prefix("| `"));
    let cr = stack("shop").build();
    let generation = cr.metadata.generation.unwrap();
    let mut counts = [0, 0];
    for row in rows {
        let (reason, rest) = row.split_once('`').unwrap();
        let stalled = rest.starts_with(" * |");
        let (ready, stall) = (format!("Ready=False {reason}"), format!("Stalled=True {reason}"));
        let both = [ready.as_str(), stall.as_str()];
        let (verdict, _) = health(&cr, Some(&status(generation, &both[..if stalled { 2 } else { 1 }])));
        assert_eq!(verdict == "Degraded", stalled, "{reason}: {verdict}");
        counts[usize::from(stalled)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}
