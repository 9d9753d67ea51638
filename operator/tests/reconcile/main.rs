//! The released binary against a real API server, without pods: what it calls, what it repairs, what it must never do.
//!
//! Every case has a namespace of its own, and calls are counted by namespace in the audit log.

mod attempts;
mod aws;
mod backups;
mod cloud_native_pg;
mod commands;
mod conditions;
mod corrections;
mod counts;
mod credentials;
mod data;
mod database_files;
mod drift;
mod env;
mod gitops;
mod moments;
mod operations;
mod optional;
mod pod_templates;
mod point_in_time;
mod preflights;
mod releases;
mod requests;
mod restarts;
mod restores;
mod rules;
mod sanitizes;
mod services;
mod sources;
mod volumes;

#[path = "../agent/process.rs"]
#[expect(clippy::panic, reason = "this is how a test fails; clippy sees tests only in `#[test]` functions")]
#[allow(dead_code, reason = "each test binary uses its part")]
mod process;
#[path = "../agent/programs.rs"]
#[expect(clippy::panic, reason = "this is how a test fails; clippy sees tests only in `#[test]` functions")]
#[allow(dead_code, reason = "each test binary uses its part")]
mod programs;
#[path = "../agent/servers.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod servers;

use env::TestEnv;
use tokio::runtime::Handle;

/// Runs cases side by side, each in a namespace of its own.
macro_rules! cases {
    ($env:expr, $($case:path),+ $(,)?) => {
        tokio::join!($(async {
            let started = std::time::Instant::now();
            $case($env).await;
            println!("{} ... ok ({:.1} s)", stringify!($case), started.elapsed().as_secs_f32());
        }),+);
    };
}

/// Tests begin in the order of their names: this one lasts longest, and would run alone at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_binary() {
    let env = TestEnv::open().await;
    let operator = env.operator().await;
    // Alone: on a busy machine a status may come before the watch shows what was just written, and one more is told then.
    counts::what_the_operator_calls(&env, &operator).await;
    let beside = tokio::task::spawn_blocking(|| Handle::current().block_on(one_operator_after_the_other()));
    cases!(
        &env,
        counts::a_stack_without_data_costs_one_write_to_delete,
        drift::every_kind_is_repaired_with_one_write,
        drift::a_foreign_object_is_refused_and_left_alone,
        drift::what_the_spec_leaves_out_is_pruned_and_nothing_else,
        drift::the_autoscaler_takes_over_and_gives_back_without_a_jump,
        drift::a_suspended_stack_is_left_as_it_is,
        conditions::refused_pods_of_a_stateful_set_are_told_in_the_words_of_the_server,
        conditions::a_class_that_does_not_exist_is_told_until_it_does,
        conditions::an_autoscaler_begins_at_its_fewest_pods,
        conditions::a_field_beside_the_template_turns_no_condition,
        pod_templates::a_patch_writes_nothing_until_it_can_be,
        volumes::what_a_volume_cannot_do_is_told_and_not_sent,
    );
    // Not all at once: each waits for writes of the one operator, and on a busy machine too long.
    cases!(
        &env,
        data::lost_credentials_are_never_made_again,
        data::a_volume_of_somebody_else_keeps_credentials_from_being_made,
        data::a_stack_made_again_adopts_its_data,
        data::data_go_only_when_the_spec_says_so,
        database_files::another_version_is_refused_and_the_server_goes_on,
        database_files::an_annotation_that_is_taken_away_moves_no_files,
        database_files::files_of_0_1_0_stay_where_they_are,
        data::a_bucket_that_had_backups_stays_whatever_was_added_later,
        data::nothing_is_deleted_while_nobody_knows_whether_there_are_backups,
        backups::the_owner_of_backups_is_asked_for_once,
        backups::a_wish_to_adopt_is_obeyed_once,
        requests::a_backup_is_made_once_and_keeps_its_result,
        requests::what_keeps_a_backup_from_beginning_is_told,
    );
    cases!(
        &env,
        commands::a_job_that_runs_outlives_the_spec_that_asked_for_it,
        commands::a_stack_is_deleted_once_its_job_has_ended,
        data::production_needs_a_confirmation,
        credentials::credentials_changed_by_hand_change_nothing,
        credentials::a_changed_value_is_never_believed_by_accident,
        credentials::credentials_are_adopted_when_a_user_says_so,
        credentials::a_redis_with_a_password_alone_keeps_it,
        credentials::of_credentials_that_are_lost_each_is_named,
        credentials::a_volume_that_is_deleted_under_its_pod_is_told_and_its_pod_left,
        gitops::argo_cd_takes_no_data_for_its_own,
        rules::the_rules_of_a_bucket_are_set_by_one_job,
        gitops::of_two_stacks_with_like_names_each_has_its_own_data,
    );
    cases!(
        &env,
        restores::the_data_of_a_point_become_those_of_a_stack_once,
        restores::what_cannot_be_restored_leaves_the_live_data,
        restores::a_manifest_that_is_wrong_is_refused,
    );
    drop(operator);
    beside.await.expect("one operator after the other");
}

/// With an API server of its own, where no other case keeps the operator busy when it is killed.
async fn one_operator_after_the_other() {
    let env = TestEnv::open().await;
    cases!(&env, sources::no_stack_fills_the_memory_of_all);
    cases!(&env, restarts::a_killed_operator_reaches_the_same_end);
    cases!(&env, restarts::twenty_settled_stacks_cost_nothing_after_a_restart);
    cases!(&env, restarts::an_api_server_that_comes_back_is_written_nothing);
    cases!(&env, gitops::data_of_0_1_0_are_taken_over);
    cases!(&env, commands::a_command_is_obeyed_once);
    cases!(&env, requests::a_backup_outlives_the_operator);
    cases!(&env, restores::a_restore_outlives_the_operator);
    cases!(&env, restarts::of_two_processes_without_a_name_one_leads);
    cases!(&env, corrections::one_stack_is_corrected_at_a_time);
}

/// With an API server of its own, so that it can be run alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sanitized_points() {
    let env = TestEnv::open().await;
    let operator = env.operator().await;
    cases!(
        &env,
        sanitizes::a_sanitized_point_is_made_beside_whatever_goes_on,
        sanitizes::a_program_prints_the_statements_without_any_key,
        sanitizes::a_wrong_sanitize_is_refused,
        sanitizes::a_new_stack_begins_with_a_point_once,
        sanitizes::objects_of_a_point_wait_for_their_bucket,
        sanitizes::data_that_are_found_stay_and_are_told,
        sanitizes::a_point_that_is_refused_keeps_the_application_from_starting,
    );
    drop(operator);
    cases!(&env, sanitizes::a_seed_outlives_the_operator);
}

/// With an API server of its own, and real services beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_outside() {
    let env = TestEnv::open().await;
    cases!(&env, services::what_services_say_is_written_once);
    cases!(&env, preflights::a_bucket_is_asked_by_one_job_for_each_key);
    cases!(&env, preflights::a_database_behind_its_proxy_is_asked_by_a_job);
    cases!(&env, preflights::a_bucket_by_a_role_is_asked_by_a_job_alone);
}

/// With an API server of its own, since each case is many reconciles long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_time() {
    let env = TestEnv::open().await;
    let operator = env.operator().await;
    cases!(
        &env,
        releases::a_release_costs_what_it_makes_and_changes,
        attempts::a_migration_that_does_not_begin_is_tried_again,
    );
    cases!(&env, operations::of_two_operations_the_second_waits);
    drop(operator);
}

/// With an API server of its own, since a definition is of the whole cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_of_other_projects() {
    let env = TestEnv::open().await;
    cases!(&env, optional::a_kind_that_is_switched_off_is_not_asked_for);
    cases!(&env, optional::a_kind_comes_and_goes_without_a_restart);
    cases!(&env, optional::a_lack_of_rights_concerns_one_component);
}

/// With an API server of its own, for the same reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_other_projects() {
    let env = TestEnv::open().await;
    cases!(&env, cloud_native_pg::cloud_native_pg);
}

/// Likewise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_of_other_projects() {
    let env = TestEnv::open().await;
    cases!(&env, point_in_time::the_log_is_archived_by_the_plugin);
}

/// Likewise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_of_other_projects() {
    let env = TestEnv::open().await;
    cases!(&env, moments::a_moment_is_restored_into_another_cluster);
}

/// Likewise, of services in AWS. The first case brings the definitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_in_aws() {
    let env = TestEnv::open().await;
    cases!(&env, aws::a_stack_waits_for_the_controllers_and_then_for_aws);
    let operator = env.operator_with(&aws::SWITCHED_ON).await;
    cases!(
        &env,
        aws::a_change_that_interrupts_is_held_until_it_is_confirmed,
        aws::what_aws_says_is_told,
        aws::what_rds_can_restore_is_told,
        aws::a_deleted_stack_leaves_all_that_is_in_aws,
        aws::passwords_of_what_exists_are_not_made_again,
        aws::the_database_is_asked_once_its_role_exists,
    );
    drop(operator);
}
