//! What must hold of releases at every moment of the audit log (O10): nothing of a release has pods before somebody approved it and its
//! own migration succeeded, nor serves before its candidate was tested; no migration is made twice, or without the way back that
//! Production needs; and nothing begins, or is put into a Deployment, but what the spec asks for or what served last.

use std::collections::{BTreeMap, BTreeSet};

use rorun_e2e::engine::AuditCall;
use serde_json::Value;

use crate::jobs::{CANDIDATE, DUMP, MIGRATION, SMOKE_TEST, asks_candidates, pod_of, step_of};

const APPROVE: &str = "/metadata/annotations/rorun.app~1approve";
const SPEC_IMAGE: &str = "/spec/api/image";
const SERVES: &str = "/status/release/current/api";
const CONTAINERS: &str = "/spec/template/spec/containers";

/// The problems, in the order in which they came. `approvals`: the images of each hash that the user approves. `gated`: a migration needs
/// a recovery point.
pub(super) fn problems(writes: &[AuditCall], approvals: &BTreeMap<String, String>, gated: bool) -> Vec<String> {
    let mut watched = Watched::new(approvals, gated);
    for write in writes {
        watched.see(write);
    }
    watched.problems
}

/// What a Job works for.
enum Work {
    Migration(String),
    RecoveryPoint,
    Test(Option<String>),
}

/// What is known at a moment.
struct Watched<'a> {
    approvals: &'a BTreeMap<String, String>,
    gated: bool,
    /// The image of the spec.
    asked: String,
    /// The image that serves, as the status tells.
    serves: Option<String>,
    /// Those that ever did.
    served: BTreeSet<String>,
    approved: BTreeSet<String>,
    migrated: BTreeSet<String>,
    tested: BTreeSet<String>,
    candidate: Option<String>,
    /// Whether a recovery point was made since the last migration began.
    way_back: bool,
    /// Every Job that was ever made.
    made: BTreeSet<String>,
    open: BTreeMap<String, Work>,
    problems: Vec<String>,
}

impl<'a> Watched<'a> {
    fn new(approvals: &'a BTreeMap<String, String>, gated: bool) -> Watched<'a> {
        Watched {
            approvals,
            gated,
            asked: String::new(),
            serves: None,
            served: BTreeSet::new(),
            approved: BTreeSet::new(),
            migrated: BTreeSet::new(),
            tested: BTreeSet::new(),
            candidate: None,
            way_back: false,
            made: BTreeSet::new(),
            open: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn see(&mut self, write: &AuditCall) {
        let AuditCall { resource, subresource, name, body, .. } = write;
        match (resource.as_str(), subresource.as_str()) {
            ("rorunstacks", "") => self.user_asks(body),
            ("rorunstacks", "status") => {
                if let Some(image) = text(body, SERVES) {
                    self.served.insert(image.clone());
                    self.serves = Some(image);
                }
            }
            ("jobs", "") if write.code == 201 => self.job_begins(name, body),
            ("pods", "status") => self.job_ends(name),
            ("deployments", "") if write.verb != "delete" => self.is_deployed(name, body),
            _ => {}
        }
    }

    fn user_asks(&mut self, body: &Value) {
        if let Some(image) = text(body, SPEC_IMAGE) {
            self.asked = image;
        }
        if let Some(image) = text(body, APPROVE).and_then(|hash| self.approvals.get(&hash)) {
            self.approved.insert(image.clone());
        }
    }

    fn job_begins(&mut self, name: &str, body: &Value) {
        if !self.made.insert(name.to_owned()) {
            self.problem(&format!("job/{name} was made twice"));
        }
        let work = match step_of(body).as_str() {
            MIGRATION => {
                let image = image_of(body, "migrate").unwrap_or_default();
                self.migration_begins(name, &image);
                Work::Migration(image)
            }
            DUMP => Work::RecoveryPoint,
            SMOKE_TEST => Work::Test(self.candidate.clone().filter(|_| asks_candidates(body))),
            _ => return,
        };
        self.open.insert(name.to_owned(), work);
    }

    fn migration_begins(&mut self, name: &str, image: &str) {
        let others = self.open.iter().filter(|(_, work)| matches!(work, Work::Migration(_)));
        let others: Vec<String> = others.map(|(other, _)| other.clone()).collect();
        for other in others {
            self.problem(&format!("job/{name} began beside the migration of job/{other}"));
        }
        if self.asked != image {
            self.problem(&format!("the migration of {image} began while the spec asked for {}", self.asked));
        }
        if !self.approved.contains(image) {
            self.problem(&format!("the migration of {image} began before somebody approved it"));
        }
        if self.migrated.contains(image) {
            self.problem(&format!("the migration of {image} began again after it had succeeded"));
        }
        if self.gated && !std::mem::take(&mut self.way_back) {
            self.problem(&format!("the migration of {image} began without a recovery point"));
        }
    }

    /// Its work is over, whenever that is told of the Job.
    fn job_ends(&mut self, pod: &str) {
        let Some(name) = self.open.keys().find(|name| pod_of(name) == pod).cloned() else { return };
        match self.open.remove(&name) {
            Some(Work::Migration(image)) => drop(self.migrated.insert(image)),
            Some(Work::RecoveryPoint) => self.way_back = true,
            Some(Work::Test(image)) => self.tested.extend(image),
            None => {}
        }
    }

    fn is_deployed(&mut self, name: &str, body: &Value) {
        let Some(image) = image_of(body, "api") else { return };
        let is_candidate = name.ends_with(CANDIDATE);
        if !self.approved.contains(&image) {
            self.problem(&format!("deployment/{name} got {image} before somebody approved it"));
        }
        if !self.migrated.contains(&image) {
            self.problem(&format!("deployment/{name} got {image} before its migration had succeeded"));
        }
        if self.asked != image && (is_candidate || self.serves.as_ref() != Some(&image)) {
            self.problem(&format!("deployment/{name} got {image}, which neither serves nor is what the spec asks for"));
        }
        if is_candidate {
            self.candidate = Some(image);
        } else if !self.served.is_empty() && !self.served.contains(&image) && !self.tested.contains(&image) {
            self.problem(&format!("deployment/{name} got {image} before its candidate was tested"));
        }
    }

    fn problem(&mut self, text: &str) {
        self.problems.push(format!("O10 {text}"));
    }
}

fn text(body: &Value, path: &str) -> Option<String> {
    body.pointer(path).and_then(Value::as_str).map(str::to_owned)
}

/// The image of a container, without its registry.
pub(super) fn image_of(workload: &Value, container: &str) -> Option<String> {
    let containers = workload.pointer(CONTAINERS).and_then(Value::as_array).into_iter().flatten();
    let image = containers.filter(|one| one["name"] == container).find_map(|one| one["image"].as_str())?;
    Some(image.rsplit('/').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::played as write;

    fn asks(image: &str) -> AuditCall {
        write("patch", ("rorunstacks", "shop", ""), 200, json!({"spec": {"api": {"image": image}}}))
    }

    fn approves(hash: &str) -> AuditCall {
        let annotations = json!({"rorun.app/approve": hash});
        write("patch", ("rorunstacks", "shop", ""), 200, json!({"metadata": {"annotations": annotations}}))
    }

    fn serves(image: &str) -> AuditCall {
        let status = json!({"release": {"state": "Serving", "current": {"api": image}}});
        write("patch", ("rorunstacks", "shop", "status"), 200, json!({"status": status}))
    }

    fn job(name: &str, component: &str, container: &Value) -> AuditCall {
        let spec = json!({"template": {"spec": {"containers": [container]}}});
        let labels = json!({"app.kubernetes.io/component": component});
        write("patch", ("jobs", name, ""), 201, json!({"metadata": {"labels": labels}, "spec": spec}))
    }

    fn migrates(name: &str, image: &str) -> AuditCall {
        job(name, "migration", &json!({"name": "migrate", "image": image}))
    }

    fn dumps(name: &str) -> AuditCall {
        job(name, "backup", &json!({"args": ["agent", "dump"]}))
    }

    fn tests(name: &str, host: &str) -> AuditCall {
        job(name, "smoke-test", &json!({"args": ["agent", "smoke-test", "--question", host]}))
    }

    fn ends(name: &str) -> AuditCall {
        write("patch", ("pods", &pod_of(name), "status"), 200, Value::Null)
    }

    fn deploys(name: &str, image: &str) -> AuditCall {
        let containers = json!([{"name": "sidecar", "image": "x"}, {"name": "api", "image": format!("reg/{image}")}]);
        write(
            "patch",
            ("deployments", name, ""),
            200,
            json!({"spec": {"template": {"spec": {"containers": containers}}}}),
        )
    }

    /// From nothing to a second image that serves.
    fn good() -> Vec<AuditCall> {
        vec![
            asks("a:1"),
            approves("h1"),
            dumps("d1"),
            ends("d1"),
            migrates("m1", "a:1"),
            ends("m1"),
            deploys("shop-api", "a:1"),
            serves("a:1"),
            asks("a:2"),
            approves("h2"),
            dumps("d2"),
            ends("d2"),
            migrates("m2", "a:2"),
            ends("m2"),
            deploys("shop-api-candidate", "a:2"),
            tests("t2", "shop-api-candidate.n.svc"),
            ends("t2"),
            deploys("shop-api", "a:2"),
            tests("v2", "shop-api.n.svc"),
            ends("v2"),
            serves("a:2"),
        ]
    }

    fn found(writes: &[AuditCall]) -> Vec<String> {
        let approvals = [("h1", "a:1"), ("h2", "a:2"), ("h3", "a:3")];
        problems(writes, &approvals.map(|(hash, image)| (hash.to_owned(), image.to_owned())).into(), true)
    }

    /// The good history without the writes that `left_out` names, by their place in it.
    fn without(left_out: &[usize]) -> Vec<String> {
        let kept = good().into_iter().enumerate().filter(|(index, _)| !left_out.contains(index));
        found(&kept.map(|(_, write)| write).collect::<Vec<_>>())
    }

    #[track_caller]
    fn one(found: &[String], words: &str) {
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    }

    #[test]
    fn a_release_with_all_its_steps_is_well_and_so_is_the_way_back() {
        assert_eq!(found(&good()), [""; 0]);
        let back = [asks("a:1"), deploys("shop-api", "a:1"), serves("a:1")];
        assert_eq!(found(&[good(), back.to_vec()].concat()), [""; 0]);
    }

    #[test]
    fn each_step_that_is_missing_is_found() {
        let unapproved = without(&[9]);
        assert!(unapproved.len() == 3 && unapproved.iter().all(|of| of.contains("approved it")), "{unapproved:?}");
        one(&without(&[10, 11]), "without a recovery point");
        one(&without(&[11]), "without a recovery point");
        // The pods of the candidate, and those that serve.
        let unmigrated = without(&[13]);
        assert!(unmigrated.len() == 2 && unmigrated.iter().all(|of| of.contains("migration had succeeded")));
        one(&without(&[16]), "before its candidate was tested");
        // Questions to what serves say nothing of a candidate.
        one(&without(&[14, 15, 16]), "before its candidate was tested");
    }

    #[test]
    fn a_migration_is_made_once_and_alone() {
        let again = |name: &str| [good(), vec![dumps("d3"), ends("d3"), migrates(name, "a:2")]].concat();
        one(&found(&again("m3")), "again after it had succeeded");
        assert_eq!(found(&again("m2")).len(), 2, "and under the same name");
        let next = vec![asks("a:3"), approves("h3"), dumps("d3"), ends("d3"), migrates("m3", "a:3")];
        assert_eq!(found(&[good(), next.clone()].concat()), [""; 0]);
        let mut beside = [good(), next].concat();
        beside.remove(13);
        assert!(found(&beside).iter().any(|of| of.contains("beside the migration of job/m2")));
        // A migration that did not succeed may be made once more, but not under its name.
        let twice = [&good()[..13], &[dumps("d3"), ends("d3"), ends("m0"), migrates("m2", "a:2")]].concat();
        assert!(found(&twice).iter().any(|of| of.contains("job/m2 was made twice")));
    }

    #[test]
    fn what_was_withdrawn_does_not_begin_nor_serve() {
        let withdrawn = |then: AuditCall| [&good()[..12], &[asks("a:1"), then]].concat();
        one(&found(&withdrawn(migrates("m2", "a:2"))), "while the spec asked for a:1");
        let rolls_out = |until: usize, name: &str| [&good()[..until], &[asks("a:1"), deploys(name, "a:2")]].concat();
        one(&found(&rolls_out(14, "shop-api-candidate")), "neither serves nor");
        one(&found(&rolls_out(17, "shop-api")), "neither serves nor");
        let on = [good(), vec![asks("a:3"), deploys("shop-api", "a:2")]].concat();
        assert_eq!(found(&on), [""; 0], "what serves is put right");
        one(&found(&[good(), vec![asks("a:3"), deploys("shop-api", "a:1")]].concat()), "neither serves nor");
        one(&found(&[good(), vec![asks("a:3"), deploys("shop-api-candidate", "a:2")]].concat()), "neither serves nor");
    }
}
