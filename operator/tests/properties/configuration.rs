//! Which pods roll when a Secret or ConfigMap changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rorun_operator::{
    api::v1alpha1::RorunStack,
    desired::everything,
    stack::{Observed, SecretData, config_inputs, references, validate},
};
use serde_json::{Value, json};

use super::{
    generate::{chaos, config, fixtures, stacks},
    support::{all_there, template},
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_key_that_nobody_uses_changes_nothing(cr in stacks()) {
        let observed = all_there(&cr);
        let mut changed = observed.clone();
        let by_key = ["settings", "database", "redis", "bucket-keys", "dump-keys", "database-ca", "redis-ca", "bucket-ca"];
        for (_, data) in changed.secrets.iter_mut().filter(|(name, _)| by_key.contains(&name.as_str())) {
            data.get_or_insert_default().insert("unrelated".to_owned(), b"new".to_vec());
        }
        if let Some(Some(data)) = changed.config_maps.get_mut("features") {
            data.insert("unrelated".to_owned(), b"new".to_vec());
        }
        prop_assert_eq!(everything(&validate(&cr, &observed), &rorun_operator::plan::Plan::default()), everything(&validate(&cr, &changed), &rorun_operator::plan::Plan::default()));
    }

    /// What is read one after the other gives the hash of all together, or the same complaint.
    #[test]
    fn sources_are_hashed_alike_whether_they_are_there_at_once_or_not((cr, observed) in chaos()) {
        let whole = validate(&cr, &observed);
        let without_content = Observed {
            secrets: observed.secrets.iter().map(|(name, data)| {
                let keys = references(cr.metadata.name.as_deref().unwrap_or_default(), &cr.spec).keys.remove(name).unwrap_or_default();
                let used = |data: &SecretData| data.clone().into_iter().filter(|(key, _)| keys.contains(key)).collect();
                (name.clone(), data.as_ref().map(used))
            }).collect(),
            config_maps: BTreeMap::new(),
            ..observed.clone()
        };
        let hashed = config_inputs(&cr, &without_content).into_iter().map(|input| {
            let mut hasher = input.hasher();
            let added = input.references().iter().try_for_each(|reference| {
                let list = if reference.secret { &observed.secrets } else { &observed.config_maps };
                hasher.add(reference, list.get(&reference.name).and_then(Option::as_ref))
            });
            (input.component, added.map(|()| hasher.finish()))
        });
        let one_by_one = Observed { configuration: hashed.collect(), ..without_content };
        let stack = validate(&cr, &one_by_one);
        prop_assert_eq!(&whole.unresolved, &stack.unresolved);
        prop_assert_eq!(everything(&whole, &rorun_operator::plan::Plan::default()), everything(&stack, &rorun_operator::plan::Plan::default()));
    }

    #[test]
    fn a_new_address_rolls_who_is_connected_and_nobody_else(fixture in fixtures()) {
        let cr = fixture.set("redis", json!({"external": {"secretRef": {"name": "redis"}}})).build();
        let before = all_there(&cr);
        let mut after = before.clone();
        after.secrets.get_mut("redis").unwrap().as_mut().unwrap().insert("REDIS_URL".to_owned(), b"redis://elsewhere".to_vec());
        let rolled = rolled(&cr, &before, &after);
        for (component, rolled) in rolled {
            prop_assert_eq!(rolled, matches!(component.as_str(), "api" | "ocr"), "{}", component);
        }
    }

    #[test]
    fn a_changed_key_rolls_who_uses_it_and_nobody_else(cr in stacks()) {
        let before = all_there(&cr);
        let mut after = before.clone();
        for (secret, key) in [("settings", "used"), ("all-settings", "SETTING")] {
            let data = after.secrets.get_mut(secret).and_then(Option::as_mut);
            data.and_then(|data| data.get_mut(key)).into_iter().for_each(|value| value.push(b'!'));
        }
        let uses = |component: &str| {
            let workload = match component {
                "api" => Some(&cr.spec.api),
                "ocr" => cr.spec.ocr.as_ref(),
                "admin" => cr.spec.admin.as_ref(),
                _ => None,
            };
            let used = serde_json::to_value(workload).unwrap().to_string();
            // An optional key is not there unless another workload needs it.
            let there = before.secrets.get("settings").is_some_and(Option::is_some);
            used.contains("\"all-settings\"") || there && used.contains("\"settings\"")
        };
        for (component, rolled) in rolled(&cr, &before, &after) {
            prop_assert_eq!(rolled, uses(&component), "{}", component);
        }
    }
}

/// Whether the pod template of each component changed.
fn rolled(cr: &RorunStack, before: &Observed, after: &Observed) -> BTreeMap<String, bool> {
    let (before, after) = (templates(cr, before), templates(cr, after));
    assert_eq!(before.len(), after.len());
    before.into_iter().map(|(component, template)| (component.clone(), after[&component] != template)).collect()
}

fn templates(cr: &RorunStack, observed: &Observed) -> BTreeMap<String, Value> {
    let all = everything(&validate(cr, observed), &rorun_operator::plan::Plan::default());
    all.iter().filter_map(|object| Some((object.component().to_owned(), template(object)?.clone()))).collect()
}
