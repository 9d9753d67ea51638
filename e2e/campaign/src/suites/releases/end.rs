//! What must hold in the end (O10): the status, the condition and the pods are of the image that the spec asks for, and nothing of another
//! release is left.

use serde_json::Value;

use super::judge::image_of;
use crate::jobs::CANDIDATE;
use crate::stack::Condition;

/// What there is in the end.
pub(super) struct End<'a> {
    /// `status.release`.
    pub(super) release: &'a Value,
    /// The conditions of the stack.
    pub(super) conditions: &'a [Condition],
    /// The Deployments.
    pub(super) deployments: &'a [Value],
}

impl End<'_> {
    /// What is not of this image.
    pub(super) fn problems(&self, image: &str) -> Vec<String> {
        let End { release, conditions, deployments } = self;
        let mut problems = Vec::new();
        if release["state"] != "Serving" || release["current"]["api"] != image || !release["target"].is_null() {
            problems.push(format!("O10 in the end the release is {release}, and not {image} that serves"));
        }
        let ready = conditions.iter().find(|[kind, ..]| kind == "Ready");
        if ready.is_none_or(|[_, status, ..]| status != "True") {
            problems.push(format!("O10 in the end the stack is not ready: {ready:?}"));
        }
        let name = |deployment: &Value| deployment["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (candidates, serving): (Vec<_>, Vec<_>) =
            deployments.iter().partition(|deployment| name(deployment).ends_with(CANDIDATE));
        problems.extend(candidates.into_iter().map(|left| format!("O10 in the end deployment/{} is left", name(left))));
        let there: Vec<_> = serving.into_iter().filter_map(|deployment| image_of(deployment, "api")).collect();
        if there != [image] {
            problems.push(format!("O10 in the end the pods of the API are of {there:?}, not of {image}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(name: &str, image: &str) -> Value {
        let containers = json!([{"name": "api", "image": image}]);
        json!({"metadata": {"name": name}, "spec": {"template": {"spec": {"containers": containers}}}})
    }

    fn problems(release: &Value, ready: &str, deployments: &[Value]) -> usize {
        let conditions = [["Ready", ready, "", ""].map(str::to_owned)];
        End { release, conditions: &conditions, deployments }.problems("a:2").len()
    }

    #[test]
    fn what_is_not_of_the_image_in_the_end_is_found() {
        let serves = json!({"state": "Serving", "current": {"api": "a:2"}});
        let (api, candidate) = (deployment("shop-api", "a:2"), deployment("shop-api-candidate", "a:2"));
        assert_eq!(problems(&serves, "True", std::slice::from_ref(&api)), 0);
        assert_eq!(problems(&serves, "False", std::slice::from_ref(&api)), 1);
        assert_eq!(problems(&serves, "True", &[api.clone(), candidate]), 1);
        assert_eq!(problems(&serves, "True", &[deployment("shop-api", "a:1")]), 1);
        assert_eq!(problems(&serves, "True", &[]), 1);
        for other in [
            json!({"state": "Serving", "current": {"api": "a:1"}}),
            json!({"state": "Serving", "current": {"api": "a:2"}, "target": {"api": "a:3"}}),
            json!({"state": "RolledBack", "current": {"api": "a:2"}}),
            Value::Null,
        ] {
            assert_eq!(problems(&other, "True", std::slice::from_ref(&api)), 1, "{other}");
        }
    }
}
