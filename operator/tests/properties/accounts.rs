//! The ServiceAccounts, by which clouds know a pod.

use rorun_operator::{
    desired::everything,
    plan::{Plan, Step},
};
use serde_json::{Value, json};

use super::support::{stack, valid};

/// Drills and sanitized points have a server of their own: with the role of the application their statements would reach the live data.
#[test]
fn a_cloud_role_is_on_the_accounts_of_all_that_use_the_live_database() {
    let fixture = stack("shop").production().with_all_workloads();
    let fixture = fixture.set("api.serviceAccount", json!({"annotations": {"eks.amazonaws.com/role-arn": "app"}}));
    let fixture = fixture.set("api.migrations", json!({"command": ["migrate"]}));
    let cr = fixture.set("backup.verify", json!({})).build();
    let mut plan = Plan::default();
    plan.release.migration = Some(Step { name: "shop-migration-1".to_owned(), exists: false });
    plan.restores.works = true;
    let objects = everything(&valid(&cr), &plan);
    let accounts = objects.iter().filter(|object| object.kind.kind == "ServiceAccount");
    let role = |body: &Value| body["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "app";
    let (with, without): (Vec<_>, Vec<_>) = accounts.partition(|object| role(&object.body));
    let names = |of: Vec<&rorun_operator::objects::DesiredObject>| {
        let mut names: Vec<_> = of.into_iter().map(|object| object.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(with), ["shop-api", "shop-backup", "shop-migration", "shop-restore"]);
    assert_eq!(names(without), ["shop-admin", "shop-drill", "shop-ocr"]);
}
