//! What a StatefulSet with data runs: enough to go on running it as it was.

use serde_json::Value;

use super::at;
use crate::names::Component;

/// The pod template of the embedded database, as far as the files on its volume depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTemplate {
    /// The image of its first container.
    pub image: String,
    /// The user of its processes.
    pub user: Option<i64>,
    /// Where its volume is mounted.
    pub mount: String,
}

impl ServerTemplate {
    pub(super) fn read(kind: &str, component: &str, object: &Value) -> Option<Box<Self>> {
        if kind != "StatefulSet" || component != Component::Database.as_str() {
            return None;
        }
        let pod = at(object, "/spec/template/spec")?;
        let container = pod.get("containers")?.get(0)?;
        let mounts = at(container, "/volumeMounts").and_then(Value::as_array).into_iter().flatten();
        let mount = mounts.filter(|mount| mount["name"] == "data").find_map(|mount| mount["mountPath"].as_str());
        Some(Box::new(Self {
            image: at(container, "/image").and_then(Value::as_str)?.to_owned(),
            user: at(pod, "/securityContext/runAsUser").and_then(Value::as_i64),
            mount: mount?.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_template_of_a_database_is_read_and_no_other() {
        let mounts = json!([{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}]);
        let pod = json!({"securityContext": {"runAsUser": 70}, "containers": [{"image": "postgres:17", "volumeMounts": mounts}]});
        let object = json!({"spec": {"template": {"spec": pod}}});
        let read = ServerTemplate::read("StatefulSet", "database", &object).expect("a template");
        assert_eq!((read.image.as_str(), read.user, read.mount.as_str()), ("postgres:17", Some(70), "/data"));
        assert_eq!(ServerTemplate::read("StatefulSet", "redis", &object), None);
        assert_eq!(ServerTemplate::read("Deployment", "database", &object), None);
        assert_eq!(ServerTemplate::read("StatefulSet", "database", &json!({})), None);
    }
}
