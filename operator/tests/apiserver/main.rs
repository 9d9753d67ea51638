//! The definition of `RorunStack`, and the objects that stacks become, before a real API server: what it accepts, what it
//! refuses, and whether its users are told the way out.
//!
//! One server for all, started by the one test and stopped with it, also when a case fails. Every case has a namespace of
//! its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

#[path = "../model/answers.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod answers;
mod definition;
mod edge;
mod examples;
#[path = "../properties/generate.rs"]
mod generate;
mod model;
mod pod_templates;
mod random;
mod readable;
mod refusals;
mod released;
mod schedules;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod updates;

use server::Server;

/// Runs cases side by side.
macro_rules! cases {
    ($server:expr, $($case:path),+ $(,)?) => {
        tokio::join!($(async {
            let started = std::time::Instant::now();
            $case($server).await;
            println!("{} ... ok ({:.1} s)", stringify!($case), started.elapsed().as_secs_f32());
        }),+);
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server() {
    let server = Server::start().await;
    cases!(
        &server,
        definition::it_is_established_without_complaints,
        definition::a_new_stack_is_not_observed,
        definition::every_field_is_explained,
        definition::the_columns_tell_what_they_should,
        examples::each_is_accepted,
        examples::the_objects_of_each_are_accepted,
        examples::the_pods_of_each_are_admitted_as_restricted,
        model::the_answers_of_the_model_are_those_of_the_server,
        pod_templates::what_is_merged_is_accepted,
        pod_templates::what_is_refused_is_stored,
        random::they_and_their_objects_are_accepted,
        readable::what_is_accepted_can_be_read,
        refusals::bad_specs_are_refused_and_good_neighbours_accepted,
        refusals::bad_names_are_refused,
        refusals::unknown_and_doubled_fields_are_refused,
        schedules::the_operator_takes_what_a_cron_job_takes,
        updates::what_must_not_change_does_not,
        updates::what_may_change_does,
        edge::a_budget_changes_its_field,
        edge::hosts_and_paths_come_and_go,
        edge::a_behavior_that_is_taken_back_is_that_of_kubernetes,
    );
    refusals::every_rule_was_broken_once(&server);
}

/// On servers of their own: each changes the definition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_definition() {
    released::what_a_released_definition_admitted_can_be_edited().await;
    released::a_rule_that_locks_stacks_is_noticed().await;
}
