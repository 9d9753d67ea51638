//! How long the pure part takes. Printed, not asserted: the machine is shared.

use std::time::Instant;

use rorun_operator::{api::v1alpha1::RorunStack, cli::render};
use serde_json::json;

use super::room::{Room, development};

pub async fn rendering_is_quick(_: &Room) {
    let stack: RorunStack = serde_json::from_value(json!({
        "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop"}, "spec": development(),
    }))
    .expect("a stack");
    let rounds = 200;
    let started = Instant::now();
    let objects: usize = (0..rounds).map(|_| render::render(&stack).expect("objects").len()).sum();
    let each = started.elapsed() / rounds;
    println!("rendering one stack of {} objects: {each:?} (debug build)", objects / rounds as usize);
}
