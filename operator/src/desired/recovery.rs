//! What a dump is told to be a recovery point, and what became of its copies.

use kube::Resource;
use serde_json::json;

use super::backup::newest_backup;
use crate::{
    api::v1alpha1::RorunStack,
    contract::{self, BucketLocation, CopyTarget, PointOrigin},
    names::{Waiting, reason},
    objects::LiveSet,
    plan::Release,
    stack::{BucketAccess, Recovery, Stack},
};

/// The arguments that the fields of the spec ask for; none without them. `verified`: a drill has found a point good. Before, and of
/// points that no drill can read, retention that waits for drills would keep everything for ever.
pub(super) fn arguments(recovery: &Recovery, verified: bool) -> Vec<String> {
    let recipients = recovery.recipients.iter().flat_map(|key| [contract::ARG_RECIPIENT, key]);
    let mut arguments: Vec<String> = recipients.map(str::to_owned).collect();
    if recovery.include_bucket {
        arguments.push(contract::ARG_OBJECTS.to_owned());
        let except = recovery.except.iter().flat_map(|folder| [contract::ARG_OBJECTS_EXCEPT, folder]);
        arguments.extend(except.map(str::to_owned));
        if let Some(to) = recovery.replica.as_ref().filter(|_| !recovery.copies.is_empty()) {
            arguments.extend([contract::ARG_REPLICA.to_owned(), serde_json::to_string(to).unwrap_or_default()]);
        }
    }
    let readable = recovery.recipients.is_empty() || recovery.identity.is_some();
    if verified && readable && recovery.verify.as_ref().is_some_and(|verify| !verify.suspend) {
        arguments.push(contract::ARG_VERIFIED.to_owned());
    }
    arguments
}

/// The variables, with the keys of the other buckets.
pub(super) fn variables(recovery: &Recovery) -> Vec<(&'static str, String)> {
    let mut variables: Vec<_> = source(recovery.source.as_deref()).into_iter().collect();
    if !recovery.copies.is_empty() {
        let copies = recovery.copies.iter().map(|copy| CopyTarget {
            location: location(&copy.access),
            prefix: copy.prefix.clone(),
            retention_days: copy.retention_days.unsigned_abs(),
            minimum_kept: copy.minimum_kept.unsigned_abs(),
        });
        let text = serde_json::to_string(&copies.collect::<Vec<_>>()).unwrap_or_default();
        variables.push((contract::ENV_COPIES, text));
    }
    variables
}

/// What a dump is told of its stack: the spec that the user wrote, also while another release serves, and the images of the one that
/// served last.
pub(super) fn origin(stack: &Stack, release: &Release) -> PointOrigin {
    let written = stack.target();
    let manifest = written.backup.as_ref().map(|backup| {
        json!({
            "apiVersion": RorunStack::api_version(&()), "kind": RorunStack::kind(&()),
            "metadata": {"name": written.name, "namespace": written.namespace}, "spec": backup.spec,
        })
    });
    let mut origin = PointOrigin { stack: manifest, ..PointOrigin::default() };
    if let Some(served) = &release.last_good {
        for (of, image) in served.content.images() {
            origin.images.insert(of.to_string(), served.images_that_ran(of, image));
            origin.running.extend(served.image_that_runs(of, image).map(|runs| (of.to_string(), runs)));
        }
    }
    origin
}

/// The application's bucket, where it is another one than that of the backups.
pub(super) fn source(access: Option<&BucketAccess>) -> Option<(&'static str, String)> {
    Some((contract::ENV_SOURCE, serde_json::to_string(&location(access?)).unwrap_or_default()))
}

pub(super) fn location(access: &BucketAccess) -> BucketLocation {
    BucketLocation {
        endpoint: access.endpoint.clone(),
        region: access.region.clone(),
        bucket: access.name.clone(),
        force_path_style: access.force_path_style,
        access_key_id: access.keys.as_ref().map(|keys| keys.id.clone()),
        secret_access_key: access.keys.as_ref().map(|keys| keys.secret.clone()),
        session_token: access.session_token().map(|token| token.value.clone()),
        ca: access.ca.clone(),
    }
}

/// Why a recovery point is not where the spec wants it.
pub(super) fn not_copied(stack: &Stack, live: &LiveSet) -> Option<Waiting> {
    let recovery = &stack.backup.as_ref()?.recovery;
    if recovery.copies.is_empty() {
        return None;
    }
    let newest = newest_backup(stack, live);
    let told = |why: Option<String>, reason| why.map(|why| Waiting::new(reason, why));
    told(newest.not_copied, reason::COPY_FAILED).or_else(|| told(newest.objects_not_copied, reason::BUCKET_NOT_COPIED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Release, picked, plan},
        stack::{Content, Observed, ObservedReleases, Progress, Revision, validate},
    };

    fn stack(image: &str) -> RorunStack {
        let spec = json!({"environment": "Development", "image": {"registry": "r.example"},
            "api": {"image": image, "env": [{"name": "A", "value": "b"}]}, "backup": {}});
        serde_json::from_value(json!({"metadata": {"name": "shop", "namespace": "n"}, "spec": spec})).unwrap()
    }

    /// One that served, whose pods ran these digests.
    fn served(cr: &RorunStack, digests: &[(&str, &str)]) -> Revision {
        let digests = digests.iter().map(|(of, digest)| ((*of).to_owned(), (*digest).to_owned())).collect();
        let progress = Progress { served_at: Some(1), digests, ..Progress::default() };
        Revision { name: "shop-1".to_owned(), number: 1, content: Content::of(&cr.spec), progress }
    }

    #[test]
    fn a_dump_is_told_the_spec_and_what_serves() {
        let cr = stack("api:1");
        let digest = format!("sha256:{}", "0".repeat(64));
        let release = Release { last_good: Some(served(&cr, &[("api", &digest)])), ..Release::default() };
        let told = origin(&validate(&cr, &Observed::default()), &release);
        let written = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n"}, "spec": cr.spec});
        assert_eq!(told.stack, Some(written));
        assert_eq!(told.images, [("api".to_owned(), vec![format!("r.example/api:1@{digest}")])].into());
        // Nodes that have an image from no registry, or several under one name, tell no digest.
        for unknown in ["Local", "Several"] {
            let release = Release { last_good: Some(served(&cr, &[("api", unknown)])), ..Release::default() };
            let told = origin(&validate(&cr, &Observed::default()), &release);
            assert_eq!(told.images["api"], ["r.example/api:1"], "{unknown}");
        }
        assert!(origin(&validate(&cr, &Observed::default()), &Release::default()).images.is_empty());
    }

    /// Its dumps are of the database of the release that serves, and the spec is what is to be made anew.
    #[test]
    fn while_a_release_does_not_serve_yet_its_spec_is_told() {
        let (before, now) = (stack("api:1"), stack("api:2"));
        let revisions = vec![served(&before, &[])];
        let releases = ObservedReleases { revisions, ..ObservedReleases::default() };
        let observed = Observed { releases, ..Observed::default() };
        let stack = validate(&now, &observed);
        let plan = plan(&stack, &observed, 2);
        let stack = picked(stack, &plan);
        let told = origin(&stack, &plan.release);
        assert_eq!(told.stack.unwrap()["spec"]["api"]["image"], "api:2");
        assert_eq!(told.images["api"], ["r.example/api:1"]);
    }
}
