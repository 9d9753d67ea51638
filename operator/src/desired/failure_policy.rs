//! What a Job makes of a pod that failed.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};

/// A pod that the cluster took away, with its node or to make room, is made again and does not count. `fatal`: a container, or
/// any, and the exit code with which the whole Job fails.
pub(super) fn failure_policy(fatal: Option<(Option<&str>, u8)>) -> PodFailurePolicy {
    let lost =
        PodFailurePolicyOnPodConditionsPattern { status: "True".to_owned(), type_: "DisruptionTarget".to_owned() };
    let rule = |action: &str| PodFailurePolicyRule { action: action.to_owned(), ..PodFailurePolicyRule::default() };
    let failed = fatal.map(|(container, code)| PodFailurePolicyRule {
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: container.map(str::to_owned),
            operator: "In".to_owned(),
            values: vec![code.into()],
        }),
        ..rule("FailJob")
    });
    // The first that matches decides.
    let lost = PodFailurePolicyRule { on_pod_conditions: Some(vec![lost]), ..rule("Ignore") };
    PodFailurePolicy { rules: [lost].into_iter().chain(failed).collect() }
}
