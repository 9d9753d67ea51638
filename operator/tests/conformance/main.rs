//! The API server in memory that `tests/model` runs the operator against, checked against the real one: the same operations
//! must get the same answers, and leave the same objects with the same field managers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

#[path = "../model/api/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each test binary uses its part")]
mod api;
mod children;
mod operations;
mod pair;
#[path = "../support/mod.rs"]
mod support;
mod watches;

use pair::Pair;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_answers_as_the_real_api_server() {
    let pair = Pair::open().await;
    let before = pair.revisions().await;
    operations::sequences_get_the_same_answers(&pair).await;
    watches::lists_and_watches_tell_the_same(&pair, &before).await;
    children::objects_of_the_examples_have_the_same_managers(&pair).await;
}
