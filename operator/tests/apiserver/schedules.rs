//! Schedules and time zones: what the operator takes, and what the API server takes of a CronJob, is the same.

use rorun_operator::{objects::kind_of, stack::Schedule};
use serde_json::json;

use super::server::{Server, Store};

const SCHEDULES: [&str; 48] = [
    "15 2 * * *",
    "* * * * *",
    "*/5 * * * *",
    "*/0 * * * *",
    "*/61 * * * *",
    "0/20 * * * *",
    "61/5 * * * *",
    "60 * * * *",
    "59 23 31 12 6",
    "0 24 * * *",
    "0 0 0 * *",
    "0 0 32 * *",
    "0 0 30 2 *",
    "0 0 * 0 *",
    "0 0 * 13 *",
    "0 0 * * 7",
    "0 0 * * 0-6",
    "0 0 * * 5-1",
    "0 0 * * SUN",
    "0 0 * * sunday",
    "0 0 * jan-Mar mon,WED,fri",
    "0 0 * jan-mar/2 *",
    "0 0 jan * *",
    "0 0 ? * *",
    "0 0 ?/2 * ?",
    "0 0 L * *",
    "0 0 15W * *",
    "0 0 * * 5#2",
    "0 9-17 * * 1-5",
    "0 17-9 * * *",
    "0 9-17/2 * * *",
    "0 9-17-20 * * *",
    "0 *-5 * * *",
    "0 5-* * * *",
    "0 1/2/3 * * *",
    "1,2,3 * * * *",
    "1,,3 * * * *",
    ", * * * *",
    "05 007 * * *",
    "-1 * * * *",
    "1- * * * *",
    "0 0 * *",
    "0 0 * * * *",
    "0  0   *  * *",
    "@hourly",
    "@midnight",
    "@Daily",
    "@reboot",
];

const ZONES: [&str; 16] = [
    "Etc/UTC",
    "UTC",
    "Africa/Lagos",
    "africa/lagos",
    "Africa/Lagoss",
    "America/Argentina/Buenos_Aires",
    "Etc/GMT+5",
    "GMT",
    "EST",
    "US/Eastern",
    "Europe/Kyiv",
    "Local",
    "local",
    "+01:00",
    "Europe",
    "Zulu",
];

pub async fn the_operator_takes_what_a_cron_job_takes(server: &Server) {
    let namespace = server.namespace("schedules").await;
    let mut wrong = Vec::new();
    let all = SCHEDULES.iter().map(|schedule| (*schedule, "Etc/UTC")).chain(ZONES.iter().map(|zone| ("@daily", *zone)));
    for (schedule, zone) in all {
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}}}]});
        let body = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
            "spec": {"schedule": schedule, "timeZone": zone, "jobTemplate": {"spec": {"template": {"spec": pod}}}},
        });
        let kind = kind_of("batch", "CronJob").expect("a known kind");
        let answer = server.create_object(&namespace, kind, &body, Store::No).await;
        let taken = Schedule::parse(schedule, zone);
        match (&answer, &taken) {
            (Ok(_), Err(problem)) => {
                wrong.push(format!("{schedule:?} {zone:?}: only the operator refuses it: {problem}"));
            }
            (Err(message), Ok(_)) => {
                wrong.push(format!("{schedule:?} {zone:?}: only the API server refuses it: {message}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
