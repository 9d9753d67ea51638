//! Buckets by keys or by a role of the pods.

use serde_json::{Value, json};

use super::{
    super::support::{Fixture, stack},
    Case, case,
};

/// Both ways are named.
const ONE: &str = "set exactly one of credentialsSecretRef, e.g. `credentialsSecretRef: {name: my-s3}`, and `cloudRole: {}`, for a \
                   role of the pods";

const ARCHIVES: &str = "backup.pointInTime archives by keys";

/// A block with keys, with a role, with both and with neither.
fn blocks(block: &Value) -> [Value; 4] {
    let with = |fields: Value| {
        let mut block = block.clone();
        block.as_object_mut().expect("a block").extend(fields.as_object().expect("fields").clone());
        block
    };
    let (keys, role) = (json!({"name": "s3"}), json!({}));
    [
        with(json!({"credentialsSecretRef": keys})),
        with(json!({"cloudRole": role})),
        with(json!({"credentialsSecretRef": keys, "cloudRole": role})),
        with(json!({})),
    ]
}

/// What is refused at a place, and what is taken there.
fn at(words: &'static [&'static str], block: &Value, whole: impl Fn(Value) -> Fixture) -> Vec<Case> {
    let [keys, role, both, neither] = blocks(block);
    vec![case(whole(both), words, whole(keys)), case(whole(neither), words, whole(role))]
}

pub(super) fn cases() -> Vec<Case> {
    let external = json!({"name": "files", "endpoint": "https://s3.example.com"});
    let s3 = json!({"name": "shop-files", "region": "eu-west-1"});
    let point =
        json!({"location": "s3://safe/sanitized/n/shop/20261124T031500Z-q7k2p/", "endpoint": "https://s3.example.com"});
    let bucket = |block: Value| stack("shop").set("bucket", json!({"external": block}));
    let backup = |block: Value| stack("shop").set("backup", block);
    let mut cases = at(&["spec.bucket.external", ONE], &external, bucket);
    cases.extend(at(&["spec.bucket.s3", ONE], &s3, |block| stack("shop").set("bucket", json!({"s3": block}))));
    cases.extend(at(&["spec.backup.destination.external", ONE], &external, |block| {
        backup(json!({"destination": {"external": block}}))
    }));
    cases.extend(at(&["spec.backup.copies[0].external", ONE], &external, |block| {
        backup(json!({"copies": [{"external": block}]}))
    }));
    cases.extend(at(&["spec.seedFrom", ONE], &point, |block| stack("shop").set("seedFrom", block)));
    let archived = |place: Value, destination: Value| {
        let stack =
            stack("shop").set("database", json!({"cloudNativePG": {"storage": {"size": "1Gi"}}})).set("bucket", place);
        stack.set("backup", json!({"pointInTime": {"days": 7}, "destination": destination}))
    };
    let [keys, role, ..] = blocks(&external);
    let folder = json!({"prefix": "dumps/"});
    cases.extend([
        case(
            archived(json!({"external": role}), folder.clone()),
            &[ARCHIVES],
            archived(json!({"external": keys}), folder),
        ),
        case(
            archived(json!({"external": keys}), json!({"external": role})),
            &[ARCHIVES],
            archived(json!({"external": role}), json!({"external": keys})),
        ),
    ]);
    cases
}
