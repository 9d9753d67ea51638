//! The Job that asks services from the place of the pods: one for each thing that it asks and the keys that it asks by.

use super::Step;
use crate::stack::{JobPhase, Stack};

/// The Job that is kept, that goes on trying or that is to run. No pod of it runs while the stack hibernates.
pub(super) fn step(stack: &Stack, hibernates: bool) -> Option<Step> {
    let asked = stack.from_pods.as_ref()?;
    let step = |exists| Step { name: asked.job.clone(), exists };
    match &asked.phase {
        Some(JobPhase::Complete | JobPhase::Failed(_)) => Some(step(true)),
        _ if hibernates => None,
        None if stack.suspend => None,
        Some(JobPhase::Running | JobPhase::CannotStart) => Some(step(true)),
        None => asked.may_begin.then(|| step(false)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        names::{Component, Waiting, annotation, reason},
        stack::{Observed, ObservedJob, Probe, ProbeTarget, validate},
    };

    fn observed(key: &str) -> Observed {
        let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", key)];
        let keys = keys.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        Observed { secrets: [("s3".to_owned(), Some(keys.into()))].into(), ..Observed::default() }
    }

    fn stack(bucket: &Value, observed: &Observed) -> Stack {
        let mut external =
            json!({"name": "files", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s3"}});
        external.as_object_mut().unwrap().extend(bucket.as_object().unwrap().clone());
        let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"},
            "spec": {"environment": "Development", "api": {"image": "a"}, "bucket": {"external": external}}});
        validate(&serde_json::from_value(cr).unwrap(), observed)
    }

    fn planned(bucket: &Value, observed: &Observed) -> Step {
        step(&stack(bucket, observed), false).unwrap()
    }

    /// As the cluster has it afterwards.
    fn with_job(mut observed: Observed, name: &str, phase: JobPhase, said: Option<&str>) -> Observed {
        let said = said.map(str::to_owned);
        let (component, ended) = (Component::Preflight, None);
        observed.jobs.push(ObservedJob {
            begun: None,
            name: name.to_owned(),
            component,
            created: 0,
            said,
            phase,
            ended,
        });
        observed
    }

    #[test]
    fn each_bucket_and_each_key_is_asked_once() {
        let first = planned(&json!({}), &observed("a"));
        assert!(!first.exists && first.name.starts_with("shop-preflight-"), "{first:?}");
        let others = [
            planned(&json!({"region": "eu-west-1"}), &observed("a")),
            planned(&json!({"name": "others"}), &observed("a")),
            planned(&json!({}), &observed("b")),
        ];
        for (index, other) in others.iter().enumerate() {
            assert!(other.name != first.name && others[..index].iter().all(|one| one.name != other.name), "{other:?}");
        }
        for phase in [JobPhase::Running, JobPhase::CannotStart, JobPhase::Complete, JobPhase::Failed(String::new())] {
            let there = with_job(observed("a"), &first.name, phase, None);
            let again = planned(&json!({}), &there);
            assert!(again.exists && again.name == first.name, "{again:?}");
        }
        // Neither what the agent is nor what the application is makes another Job.
        let upgraded = Observed { agent_image: "agent:2".to_owned(), ..observed("a") };
        assert_eq!(planned(&json!({}), &upgraded), first);
        // Temporary keys are others every hour.
        let temporary = |token: &str| {
            let mut observed = observed(token);
            let secret = observed.secrets.get_mut("s3").unwrap().as_mut().unwrap();
            secret.insert("AWS_SESSION_TOKEN".to_owned(), token.into());
            planned(&json!({}), &observed)
        };
        assert_eq!(temporary("token1"), temporary("token2"));
    }

    #[test]
    fn what_the_operator_runs_itself_is_not_asked() {
        let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"},
            "spec": {"environment": "Development", "api": {"image": "a"}}});
        assert_eq!(step(&validate(&serde_json::from_value(cr).unwrap(), &observed("a")), false), None);
    }

    #[rstest]
    #[case::to_begin(None, false)]
    #[case::that_goes_on(Some(JobPhase::Running), false)]
    #[case::that_cannot_start(Some(JobPhase::CannotStart), false)]
    #[case::that_is_done(Some(JobPhase::Complete), true)]
    fn no_pod_runs_while_the_stack_hibernates(#[case] phase: Option<JobPhase>, #[case] stays: bool) {
        let name = planned(&json!({}), &observed("a")).name;
        let there = phase.map_or_else(|| observed("a"), |phase| with_job(observed("a"), &name, phase, None));
        assert_eq!(step(&stack(&json!({}), &there), true).is_some(), stays);
    }

    const DENIED: &str =
        r#"{"answers":[{"target":"bucket","verdict":{"failed":{"reason":"AccessDenied","message":"m"}}}]}"#;

    /// Keys may be for one folder alone: only where the spec names it a missing right is a failure. Nothing waits for it.
    #[rstest]
    #[case::of_a_folder(&json!({"lifecycle": {"prefix": "uploads/", "expireNoncurrentAfterDays": 7}}), true)]
    #[case::of_none(&json!({}), false)]
    fn a_right_is_missing_where_it_is_needed(#[case] more: &Value, #[case] fails: bool) {
        let in_bucket = |observed: &Observed| {
            let mut external =
                json!({"name": "files", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s3"}});
            external = json!({"external": external.take()});
            external.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"},
                "spec": {"environment": "Development", "api": {"image": "a"}, "bucket": external}});
            validate(&serde_json::from_value(cr).unwrap(), observed)
        };
        let name = step(&in_bucket(&observed("a")), false).unwrap().name;
        let mut stack = in_bucket(&with_job(observed("a"), &name, JobPhase::Running, Some(DENIED)));
        let target = ProbeTarget::from(Component::Bucket);
        let told = stack.told_from_pods(target, &Probe::answers(None));
        assert_eq!(
            matches!(&told, Some(Probe::Failed(waiting)) if waiting.reason == reason::ACCESS_DENIED),
            fails,
            "{told:?}"
        );
        let found = stack.findings(Component::Bucket);
        assert_eq!(found.iter().any(|found| found.reason == reason::RIGHTS_MISSING), !fails, "{found:?}");
        stack.probes.insert(target, told.unwrap_or_else(|| Probe::answers(None)));
        assert_eq!(stack.fails_from_pods_alone(Component::Bucket), fails);
        // What the operator finds too is waited for.
        stack.probes.insert(target, Probe::Failed(Waiting::new(reason::UNREACHABLE, "no answer")));
        assert!(!stack.fails_from_pods_alone(Component::Bucket));
    }

    /// The bucket of the backups is told of as the backup, and nothing of it stops the application's.
    #[test]
    fn the_bucket_of_the_backups_is_asked_beside() {
        let with = |observed: &Observed, key: &str| {
            let bucket = |name: &str, keys: &str| json!({"external": {"name": name, "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": keys}}});
            let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"}, "spec": {
                "environment": "Development", "api": {"image": "a"}, "bucket": bucket("files", "s3"),
                "backup": {"destination": bucket("backups", "s3-backups")}}});
            let mut observed = observed.clone();
            let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", key)];
            let keys = keys.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
            observed.secrets.insert("s3-backups".to_owned(), Some(keys.into()));
            validate(&serde_json::from_value(cr).unwrap(), &observed)
        };
        let first = step(&with(&observed("a"), "b"), false).unwrap().name;
        assert_ne!(first, planned(&json!({}), &observed("a")).name);
        assert_ne!(first, step(&with(&observed("a"), "c"), false).unwrap().name, "another key is asked by another Job");
        let (backup, answers) = (ProbeTarget::from(Component::Backup), Probe::answers(None));
        let told = |verdict: Value| {
            let said = json!({"answers": [{"target": "backup", "verdict": verdict}]}).to_string();
            let stack = with(&with_job(observed("a"), &first, JobPhase::Running, Some(&said)), "b");
            assert_eq!(stack.told_from_pods(ProbeTarget::from(Component::Bucket), &answers), None);
            stack.told_from_pods(backup, &answers)
        };
        let finding = |reason: &str| json!({"reason": reason, "message": "m"});
        let denied = told(json!({"failed": finding("AccessDenied")}));
        assert!(
            matches!(&denied, Some(Probe::Failed(waiting)) if waiting.reason == reason::ACCESS_DENIED),
            "{denied:?}"
        );
        assert_eq!(told(json!({"passed": {}})), None);
        let noted = told(json!({"passed": {"findings": [finding("RightsMissing")]}}));
        assert_eq!(noted, Some(Probe::answers(Some("m".to_owned()))));
    }

    const NOTED: &str = r#"{"answers":[{"target":"bucket","verdict":{"passed":{"findings":[{"reason":"RightsMissing","message":"m"}]}}}]}"#;
    const PASSED: &str = r#"{"answers":[{"target":"bucket","verdict":{"passed":{}}}]}"#;

    /// What goes on trying needs no retry, and what found nothing wrong neither.
    #[rstest]
    #[case::with_a_finding(JobPhase::Complete, Some(NOTED), true)]
    #[case::without(JobPhase::Complete, Some(PASSED), false)]
    #[case::forgotten(JobPhase::Complete, None, false)]
    #[case::on_its_way(JobPhase::Running, Some(NOTED), false)]
    #[case::failed(JobPhase::Failed(String::new()), None, true)]
    #[case::without_a_pod(JobPhase::CannotStart, None, true)]
    fn a_retry_asks_again_where_something_was_wrong(
        #[case] phase: JobPhase,
        #[case] said: Option<&str>,
        #[case] again: bool,
    ) {
        let name = planned(&json!({}), &observed("a")).name;
        let mut there = with_job(observed("a"), &name, phase, said);
        there.annotations.insert(annotation::RETRY.to_owned(), "1".to_owned());
        let next = planned(&json!({}), &there);
        assert_eq!(next.name != name, again, "{next:?}");
        let after = with_job(there, &next.name, JobPhase::Complete, Some(PASSED));
        assert_eq!(planned(&json!({}), &after).name, next.name, "and once");
    }
}
