//! What the main container of a pod runs: the one that is named like its component. Sidecars are no part of a release.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{ObjectKind, at};
use crate::names::image;

/// What the main container of a pod runs. The pods of a workload share the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The image.
    pub image: Arc<Image>,
    /// When the container was last started again after it had ended, in seconds since 1970. `None`: it never was.
    pub restarted: Option<i64>,
}

/// An image as a node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The name in the spec of the pod.
    pub name: Box<str>,
    /// The digest in the repository of that name. `None`: the node has it from no registry.
    pub digest: Option<Box<str>>,
}

impl Running {
    /// Reads the container of this name. `None`: the object is no pod, has no such container, or it has not started yet.
    pub(super) fn read(kind: &ObjectKind, object: &Value, container: &str) -> Option<Box<Self>> {
        if kind.kind != "Pod" {
            return None;
        }
        let named = |list: &str| {
            let list = at(object, list)?.as_array()?;
            list.iter().find(|there| there.get("name").and_then(Value::as_str) == Some(container))
        };
        let name = named("/spec/containers")?.get("image")?.as_str()?;
        let status = named("/status/containerStatuses")?;
        let id = status.get("imageID")?.as_str().filter(|id| !id.is_empty())?;
        let again = status.get("restartCount").and_then(Value::as_i64).is_some_and(|count| count > 0);
        let started = at(status, "/state/running/startedAt").and_then(Value::as_str).filter(|_| again);
        let digest = image::pulled(name, id).map(Into::into);
        Some(Box::new(Self {
            image: Arc::new(Image { name: name.into(), digest }),
            restarted: started.and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_second),
        }))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// How often the container was started again, and since when it runs.
    #[rstest]
    #[case::never(0, json!({"running": {"startedAt": "1970-01-01T00:01:00Z"}}), None)]
    #[case::once(1, json!({"running": {"startedAt": "1970-01-01T00:01:00Z"}}), Some(60))]
    #[case::it_is_about_to(1, json!({"waiting": {"reason": "CrashLoopBackOff"}}), None)]
    fn the_container_of_the_component_is_read_and_no_other(
        #[case] restarts: i64,
        #[case] state: Value,
        #[case] restarted: Option<i64>,
    ) {
        let status = |name: &str, restarts: i64| json!({"name": name, "imageID": format!("r.example/{name}@{DIGEST}"), "restartCount": restarts, "state": state});
        let pod = json!({
            "spec": {"containers": [{"name": "proxy", "image": "r.example/proxy:1"}, {"name": "api", "image": "r.example/api:1"}]},
            "status": {"containerStatuses": [status("proxy", 7), status("api", restarts)]},
        });
        let kind = kind_of("", "Pod").unwrap();
        let running = Running::read(kind, &pod, "api").unwrap();
        let image = Image { name: "r.example/api:1".into(), digest: Some(DIGEST.into()) };
        assert_eq!(*running, Running { image: Arc::new(image), restarted });
        assert_eq!(Running::read(kind, &pod, "ocr"), None);
        assert_eq!(Running::read(kind_of("batch", "Job").unwrap(), &pod, "api"), None);
    }
}
