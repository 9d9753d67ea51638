//! Whether a resource of AWS serves, by the status that its controller of AWS Controllers for Kubernetes writes. Its conditions say of
//! no generation that they are about it, so the word of AWS for the state counts as well (sources: `apis/core/v1alpha1` of ACK's
//! runtime, and the pages "Viewing DB instance status" of RDS and "Viewing replication group details" of ElastiCache).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    BUCKET, DB_INSTANCE, ObjectKey, ObjectKind, REPLICATION_GROUP, Readiness, SERVERLESS_CACHE, at,
    cloud_native_pg::is_true,
    readiness::{condition, int, moment, name, text},
};
use crate::names::reason;

/// What other objects are made of it: its addresses, and what a change has to be confirmed of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckNote {
    /// The address for writes. `None`: it has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<AckEndpoint>,
    /// The address for reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<AckEndpoint>,
    /// The class that its spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The engine that the spec of a cache asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The version of the engine that its spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The storage in GiB that the spec of a DB instance asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<i64>,
    /// What AWS can restore by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable: Option<AckRestorable>,
    /// What AWS calls this instance and no other, also one that is made again by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// The newest moment that AWS can restore to, as of when its controller asked: it asks every few hours. In seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckRestorable {
    /// The newest moment.
    pub until: i64,
    /// When the controller asked: it gives this condition the time of each question, whether or not its status changes.
    pub asked: i64,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckEndpoint {
    /// Host name.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The states in which a DB instance takes connections, beside `available`: it does so while RDS works on it.
const SERVES: [&str; 9] = [
    "backing-up",
    "configuring-associated-roles",
    "configuring-enhanced-monitoring",
    "configuring-iam-database-auth",
    "configuring-log-exports",
    "modifying",
    "resetting-master-credentials",
    "storage-config-upgrade",
    "storage-optimization",
];

/// States that do not end by themselves.
const STUCK: [&str; 13] = [
    "create-failed",
    "failed",
    "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable",
    "incompatible-credentials",
    "incompatible-network",
    "incompatible-option-group",
    "incompatible-parameters",
    "incompatible-restore",
    "insufficient-capacity",
    "restore-error",
    "stopped",
    "storage-full",
];

/// What the status of an object of AWS tells.
struct AwsState<'a> {
    kind: &'static ObjectKind,
    object: &'a Value,
    /// The word of AWS for the state.
    state: Option<&'a str>,
    /// Whether the state is one in which it serves though AWS works on it.
    serves: bool,
    /// Whether it has what others reach it by.
    reachable: bool,
}

pub(super) fn db_instance(object: &Value) -> Readiness {
    let state = text(object, "/status/dbInstanceStatus");
    let serves = state.is_some_and(|state| SERVES.contains(&state));
    let reachable = endpoint(object, "/status/endpoint").is_some();
    AwsState { kind: DB_INSTANCE, object, state, serves, reachable }.readiness()
}

pub(super) fn replication_group(object: &Value) -> Readiness {
    let state = text(object, "/status/status");
    let serves = matches!(state, Some("modifying" | "snapshotting"));
    let reachable = cache_endpoint(object).is_some();
    AwsState { kind: REPLICATION_GROUP, object, state, serves, reachable }.readiness()
}

pub(super) fn serverless_cache(object: &Value) -> Readiness {
    let state = text(object, "/status/status");
    let reachable = endpoint(object, "/status/endpoint").is_some();
    AwsState { kind: SERVERLESS_CACHE, object, state, serves: state == Some("modifying"), reachable }.readiness()
}

/// A bucket has no state: it is there once its controller says that it is as the spec asks for.
pub(super) fn bucket(object: &Value) -> Readiness {
    let state = is(object, "ACK.ResourceSynced", "True").map(|_| "available");
    AwsState { kind: BUCKET, object, state, serves: false, reachable: true }.readiness()
}

impl AwsState<'_> {
    fn readiness(&self) -> Readiness {
        let key = ObjectKey { kind: self.kind.key, name: name(self.object).to_owned() };
        let progressing = |message: String| Readiness::waiting(reason::PROGRESSING, message);
        let said = |kind: &str, status: &str| is(self.object, kind, status).map(words);
        if let Some(state) = self.state.filter(|state| state.starts_with("delet")) {
            let message = format!("{key} is {state} in AWS: it serves nobody any more, whatever else its status says");
            return Readiness::waiting(reason::TERMINATING, message);
        }
        if let Some(said) = said("ACK.Terminal", "True") {
            return Readiness::waiting(reason::PROVIDER_REFUSED, format!("{key} is refused: {said}"));
        }
        if let Some(state) = self.state.filter(|state| STUCK.contains(state)) {
            let message = format!("{key} is {state} in AWS, which does not end by itself: read its events in AWS");
            return Readiness::waiting(reason::PROVIDER_REFUSED, message);
        }
        for kind in ["ACK.Recoverable", "ACK.ReferencesResolved"] {
            let status = if kind == "ACK.Recoverable" { "True" } else { "False" };
            if let Some(said) = said(kind, status) {
                let message = format!("{key}: its controller tries again: {said}");
                return Readiness::waiting(reason::PROVIDER_FAILED, message);
            }
        }
        let Some(state) = self.state else {
            let message = match at(self.object, "/status") {
                None => format!("{key} has no status yet: its controller may not run"),
                Some(_) => format!("{key} is being made in AWS"),
            };
            return progressing(message);
        };
        if state != "available" && !self.serves {
            return progressing(format!("{key} is {state} in AWS"));
        }
        if !self.reachable {
            return progressing(format!("{key} is {state} in AWS, and has no address yet"));
        }
        // Of one that is being worked on the controller always says that it is not as it should be.
        match said("ACK.ResourceSynced", "False").filter(|_| state == "available") {
            Some(said) if said.is_empty() => progressing(format!("{key} is not yet as its spec asks for")),
            Some(said) => progressing(format!("{key} is not yet as its spec asks for: {said}")),
            None => Readiness::Ready,
        }
    }
}

/// The message of a condition, if it has a status.
fn is<'a>(object: &'a Value, kind: &str, status: &str) -> Option<&'a str> {
    let found = condition(object, kind).filter(|found| text(found, "/status") == Some(status))?;
    Some(text(found, "/message").unwrap_or_default())
}

/// What AWS said, without the number of the request: it is another one in each attempt, and would change the status each time.
fn words(said: &str) -> String {
    let mut text = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for mark in ["RequestID: ", "request id: ", "Request ID: "] {
        while let Some(start) = text.find(mark) {
            let end = text[start..].find([',', ')', ';']).map_or(text.len(), |length| start + length);
            let rest = text[end..].trim_start_matches([',', ' ']).to_owned();
            text.truncate(start);
            text.push_str(&rest);
        }
    }
    text.trim_end_matches([',', ' ', ':']).to_owned()
}

/// The parts of an object of one of the controllers that a decision needs, as JSON: of most objects there are none.
pub(super) fn note(kind: &ObjectKind, object: &Value) -> Option<Box<str>> {
    let of = |path: &str| text(object, path).map(str::to_owned);
    let note = match kind.kind {
        _ if kind.is_core() => return None,
        "DBInstance" => AckNote {
            endpoint: endpoint(object, "/status/endpoint"),
            reader: None,
            class: of("/spec/dbInstanceClass"),
            engine: None,
            version: of("/spec/engineVersion"),
            storage: int(object, "/spec/allocatedStorage"),
            restorable: restorable(object),
            identity: of("/status/dbiResourceID"),
        },
        "ReplicationGroup" => AckNote {
            endpoint: cache_endpoint(object),
            reader: at(object, "/status/nodeGroups")
                .and_then(|groups| groups.get(0))
                .and_then(|group| endpoint(group, "/readerEndpoint")),
            class: of("/spec/cacheNodeType"),
            engine: of("/spec/engine"),
            version: of("/spec/engineVersion"),
            storage: None,
            restorable: None,
            identity: None,
        },
        "ServerlessCache" => AckNote {
            endpoint: endpoint(object, "/status/endpoint"),
            reader: endpoint(object, "/status/readerEndpoint"),
            class: None,
            engine: of("/spec/engine"),
            version: of("/spec/majorEngineVersion"),
            storage: None,
            restorable: None,
            identity: None,
        },
        _ => return None,
    };
    serde_json::to_string(&note).ok().map(Into::into)
}

fn restorable(object: &Value) -> Option<AckRestorable> {
    let until = moment(object, "/status/latestRestorableTime")?;
    // ACK moves this time also when it could not ask, so that what it knows is old then.
    let failed = ["ACK.Recoverable", "ACK.Terminal"].into_iter().any(|kind| is_true(object, kind));
    let asked = moment(condition(object, "ACK.ResourceSynced")?, "/lastTransitionTime")?;
    Some(AckRestorable { until, asked: if failed { until } else { asked } })
}

fn endpoint(object: &Value, path: &str) -> Option<AckEndpoint> {
    let found = at(object, path)?;
    let host = text(found, "/address").filter(|host| !host.is_empty())?.to_owned();
    let port = u16::try_from(int(found, "/port")?).ok().filter(|port| *port != 0)?;
    Some(AckEndpoint { host, port })
}

/// Of a group in cluster mode the address of the configuration, else that of the primary.
fn cache_endpoint(object: &Value) -> Option<AckEndpoint> {
    endpoint(object, "/status/configurationEndpoint").or_else(|| {
        let first = at(object, "/status/nodeGroups")?.get(0)?;
        endpoint(first, "/primaryEndpoint")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn instance(state: Option<&str>, conditions: &[(&str, &str, &str)]) -> Value {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, message)| json!({"type": kind, "status": status, "message": message}))
            .collect();
        json!({
            "metadata": {"name": "shop-database"},
            "status": {
                "dbInstanceStatus": state,
                "conditions": conditions,
                "endpoint": {"address": "shop.example.com", "port": 5432},
            },
        })
    }

    #[rstest]
    #[case::being_made(Some("creating"), &[("ACK.ResourceSynced", "False", "")], reason::PROGRESSING, "is creating")]
    #[case::made(Some("available"), &[("ACK.ResourceSynced", "True", "")], "", "")]
    #[case::changed_just_now(Some("available"), &[("ACK.ResourceSynced", "False", "")], reason::PROGRESSING, "not yet as")]
    #[case::backed_up(Some("backing-up"), &[("ACK.ResourceSynced", "False", "")], "", "")]
    #[case::rebooting(Some("rebooting"), &[("ACK.ResourceSynced", "True", "")], reason::PROGRESSING, "is rebooting")]
    #[case::refused(
        None, &[("ACK.Terminal", "True", "InvalidParameterValue: no such class")], reason::PROVIDER_REFUSED, "no such class"
    )]
    #[case::a_change_is_refused(
        Some("available"), &[("ACK.Terminal", "True", "no such class")], reason::PROVIDER_REFUSED, "no such class"
    )]
    #[case::tried_again(None, &[("ACK.Recoverable", "True", "throttled")], reason::PROVIDER_FAILED, "tries again: throttled")]
    #[case::no_secret(None, &[("ACK.ReferencesResolved", "False", "no Secret")], reason::PROVIDER_FAILED, "no Secret")]
    #[case::goes(Some("deleting"), &[("ACK.ResourceSynced", "True", "")], reason::TERMINATING, "is deleting")]
    #[case::full(Some("storage-full"), &[("ACK.ResourceSynced", "True", "")], reason::PROVIDER_REFUSED, "storage-full")]
    fn the_state_and_the_conditions_decide(
        #[case] state: Option<&str>,
        #[case] conditions: &[(&str, &str, &str)],
        #[case] expected: &str,
        #[case] told: &str,
    ) {
        match db_instance(&instance(state, conditions)) {
            Readiness::Ready => assert_eq!(expected, ""),
            Readiness::Waiting(waiting) => {
                assert_eq!(waiting.reason, expected, "{}", waiting.message);
                assert!(
                    waiting.message.starts_with("dbinstance.rds.services.k8s.aws/shop-database"),
                    "{}",
                    waiting.message
                );
                assert!(waiting.message.contains(told), "{}", waiting.message);
            }
        }
    }

    #[test]
    fn what_aws_can_restore_is_of_the_moment_that_it_was_asked_at() {
        let mut object = instance(Some("available"), &[("ACK.ResourceSynced", "True", "")]);
        let read = |object: &Value| {
            let note: AckNote = serde_json::from_str(&note(DB_INSTANCE, object).expect("a note")).expect("JSON");
            note.restorable.map(|found| found.asked - found.until)
        };
        assert_eq!(read(&object), None);
        object["status"]["latestRestorableTime"] = json!("2026-11-29T07:55:30Z");
        assert_eq!(read(&object), None, "nobody knows when that was read");
        object["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-11-29T08:00:00Z");
        assert_eq!(read(&object), Some(270));
    }

    #[test]
    fn an_instance_that_is_made_again_by_its_name_is_another_one() {
        let mut object = instance(Some("available"), &[]);
        let read = |object: &Value| {
            let note: AckNote = serde_json::from_str(&note(DB_INSTANCE, object).expect("a note")).expect("JSON");
            note.identity
        };
        assert_eq!(read(&object), None);
        object["status"]["dbiResourceID"] = json!("db-ABCDEFGHIJKL");
        assert_eq!(read(&object).as_deref(), Some("db-ABCDEFGHIJKL"));
    }

    #[test]
    fn without_an_address_nothing_is_ready() {
        let mut object = instance(Some("available"), &[("ACK.ResourceSynced", "True", "")]);
        object["status"]["endpoint"] = Value::Null;
        assert!(!db_instance(&object).is_ready());
        assert!(!db_instance(&json!({"metadata": {"name": "a"}})).is_ready());
    }

    #[rstest]
    #[case("api error X: no, RequestID: 1-2-3, more", "api error X: no, more")]
    #[case("no status code: 400, request id: 1-2-3", "no status code: 400")]
    #[case("a\n\tb", "a b")]
    fn the_number_of_a_request_changes_no_status(#[case] said: &str, #[case] expected: &str) {
        assert_eq!(words(said), expected);
    }

    #[test]
    fn a_group_in_cluster_mode_is_reached_by_its_configuration() {
        let address = |host: &str| json!({"address": host, "port": 6379});
        let groups = json!([{"primaryEndpoint": address("primary"), "readerEndpoint": address("reader")}]);
        let mut object = json!({"spec": {"cacheNodeType": "cache.t4g.small"}, "status": {"nodeGroups": groups}});
        let read = |object: &Value| -> AckNote {
            serde_json::from_str(&note(REPLICATION_GROUP, object).expect("a note")).expect("JSON")
        };
        let before = read(&object);
        assert_eq!(before.endpoint.map(|found| found.host), Some("primary".to_owned()));
        assert_eq!(
            (before.reader.map(|found| found.host), before.class),
            (Some("reader".into()), Some("cache.t4g.small".into()))
        );
        object["status"]["configurationEndpoint"] = address("configuration");
        assert_eq!(read(&object).endpoint.map(|found| found.host), Some("configuration".to_owned()));
    }
}
