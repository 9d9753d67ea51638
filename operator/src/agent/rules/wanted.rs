//! The rules of a stack as the documents of S3 have them: each thing that the spec asks for is a rule of its own, so that a server
//! which cannot do one does the others.

use crate::contract::{ARCHIVE_CLASS, BucketRules, CORS_METHODS, CORS_SECONDS, bucket_arn};
use crate::services::bucket::{Rule, RuleKind, escaped};

/// What stands for the priority of a replication rule until those of the others are known.
pub(super) const PRIORITY: &str = "<Priority>0</Priority>";

/// The rules that a stack asks for of one kind.
pub(super) fn wanted(kind: RuleKind, rules: &BucketRules) -> Vec<Rule> {
    match kind {
        RuleKind::Lifecycle => lifecycle(rules),
        RuleKind::Cors if rules.origins.is_empty() => Vec::new(),
        RuleKind::Cors => vec![cors(rules)],
        RuleKind::Replication => replication(rules).into_iter().collect(),
    }
}

fn rule(rules: &BucketRules, name: &str, element: &str, inner: &str) -> Rule {
    let id = format!("{}{name}", rules.ids);
    let text = format!("<{element}><ID>{}</ID>{inner}</{element}>", escaped(&id));
    Rule { id, text }
}

fn lifecycle(rules: &BucketRules) -> Vec<Rule> {
    let Some(of) = &rules.lifecycle else { return Vec::new() };
    let filter = format!("<Filter><Prefix>{}</Prefix></Filter><Status>Enabled</Status>", escaped(&of.prefix));
    let archive =
        |days| format!("<Transition><Days>{days}</Days><StorageClass>{ARCHIVE_CLASS}</StorageClass></Transition>");
    let expire = |days| {
        format!("<NoncurrentVersionExpiration><NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>")
    };
    let abort = |days| {
        let element = "AbortIncompleteMultipartUpload";
        format!("<{element}><DaysAfterInitiation>{days}</DaysAfterInitiation></{element}>")
    };
    let all = [
        ("archive", of.archive_after_days.map(archive)),
        ("noncurrent", of.expire_noncurrent_after_days.map(expire)),
        ("uploads", of.abort_incomplete_uploads_after_days.map(abort)),
    ];
    all.into_iter()
        .filter_map(|(name, action)| Some(rule(rules, name, "Rule", &format!("{filter}{}", action?))))
        .collect()
}

/// What an upload from a page needs: the methods, any header, and the tag of each part in the answer.
fn cors(rules: &BucketRules) -> Rule {
    let list = |element: &str, values: &[&str]| -> String {
        let each: Vec<_> = values.iter().map(|value| format!("<{element}>{}</{element}>", escaped(value))).collect();
        each.concat()
    };
    let origins: Vec<&str> = rules.origins.iter().map(String::as_str).collect();
    let inner = [
        list("AllowedHeader", &["*"]),
        list("AllowedMethod", &CORS_METHODS),
        list("AllowedOrigin", &origins),
        list("ExposeHeader", &["ETag"]),
        format!("<MaxAgeSeconds>{CORS_SECONDS}</MaxAgeSeconds>"),
    ];
    rule(rules, "cors", "CORSRule", &inner.concat())
}

fn replication(rules: &BucketRules) -> Option<Rule> {
    let to = rules.replication.as_ref()?;
    let inner = format!(
        "{PRIORITY}<Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Destination><Bucket>{}</Bucket></Destination>\
         <DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>",
        escaped(&bucket_arn(&to.bucket, &to.role))
    );
    Some(rule(rules, "replication", "Rule", &inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{LifecycleRules, ReplicationRule};

    #[test]
    fn each_thing_is_a_rule_of_its_own() {
        let rules = BucketRules {
            ids: "rorun-u-shop.".to_owned(),
            compared: false,
            lifecycle: Some(LifecycleRules {
                prefix: "a&b/".to_owned(),
                archive_after_days: Some(90),
                expire_noncurrent_after_days: Some(30),
                abort_incomplete_uploads_after_days: Some(7),
            }),
            origins: vec!["https://a.example".to_owned()],
            replication: Some(ReplicationRule {
                bucket: "other".to_owned(),
                region: "eu-central-1".to_owned(),
                role: "arn:aws-cn:iam::1:role/r".to_owned(),
            }),
        };
        let ids = |kind| wanted(kind, &rules).into_iter().map(|rule| rule.id).collect::<Vec<_>>();
        let lifecycle = ["archive", "noncurrent", "uploads"].map(|name| format!("rorun-u-shop.{name}"));
        assert_eq!(ids(RuleKind::Lifecycle), lifecycle);
        let texts: String =
            RuleKind::ALL.into_iter().flat_map(|kind| wanted(kind, &rules)).map(|rule| rule.text).collect();
        for part in [
            "<Prefix>a&amp;b/</Prefix>",
            "<StorageClass>GLACIER_IR<",
            "<AllowedOrigin>https://a.example<",
            ">arn:aws-cn:s3:::other<",
        ] {
            assert!(texts.contains(part), "{part} in {texts}");
        }
        let none = BucketRules { lifecycle: None, origins: Vec::new(), replication: None, ..rules };
        assert!(RuleKind::ALL.into_iter().all(|kind| wanted(kind, &none).is_empty()));
    }
}
