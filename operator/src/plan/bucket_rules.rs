//! The Job that sets the rules of the bucket: one for each thing that they can be, and none while another one runs, whose last
//! write would undo them.

use super::{Step, meaning};
use crate::{
    names::{Component, ObjectName},
    stack::{JobPhase, Observed, ObservedJob, Stack},
};

/// The Job that is kept, that runs or that is to run. Of rules that are all to be gone it is kept until they are.
pub(super) fn steps(stack: &Stack, observed: &Observed, hibernates: bool) -> Vec<Step> {
    let mut jobs = observed.jobs.iter().filter(|job| job.component == Component::BucketRules);
    let Some(name) = name(stack, observed) else { return jobs.map(exists).collect() };
    if let Some(other) = jobs.clone().find(|job| job.name != name && job.phase == JobPhase::Running) {
        return vec![exists(other)];
    }
    let there = jobs.clone().find(|job| job.name == name);
    let asks = stack
        .bucket_rules
        .as_ref()
        .is_some_and(|rules| rules.lifecycle.is_some() || !rules.origins.is_empty() || rules.replication.is_some());
    match there {
        Some(job) if !asks && job.phase == JobPhase::Complete => Vec::new(),
        Some(job) => vec![exists(job)],
        // No pod begins meanwhile, and what was set stays.
        None if hibernates => jobs.by_ref().map(exists).collect(),
        None => vec![Step { name, exists: false }],
    }
}

/// The name of the Job: by the rules, the bucket and its keys. Temporary keys are others every hour, and are left out. A retry is
/// another Job only beside one that failed: what is set needs none.
///
/// That the keys are in it, as a digest with the uid of the stack for salt, is for what they may do: like a preflight the Job finds out
/// whether they may set rules, and other keys are another question, e.g. after one that was denied. Rules that are set again are the
/// same rules. Without the digest the Jobs of every stack would have other names.
fn name(stack: &Stack, observed: &Observed) -> Option<String> {
    let (rules, access) = (stack.bucket_rules.as_ref()?, stack.bucket.access()?);
    let rules = serde_json::to_string(rules).unwrap_or_default();
    let keys = access.meaning_of_keys(&stack.uid, &stack.api.service_account_annotations);
    let name = |retry: &str| {
        let meaning = meaning(&[&rules, &access.endpoint, &access.region, &access.name, &keys, retry]);
        String::from(ObjectName::step(&stack.name, Component::BucketRules, &meaning))
    };
    let there = |name: &str| observed.jobs.iter().find(|job| job.name == name);
    let first = name("");
    let Some(retry) = observed.retry() else { return Some(first) };
    let again = name(retry);
    let failed = there(&first).is_some_and(|job| matches!(job.phase, JobPhase::Failed(_)));
    Some(if failed || there(&again).is_some() { again } else { first })
}

fn exists(job: &ObservedJob) -> Step {
    Step { name: job.name.clone(), exists: true }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{names::annotation, stack::validate};

    const OWNER: &str = "6f1f3a5c-0000-4000-8000-000000000001/shop";

    fn observed() -> Observed {
        let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", "key")];
        let keys = keys.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        Observed {
            backup_owner: Some(OWNER.to_owned()),
            secrets: [("s3".to_owned(), Some(keys.into()))].into(),
            ..Observed::default()
        }
    }

    /// The Jobs that are wanted, after what the cluster does with them: those that are not are gone, and new ones run.
    fn applied(bucket: &Value, observed: &mut Observed, hibernates: bool) -> Vec<Step> {
        let mut external = json!({"external": {"name": "files", "endpoint": "https://s3.example.com",
            "credentialsSecretRef": {"name": "s3"}}});
        external.as_object_mut().unwrap().extend(bucket.as_object().unwrap().clone());
        let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"},
            "spec": {"environment": "Development", "api": {"image": "a"}, "bucket": external}});
        let stack = validate(&serde_json::from_value(cr).unwrap(), observed);
        let steps = steps(&stack, observed, hibernates);
        observed.jobs.retain(|job| steps.iter().any(|step| step.name == job.name));
        for step in steps.iter().filter(|step| !step.exists) {
            let (component, phase) = (Component::BucketRules, JobPhase::Running);
            observed.jobs.push(ObservedJob {
                begun: None,
                name: step.name.clone(),
                component,
                created: 0,
                said: None,
                phase,
                ended: None,
            });
        }
        steps
    }

    /// What its controller sets a Job compares, once, and it needs no uid of the namespace.
    #[test]
    fn rules_of_a_controller_are_compared_by_a_job() {
        let mut observed = observed();
        observed.backup_owner = None;
        let days = |days: i32| json!({"expireNoncurrentAfterDays": days});
        let of = |lifecycle: Option<Value>| {
            let keys = json!({"name": "s3"});
            let mut bucket = json!({"s3": {"name": "files", "region": "eu-west-1", "credentialsSecretRef": keys}});
            bucket.as_object_mut().unwrap().extend(lifecycle.map(|block| ("lifecycle".to_owned(), block)));
            let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"},
                "spec": {"environment": "Development", "api": {"image": "a"}, "bucket": bucket}});
            let stack = validate(&serde_json::from_value(cr).unwrap(), &observed);
            let rules = stack.bucket_rules.as_ref().map(|rules| (rules.compared, rules.ids.clone()));
            (rules, steps(&stack, &observed, false))
        };
        assert_eq!(of(None), (None, Vec::new()));
        let (rules, first) = of(Some(days(30)));
        assert_eq!(rules, Some((true, "rorun-".to_owned())));
        let (_, other) = of(Some(days(31)));
        assert!(first.len() == 1 && other.len() == 1 && first[0].name != other[0].name);
    }

    fn end(observed: &mut Observed, phase: &JobPhase) {
        observed.jobs.iter_mut().for_each(|job| job.phase = phase.clone());
    }

    #[test]
    fn rules_are_set_once_and_taken_off_once() {
        let mut now = observed();
        let (none, days) = (json!({}), |days: i32| json!({"lifecycle": {"expireNoncurrentAfterDays": days}}));
        assert_eq!(applied(&none, &mut now, false), []);
        let first = applied(&days(30), &mut now, false);
        assert!(!first[0].exists && first[0].name.starts_with("shop-rules-"), "{first:?}");
        let other = applied(&days(31), &mut now, false);
        assert!(
            other[0].exists && other[0].name == first[0].name,
            "another one waits for the end of the first: {other:?}"
        );
        end(&mut now, &JobPhase::Complete);
        assert!(applied(&days(30), &mut now, false)[0].exists, "the second reconcile is silent");
        let asleep = applied(&days(31), &mut now, true);
        assert_eq!(asleep[0].name, first[0].name, "nothing begins while the stack hibernates");
        let second = applied(&days(31), &mut now, false);
        assert!(!second[0].exists && second[0].name != first[0].name);
        end(&mut now, &JobPhase::Complete);
        let gone = applied(&none, &mut now, false);
        assert!(!gone[0].exists, "they are taken off: {gone:?}");
        end(&mut now, &JobPhase::Failed("no answer".to_owned()));
        assert!(applied(&none, &mut now, false)[0].exists, "a failure is kept for reading");
        now.annotations.insert(annotation::RETRY.to_owned(), "1".to_owned());
        assert!(!applied(&none, &mut now, false)[0].exists, "and tried again when it is asked for");
        end(&mut now, &JobPhase::Complete);
        assert_eq!(applied(&none, &mut now, false), []);
        assert_eq!(now.jobs, []);
        assert_eq!(applied(&none, &mut now, false), []);
        let third = applied(&days(32), &mut now, false);
        end(&mut now, &JobPhase::Complete);
        now.annotations.insert(annotation::RETRY.to_owned(), "2".to_owned());
        assert!(
            applied(&days(32), &mut now, false)[0].exists,
            "a retry of something else sets nothing again: {third:?}"
        );
        end(&mut now, &JobPhase::Complete);
        assert!(!applied(&none, &mut now, false)[0].exists);
        end(&mut now, &JobPhase::Complete);
        assert_eq!(applied(&none, &mut now, false), []);
    }

    #[test]
    fn other_keys_set_them_again_and_no_key_stands_in_a_name() {
        let mut now = observed();
        let rules = json!({"cors": {"allowOrigins": ["https://app.example.com"]}});
        let first = applied(&rules, &mut now, false);
        end(&mut now, &JobPhase::Complete);
        let secret = now.secrets.get_mut("s3").unwrap().as_mut().unwrap();
        secret.insert("AWS_SECRET_ACCESS_KEY".to_owned(), b"other".to_vec());
        let second = applied(&rules, &mut now, false);
        assert!(!second[0].exists && second[0].name != first[0].name);
        end(&mut now, &JobPhase::Complete);
        for token in ["token1", "token2"] {
            let secret = now.secrets.get_mut("s3").unwrap().as_mut().unwrap();
            secret.insert("AWS_SESSION_TOKEN".to_owned(), token.into());
            secret.insert("AWS_ACCESS_KEY_ID".to_owned(), token.into());
            let step = applied(&rules, &mut now, false);
            assert_eq!(step[0].exists, token == "token2", "temporary keys change all the time");
            end(&mut now, &JobPhase::Complete);
        }
    }
}
