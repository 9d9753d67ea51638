//! What users merge over pods: what of a pod stays the operator's whatever they write.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample::select};
use rorun_operator::{
    contract::ENV_ORIGIN,
    desired::{desired, everything},
    names::Component,
    objects::{DesiredObject, LiveSet},
    stack::{Observed, SecretData, own, validate},
};
use serde_json::{Value, json};

use super::{
    generate::{config, fixtures, stacks},
    support::{Fixture, all_ready, all_there, containers, items, objects, stack, template, text, valid},
};

/// Every component that has a patch of its own for its pods, and the block of the spec that it stands in.
fn fields() -> impl Iterator<Item = (Component, &'static str)> {
    Component::ALL.into_iter().filter_map(|component| Some((component, own(component)?.field?)))
}

/// A patch for the pods of a component, as users may write it.
fn patch(component: Component) -> impl Strategy<Value = Value> {
    let own = own(component).expect("a component with pods");
    let main = own.main;
    let pod = option::of(select(vec![
        json!({"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}),
        json!({"supplementalGroups": [7], "fsGroupChangePolicy": "Always"}),
        json!({"$patch": "replace", "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}),
    ]));
    let container = option::of(select(vec![
        json!({"readOnlyRootFilesystem": false}),
        json!({"runAsUser": 1001}),
        json!({"capabilities": {"add": ["NET_BIND_SERVICE"]}}),
        json!({"$patch": "replace", "allowPrivilegeEscalation": false}),
    ]));
    let init = option::of(select(vec![
        json!({"name": "warm", "image": "warm:1", "volumeMounts": [{"name": "extra", "mountPath": "/extra"}]}),
        json!({"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "securityContext": {"runAsUser": 5}}),
    ]));
    let beside = option::of(Just(
        json!({"name": "exporter", "image": "exporter:1", "ports": [{"containerPort": 9113, "name": "metrics"}]}),
    ));
    let source = select(vec![
        json!({"emptyDir": {"sizeLimit": "1Gi"}}),
        json!({"secret": {"secretName": "extra-secret"}}),
        json!({"configMap": {"name": "extra-map", "items": [{"key": "used", "path": "used"}]}}),
    ]);
    let rest = vec(
        select(vec![
            ("terminationGracePeriodSeconds", json!(90)),
            ("dnsConfig", json!({"options": [{"name": "ndots", "value": "1"}]})),
            ("shareProcessNamespace", json!(true)),
        ]),
        0..3,
    );
    (pod, container, init, beside, source, rest).prop_map(move |(pod, container, init, beside, source, rest)| {
        let mut volume = source;
        volume["name"] = json!("extra");
        let mut ours = json!({"name": main, "volumeMounts": [{"name": "extra", "mountPath": "/extra"}]});
        if let Some(context) = container {
            ours["securityContext"] = context;
        }
        // With a container beside it the Job would never complete.
        let beside = beside.filter(|_| !matches!(component, Component::Backup | Component::Migration));
        let containers: Vec<_> = [ours].into_iter().chain(beside).collect();
        let mut spec = json!({"containers": containers, "volumes": [volume]});
        if let Some(context) = pod {
            spec["securityContext"] = context;
        }
        if let Some(init) = init {
            spec["initContainers"] = json!([init]);
        }
        for (field, value) in rest {
            spec[field] = value;
        }
        json!({"metadata": {"labels": {"team": "theirs"}, "annotations": {"note": "theirs"}}, "spec": spec})
    })
}

/// A stack without patches, and with one for some of its components.
fn patched() -> impl Strategy<Value = (Fixture, Fixture)> {
    let patches: Vec<_> = fields().map(|(component, _)| option::of(patch(component))).collect();
    (fixtures(), patches).prop_map(|(plain, patches)| {
        let mut fixture = plain.clone();
        for ((_, field), patch) in fields().zip(patches) {
            let there =
                fixture.0["spec"].pointer(&format!("/{}", field.replace('.', "/"))).is_some_and(Value::is_object);
            if let Some(patch) = patch.filter(|_| there) {
                fixture = fixture.set(&format!("{field}.podTemplate"), patch);
            }
        }
        (plain, fixture)
    })
}

fn patch_of<'a>(fixture: &'a Fixture, component: &str) -> Option<&'a Value> {
    let field = own(Component::from_label(component)?)?.field?;
    fixture.0["spec"].pointer(&format!("/{}/podTemplate", field.replace('.', "/")))
}

/// The objects, but for the spec that dumps are told.
fn untold(mut objects: Vec<DesiredObject>) -> Vec<DesiredObject> {
    for object in &mut objects {
        if let Some(data) = object.body.get_mut("data").and_then(Value::as_object_mut) {
            data.remove(ENV_ORIGIN);
        }
    }
    objects
}

fn by_name<'a>(value: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    items(value, list).find(|item| text(item, "/name") == Some(name))
}

proptest! {
    #![proptest_config(config())]

    /// The one list of names in `stack` is all that there is.
    #[test]
    fn whatever_a_pod_has_of_ours_is_known_as_ours(cr in stacks()) {
        for object in objects(&cr) {
            let Some(template) = template(&object) else { continue };
            let own = own(Component::from_label(object.component()).unwrap()).unwrap();
            let names = |pointer: &'static str| items(template, pointer).map(|item| text(item, "/name").unwrap());
            for name in names("/spec/containers") {
                prop_assert_eq!(name, own.main, "{}", object.key());
            }
            for name in names("/spec/initContainers") {
                prop_assert!(own.init.contains(&name), "{name} of {}", object.key());
            }
            for name in names("/spec/volumes") {
                prop_assert!(own.scratch.contains(&name) || own.fixed.contains(&name), "{name} of {}", object.key());
            }
            for container in containers(template) {
                for mount in items(container, "/volumeMounts") {
                    let path = text(mount, "/mountPath").unwrap();
                    let known = own.mounts.iter().any(|of| path == *of || path.starts_with(&format!("{of}/")));
                    prop_assert!(known, "{path} of {}", object.key());
                }
                for port in items(container, "/ports") {
                    prop_assert!(own.ports.contains(&text(port, "/name").unwrap()), "{}", object.key());
                }
            }
        }
    }

    /// Each member of ours is as it was, unless the patch names it.
    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else((plain, fixture) in patched()) {
        let before = untold(objects(&plain.build()));
        let stack = valid(&fixture.clone().build());
        prop_assert!(stack.pods_refused.is_empty(), "{:?}", stack.pods_refused);
        let after = untold(everything(&stack, &rorun_operator::plan::Plan::default()));
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let patch = patch_of(&fixture, after.component());
            let (Some(was), Some(is), Some(patch)) = (template(before), template(after), patch) else {
                // Pods that have no patch of their own follow that of another block.
                let follows = Component::from_label(after.component()).and_then(own).is_some_and(|own| own.field.is_none());
                prop_assert!(follows || before.body == after.body, "{}", after.key());
                continue;
            };
            keeps_our_security(was, is, patch)?;
            for list in ["/spec/containers", "/spec/initContainers"] {
                for (index, ours) in items(was, list).enumerate() {
                    // In the same place: the first container is the one that kubectl means.
                    let now = items(is, list).nth(index).unwrap();
                    for (field, value) in ours.as_object().unwrap() {
                        match field.as_str() {
                            "securityContext" => {}
                            "volumeMounts" => for mount in value.as_array().unwrap() {
                                prop_assert!(items(now, "/volumeMounts").any(|of| of == mount), "{mount}");
                            },
                            _ => prop_assert_eq!(value, &now[field], "{} of {}", field, after.key()),
                        }
                    }
                }
            }
            for volume in items(was, "/spec/volumes") {
                prop_assert!(items(is, "/spec/volumes").any(|of| of == volume), "{volume}");
            }
            for key in ["labels", "annotations"] {
                for (name, value) in was["metadata"][key].as_object().into_iter().flatten().filter(|(name, _)| *name != "note" && *name != "team") {
                    prop_assert_eq!(value, &is["metadata"][key][name]);
                }
                prop_assert_eq!(&is["metadata"][key][if key == "labels" { "team" } else { "note" }], "theirs");
            }
            for field in ["serviceAccountName", "automountServiceAccountToken", "restartPolicy", "nodeSelector", "affinity"] {
                prop_assert_eq!(was["spec"].get(field), is["spec"].get(field));
            }
            prop_assert_eq!(&before.body["spec"]["selector"], &after.body["spec"]["selector"]);
            prop_assert!(by_name(is, "/spec/volumes", "extra").is_some());
        }
    }

    /// A refused patch concerns the pods of its component: nothing is written for it, and all others are made as ever.
    #[test]
    fn a_refused_patch_is_reported_and_changes_no_other_pods((plain, fixture) in patched(), index in 0_usize..7) {
        let all: Vec<_> = fields().collect();
        let (component, field) = all[index % all.len()];
        let there = plain.0["spec"].pointer(&format!("/{}", field.replace('.', "/"))).is_some_and(Value::is_object);
        prop_assume!(there);
        let before = valid(&plain.build());
        let bad = fixture.set(&format!("{field}.podTemplate"), json!({"spec": {"hostNetwork": true}}));
        let stack = valid(&bad.build());
        let wanted = desired(&stack, &rorun_operator::plan::Plan::default(), &all_ready(&before));
        prop_assert_eq!(wanted.waiting.keys().copied().collect::<Vec<_>>(), [component]);
        let waiting = &wanted.waiting[&component];
        prop_assert_eq!(waiting.reason, "PodTemplateRefused");
        prop_assert!(waiting.message.contains(&format!("{field}.podTemplate.spec.hostNetwork")), "{}", waiting.message);
        prop_assert!(wanted.objects.iter().all(|object| object.component() != component.as_str()));
        prop_assert!(wanted.left_alone().contains(component.as_str()));
        // Of a new stack nothing is made that needs what is not there.
        let fresh = desired(&stack, &rorun_operator::plan::Plan::default(), &LiveSet::default());
        prop_assert!(fresh.waiting.contains_key(&component));
    }

    /// What volumes name is noticed when it is missing, and no pod is replaced when its content changes.
    #[test]
    fn what_is_mounted_must_be_there_and_is_not_hashed((_, fixture) in patched()) {
        let cr = fixture.build();
        let observed = all_there(&cr);
        let (mut missing, mut changed) = (observed.clone(), observed.clone());
        let mut named = false;
        for (secret, name) in [(true, "extra-secret"), (false, "extra-map")] {
            if let Some(source) = source(&mut missing, secret, name) {
                *source = None;
                named = true;
            }
            if let Some(Some(data)) = source(&mut changed, secret, name) {
                data.insert("another".to_owned(), b"value".to_vec());
            }
        }
        prop_assert_eq!(named, !validate(&cr, &missing).pods_refused.is_empty());
        for waiting in validate(&cr, &missing).pods_refused.values() {
            prop_assert_eq!(waiting.reason, "ReferenceMissing");
        }
        prop_assert_eq!(everything(&validate(&cr, &changed), &rorun_operator::plan::Plan::default()), everything(&validate(&cr, &observed), &rorun_operator::plan::Plan::default()));
    }
}

/// That of `jobs` concerns the Jobs that have no other: all else is made as ever.
#[test]
fn a_refused_patch_of_jobs_is_told_and_changes_no_other_pods() {
    let plain = stack("shop").with_all_workloads().set("backup", json!({}));
    let bad = plain.clone().set("jobs", json!({"podTemplate": {"spec": {"hostNetwork": true}}}));
    let (before, refused) = (valid(&plain.build()), valid(&bad.build()));
    let wanted = |of| desired(of, &rorun_operator::plan::Plan::default(), &all_ready(&before));
    let (all, wanted) = (wanted(&before), wanted(&refused));
    assert_eq!(wanted.waiting.keys().copied().collect::<Vec<_>>(), [Component::Preflight]);
    let message = &wanted.waiting[&Component::Preflight].message;
    assert!(message.starts_with("jobs.podTemplate.spec.hostNetwork is refused"), "{message}");
    assert_eq!(untold(wanted.objects), untold(all.objects));
}

fn source<'a>(observed: &'a mut Observed, secret: bool, name: &str) -> Option<&'a mut Option<SecretData>> {
    let sources = if secret { &mut observed.secrets } else { &mut observed.config_maps };
    sources.get_mut(name)
}

/// Of every container, ours and theirs, and of the pod: each part of our security context, unless the patch says so.
fn keeps_our_security(was: &Value, is: &Value, patch: &Value) -> Result<(), TestCaseError> {
    let ours = items(was, "/spec/containers").next().unwrap();
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in items(is, list) {
            let name = text(container, "/name").unwrap();
            let said = by_name(patch, list, name).map(|of| &of["securityContext"]);
            holds(&ours["securityContext"], &container["securityContext"], said)?;
        }
    }
    holds(&was["spec"]["securityContext"], &is["spec"]["securityContext"], patch.pointer("/spec/securityContext"))
}

fn holds(ours: &Value, now: &Value, said: Option<&Value>) -> Result<(), TestCaseError> {
    let said = said.and_then(Value::as_object);
    let replaced = said.is_some_and(|members| members.contains_key("$patch"));
    let names: BTreeSet<_> = said.into_iter().flat_map(|members| members.keys().cloned()).collect();
    for (field, value) in ours.as_object().unwrap() {
        match (names.contains(field), replaced) {
            (true, _) => {}
            (false, true) => prop_assert!(now.get(field).is_none(), "{field} of {now}"),
            (false, false) => prop_assert_eq!(value, &now[field], "{}", field),
        }
    }
    for (field, value) in said.into_iter().flatten().filter(|(field, _)| *field != "$patch") {
        if field == "capabilities" {
            prop_assert_eq!(&value["add"], &now[field]["add"]);
            prop_assert_eq!(&json!(["ALL"]), &now[field]["drop"]);
        } else {
            prop_assert_eq!(value, &now[field]);
        }
    }
    Ok(())
}
