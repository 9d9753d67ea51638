//! A plan: one fault, at one place of a run. The place is a request by what it is about and how often it came, never a time,
//! so that a plan can be played again. Of several plans each waits for the one before it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The request that it happens to.
    pub at: Call,
    /// The how-manieth of its like, from 1; after another plan, from when that one happened.
    pub occurrence: usize,
    /// What happens.
    pub fault: Fault,
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { at, occurrence, fault } = self;
        write!(formatter, "{at} no. {occurrence}: {fault:?}")
    }
}

/// The verb of plans that mean whatever write comes.
const ANY_WRITE: &str = "write";

const PREFLIGHT: &str = "-preflight-";
/// How many digits the hash at the end of a name has.
const HASH_DIGITS: usize = 10;

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `patch`, `update`, `delete`. In plans also `write`: any write, or any of the resource.
    pub verb: String,
    /// The plural, as in `deployments`; empty for what is no resource.
    pub resource: String,
    /// The object's namespace; empty for what has none.
    #[serde(skip)]
    pub namespace: String,
    /// The object's name; empty for lists.
    pub name: String,
    /// `status` and so on; mostly empty.
    pub subresource: String,
}

/// Requests of one run as plans name them: without the namespace, and of those that are alike, which it is, from 1.
pub(super) fn numbered(calls: impl IntoIterator<Item = Call>) -> Vec<(Call, usize)> {
    let mut met = BTreeMap::<Call, usize>::new();
    let numbered = calls.into_iter().map(|call| {
        let like = call.place();
        let count = met.entry(like.clone()).or_default();
        *count += 1;
        (like, *count)
    });
    numbered.collect()
}

/// Those of the first run that came in every other too: how many statuses are told depends on time.
pub(super) fn always(runs: impl IntoIterator<Item = Vec<(Call, usize)>>) -> Vec<(Call, usize)> {
    let common = |mut one: Vec<(Call, usize)>, other: Vec<(Call, usize)>| {
        one.retain(|call| other.contains(call));
        one
    };
    runs.into_iter().reduce(common).unwrap_or_default()
}

/// The name of an object without what is another in each run: the hash of a Job is of the stack's uid, or of a request's, too.
pub(super) fn same_in_each_run(name: &str) -> String {
    let is_hash = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (name.rsplit_once(PREFLIGHT), name.rsplit_once('-')) {
        (Some((before, hash)), _) if is_hash(hash) => format!("{before}{PREFLIGHT}HASH"),
        (_, Some((before, hash))) if hash.len() == HASH_DIGITS && is_hash(hash) => format!("{before}-HASH"),
        _ => name.to_owned(),
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { verb, resource, name, subresource, .. } = self;
        write!(formatter, "{verb} {resource}/{name}")?;
        if subresource.is_empty() { Ok(()) } else { write!(formatter, "/{subresource}") }
    }
}

impl Call {
    /// Reads a request to a Kubernetes API server.
    pub fn of(method: &str, path: &str, query: &str) -> Call {
        let mut parts = path.trim_matches('/').split('/');
        let skipped = match parts.next() {
            Some("api") => 1,
            Some("apis") => 2,
            _ => return Call { verb: method.to_lowercase(), ..Call::default() },
        };
        let rest: Vec<&str> = parts.skip(skipped).collect();
        let (namespace, rest) = match rest[..] {
            ["namespaces", namespace, _, ..] => (namespace, &rest[2..]),
            _ => ("", &rest[..]),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let watched = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let verb = match method {
            "GET" if watched => "watch",
            "GET" if rest.len() < 2 => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            other => other,
        };
        Call {
            verb: verb.to_owned(),
            resource: part(0),
            namespace: namespace.to_owned(),
            name: part(1),
            subresource: part(2),
        }
    }

    /// Any write at all.
    pub fn any_write() -> Call {
        Call { verb: ANY_WRITE.to_owned(), ..Call::default() }
    }

    /// Whether a plan that names this means that call. Events only tell, so they are no place of a plan.
    pub fn covers(&self, call: &Call) -> bool {
        if self.verb == ANY_WRITE {
            let of_resource = self.resource.is_empty() || self.resource == call.resource;
            return call.is_write() && call.resource != "events" && of_resource;
        }
        *self == call.place()
    }

    /// The call as plans name it.
    fn place(&self) -> Call {
        Call { namespace: String::new(), name: same_in_each_run(&self.name), ..self.clone() }
    }

    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete")
    }
}

/// The fault of a request, and of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// The action of the suite happens first; then the request goes on.
    Meanwhile,
    /// The operator is killed, and the API server never receives the request.
    KillBefore,
    /// The operator is killed after the API server carried the request out, and never receives the answer.
    KillAfterCommit,
    /// The operator is killed when it has the answer.
    KillAfterAnswer,
    /// The API server never receives the request; the proxy answers it with this status, 429 and 503 with `Retry-After: 1`.
    Refuse(u16),
    /// The API server never receives the request; the proxy answers it with this status and these seconds in `Retry-After`.
    RefuseFor(u16, u64),
    /// The API server carries the request out; the proxy answers with this status all the same.
    RefuseAfterCommit(u16),
    /// The API server carries the request out, and the connection ends in the middle of the answer.
    ResetAfterCommit,
    /// The proxy delays the request for these milliseconds, and then forwards it, even if its sender no longer waits.
    DelayRequest(u64),
    /// The API server carries the request out, and the proxy delays the answer for these milliseconds.
    DelayAnswer(u64),
    /// From now on watches of the resource deliver nothing, until so many more writes came, or none comes any more; then they
    /// deliver everything, in order.
    Hold(usize),
    /// From now on watches of the resource lose their events, until so many more writes came, or none comes any
    /// more; then they end with 410, so that only the newest state is listed.
    Miss(usize),
    /// The API server carries the request out, and another client deletes the object before the answer. Watches of the resource
    /// lose both, and end with 410 when nothing is written any more: no cache ever shows that the object was there.
    Vanish,
    /// From now on watches of the resource deliver everything twice.
    Repeat,
    /// From now on watches of the resource end after so many events.
    Cut(usize),
    /// The watches of the resource that are open stay open, and no byte comes any more.
    Stall,
    /// The revision just before this request is remembered, for going back to it.
    Remember,
    /// The operator is killed after the API server carried the request out. The first lists of the next one, of every
    /// resource, are from the remembered revision, or from just before this request; its watches deliver nothing until it has
    /// come to rest.
    KillIntoPast,
    /// The same, for the resource of the request alone.
    KillIntoPastOfOne,
}

impl Fault {
    /// Whether the operator is killed by it.
    pub fn kills(self) -> bool {
        use Fault::{KillAfterAnswer, KillAfterCommit, KillBefore, KillIntoPast, KillIntoPastOfOne};
        matches!(self, KillBefore | KillAfterCommit | KillAfterAnswer | KillIntoPast | KillIntoPastOfOne)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str, query: &str) -> String {
        Call::of(method, path, query).to_string()
    }

    #[test]
    fn requests_are_read_as_the_audit_log_has_them() {
        assert_eq!(call("PATCH", "/apis/apps/v1/namespaces/a/deployments/x", "force=true"), "patch deployments/x");
        assert_eq!(
            call("PATCH", "/apis/rorun.app/v1alpha1/namespaces/a/rorunstacks/x/status", ""),
            "patch rorunstacks/x/status"
        );
        assert_eq!(call("GET", "/api/v1/namespaces/a/secrets", "limit=500"), "list secrets/");
        assert_eq!(call("GET", "/api/v1/secrets", "watch=true&limit=1"), "watch secrets/");
        assert_eq!(call("GET", "/api/v1/namespaces/a", ""), "get namespaces/a");
        assert_eq!(call("GET", "/readyz", ""), "get /");
        assert_eq!(Call::of("DELETE", "/api/v1/namespaces/a/services/s", "").namespace, "a");
    }

    #[test]
    fn a_plan_means_one_call_or_any_write() {
        let call = Call::of("DELETE", "/api/v1/namespaces/a/services/s", "");
        let same = Call { namespace: String::new(), ..call.clone() };
        assert!(same.covers(&call) && Call::any_write().covers(&call));
        assert!(Call { resource: "services".to_owned(), ..Call::any_write() }.covers(&call));
        assert!(!Call { resource: "secrets".to_owned(), ..Call::any_write() }.covers(&call));
        assert!(!Call { name: "t".to_owned(), ..same }.covers(&call));
        let job =
            |hash: &str| Call::of("PATCH", &format!("/apis/batch/v1/namespaces/a/jobs/shop-preflight-{hash}"), "");
        assert!(job("0123456789").place().covers(&job("abcdef0123")) && job("0").place().name == "shop-preflight-HASH");
        assert_eq!(same_in_each_run("shop-preflight"), "shop-preflight");
        assert_eq!(same_in_each_run("shop-migration-0123456789"), "shop-migration-HASH");
        assert_eq!(same_in_each_run("shop-database"), "shop-database");
        assert!(!Call::any_write().covers(&Call::of("GET", "/api/v1/namespaces/a/services/s", "")));
        assert!(!Call::any_write().covers(&Call::of("POST", "/api/v1/namespaces/a/events", "")));
    }
}
