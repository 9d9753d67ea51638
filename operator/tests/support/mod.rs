//! What tests of the pure steps start from: stacks, what was observed, and what is there when all is well.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod fixture;
mod live;
mod observed;

use std::path::{Path, PathBuf};

use rorun_operator::{
    api::v1alpha1::RorunStack,
    desired,
    objects::DesiredObject,
    stack::{self, JobPhase, Observed, Stack},
};
use serde_json::Value;

pub use fixture::{Fixture, stack};
pub use live::all_ready;
pub use observed::{AGENT_IMAGE, CANARY, all_there, answering, nothing_there};

/// The folder of the examples.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Whether an example is one of a stack, and not of what is asked of one.
pub fn is_of_stack(path: &Path) -> bool {
    std::fs::read_to_string(path).unwrap().lines().find_map(|line| line.strip_prefix("kind: ")) == Some("RorunStack")
}

/// Reads an example, as the API server would store it in a namespace.
pub fn example(path: &Path) -> RorunStack {
    let text = std::fs::read_to_string(path).unwrap();
    let mut cr: RorunStack =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fixture::store(&mut cr);
    cr
}

/// A valid stack for which everything is there and answers.
pub fn valid(cr: &RorunStack) -> Stack {
    valid_with(cr, &all_there(cr))
}

/// As [`valid`], with something else observed.
pub fn valid_with(cr: &RorunStack, observed: &Observed) -> Stack {
    let mut stack = stack::validate(cr, observed);
    stack.probes = answering(&stack);
    // The Job that asks from the place of the pods found nothing wrong.
    for asked in stack.from_pods.iter_mut().filter(|asked| asked.phase.is_none()) {
        asked.phase = Some(JobPhase::Complete);
    }
    stack
}

/// The objects of a stack for which everything is there and answers.
pub fn objects(cr: &RorunStack) -> Vec<DesiredObject> {
    desired::everything(&valid(cr), &rorun_operator::plan::Plan::default())
}

/// The pod template of an object that has one.
pub fn template(object: &DesiredObject) -> Option<&Value> {
    let pointer = match object.kind.kind {
        "Deployment" | "StatefulSet" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.body.pointer(pointer)
}

/// Every container of a template, those that run first included.
pub fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers"].into_iter().flat_map(|list| items(template, list))
}

/// The items of a list that may be absent.
pub fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A text that may be absent.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}
