//! What must hold of Jobs at every moment of the audit log (O9): of those that work on live data one runs at a time, nothing touches a
//! Job before its pod has ended, and meanwhile nothing takes its database away.

use std::collections::BTreeMap;

use rorun_e2e::engine::AuditCall;

use super::jobs::{is_live, pod_of, step_of};

/// The problems, in the order in which they came.
pub(super) fn problems(writes: &[AuditCall]) -> Vec<String> {
    let mut running = BTreeMap::<&str, String>::new();
    let mut problems = Vec::new();
    for write in writes {
        match (write.resource.as_str(), write.subresource.as_str()) {
            ("jobs", "") if write.code == 201 => {
                let (name, step) = (write.name.as_str(), step_of(&write.body));
                let others = running.iter().filter(|(_, other)| is_live(&step) && is_live(other));
                problems.extend(others.map(|(other, does)| {
                    format!("O9 job/{name} ({step}) began while job/{other} ({does}) worked on live data")
                }));
                running.insert(name, step);
            }
            ("jobs", "") => problems.extend(
                running
                    .get(write.name.as_str())
                    .map(|step| format!("O9 job/{} ({step}) was not left to itself: {}", write.name, write.verb)),
            ),
            ("statefulsets", "") if write.body.pointer("/spec/replicas").is_some_and(|count| count == 0) => {
                let live = running.iter().filter(|(_, step)| is_live(step));
                problems.extend(live.map(|(job, step)| {
                    format!(
                        "O9 statefulset/{} was switched off while job/{job} ({step}) worked on live data",
                        write.name
                    )
                }));
            }
            // Its work is over, whenever that is told of the Job.
            ("pods", "status") => running.retain(|job, _| pod_of(job) != write.name),
            _ => {}
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::history::played as write;

    fn begins(name: &str, words: &[&str]) -> AuditCall {
        let body = json!({"spec": {"template": {"spec": {"containers": [{"args": words}]}}}});
        write("patch", ("jobs", name, ""), 201, body)
    }

    fn ends(name: &str) -> AuditCall {
        write("patch", ("pods", &format!("{name}-x"), "status"), 200, Value::Null)
    }

    #[test]
    fn of_jobs_on_live_data_the_second_begins_once_the_first_has_ended() {
        let (dump, switch) = (begins("d", &["agent", "dump"]), begins("s", &["agent", "restore", "switch"]));
        assert_eq!(problems(&[dump.clone(), ends("d"), switch.clone(), ends("s")]), [""; 0]);
        assert_eq!(problems(&[dump.clone(), switch, ends("d"), ends("s")]).len(), 1);
        assert_eq!(problems(&[dump, begins("c", &["agent", "restore", "copy"])]), [""; 0]);
    }

    #[test]
    fn a_job_is_left_to_itself_until_its_pod_has_ended() {
        let dump = begins("d", &["agent", "dump"]);
        for verb in ["delete", "patch"] {
            let touched = write(verb, ("jobs", "d", ""), 200, Value::Null);
            assert_eq!(problems(&[dump.clone(), touched.clone(), ends("d")]).len(), 1, "{verb}");
            assert_eq!(problems(&[dump.clone(), ends("d"), touched]), [""; 0], "{verb}");
        }
        let replicas = |count: u8| json!({"spec": {"replicas": count}});
        let scaled = |count| write("patch", ("statefulsets", "s", ""), 200, replicas(count));
        assert_eq!(problems(&[dump.clone(), scaled(1), scaled(0), ends("d"), scaled(0)]).len(), 1);
        let status = write("patch", ("jobs", "d", "status"), 200, Value::Null);
        assert_eq!(problems(&[dump, status]), [""; 0]);
    }
}
