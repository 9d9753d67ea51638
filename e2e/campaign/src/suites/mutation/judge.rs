//! The values that are the same in every run of a base, and where a change must show.

use std::collections::BTreeSet;

use serde_json::Value;

use super::elsewhere::is_kept;
use super::watched::Observed;
use crate::snapshot::Leaves;

/// Paths within objects whose values differ between runs in which nothing went wrong: `Kind//path`.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks(BTreeSet<String>);

/// Times and counts of changes: not the same after one change and after three.
const COUNTED: [&str; 5] = [
    "/metadata/creationTimestamp",
    "/metadata/generation",
    "/metadata/resourceVersion",
    "/observedGeneration",
    "/lastTransitionTime",
];

/// What dumps are told of their stack: all of its spec, so that each change shows there, compressed with the name of the namespace, which
/// no two runs share. Whether a field does anything shows elsewhere, or nowhere.
const TOLD: &str = "Secret//data/BACKUP_ORIGIN";

/// The releases that served before: not the same after one change and after three.
const BEFORE: [&str; 2] = ["RorunStack//status/release/history/", "RorunStack//status/release/previous/"];

impl Masks {
    /// Learns from runs of one base.
    pub(super) fn learn(runs: &[Observed]) -> Masks {
        let mut masks = BTreeSet::new();
        let Some((first, others)) = runs.split_first() else { return Masks(masks) };
        for other in others {
            for path in different(&first.leaves, &other.leaves) {
                let place = without_name(path);
                // Metadata are the same of every kind, also of one that the base has no object of.
                let rest = place.split_once("//metadata/").map(|(_, rest)| format!("//metadata/{rest}"));
                masks.extend(rest);
                masks.insert(place);
            }
        }
        Masks(masks)
    }

    fn hides(&self, path: &str) -> bool {
        let place = without_name(path);
        let metadata = place.split_once("//metadata/").map(|(_, rest)| format!("//metadata/{rest}"));
        COUNTED.iter().any(|end| path.ends_with(end))
            || BEFORE.iter().any(|begin| place.starts_with(begin))
            || is_kept(&place)
            || place == TOLD
            || self.0.contains(&place)
            || metadata.is_some_and(|place| self.0.contains(&place))
    }

    /// How many paths are not compared.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Where two states differ that should not.
    pub(super) fn differences(&self, found: &Observed, wanted: &Observed, oracle: &str) -> Vec<String> {
        let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), short);
        let paths = different(&found.leaves, &wanted.leaves).into_iter().filter(|path| !self.hides(path));
        // What is asked for is the same by construction.
        let paths = paths.filter(|path| !path.starts_with("RorunStack/shop/spec/"));
        // What a note says of a volume follows from the volume: the operator's own words, or the API server's.
        let told =
            |value: &Value| [".storage.", " persistentvolumeclaim/"].iter().any(|of| value.to_string().contains(of));
        let of_volume = |leaves: &Leaves, path: &str| leaves.get(path).is_some_and(told);
        let paths = paths.filter(|path| !of_volume(&found.leaves, path) && !of_volume(&wanted.leaves, path));
        paths
            .map(|path| {
                format!("{oracle} {path}: {}, not {}", shown(found.leaves.get(path)), shown(wanted.leaves.get(path)))
            })
            .collect()
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    text.chars().take(200).collect()
}

fn different<'a>(a: &'a Leaves, b: &'a Leaves) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).filter(|path| a.get(*path) != b.get(*path)).collect()
}

fn without_name(path: &str) -> String {
    let mut parts = path.splitn(3, '/');
    let (kind, _, rest) = (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
    format!("{kind}//{rest}")
}

/// Where a change shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// In an object that the stack has.
    pub(super) in_child: bool,
    /// In the status.
    pub(super) in_condition: bool,
}

/// Where a change shows, beyond the values that every change changes.
pub(super) fn shown(before: &Observed, after: &Observed) -> Shown {
    const NOISE: [&str; 3] = ["/metadata/generation", "/metadata/resourceVersion", "applied-hash"];
    let mut shown = Shown::default();
    for path in different(&before.leaves, &after.leaves) {
        if let Some(rest) = path.strip_prefix("RorunStack/shop/") {
            let reported = ["/reason", "/message", "/status", "/type"].iter().any(|end| rest.ends_with(end));
            shown.in_condition |= rest.starts_with("status/conditions/") && reported;
            shown.in_child |= rest.starts_with("metadata/finalizers");
        } else {
            shown.in_child |= without_name(path) != TOLD && !NOISE.iter().any(|end| path.ends_with(end));
        }
    }
    shown
}

/// Values that were generated, and those of the user, that stand where they must not: anywhere but in a Secret.
pub(super) fn leaks(observed: &Observed, secrets: &[String]) -> Vec<String> {
    let open = observed.leaves.iter().filter(|(path, _)| !path.starts_with("Secret/"));
    let reported =
        open.filter(|(_, value)| value.as_str().is_some_and(|text| secrets.iter().any(|secret| text.contains(secret))));
    reported.map(|(path, _)| format!("O8 {path} tells a secret")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn observed(leaves: &[(&str, Value)]) -> Observed {
        let leaves = leaves.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect();
        Observed { leaves, ..Observed::default() }
    }

    #[test]
    fn what_differs_by_itself_is_not_compared_whatever_the_object() {
        let run = |uid: &str| observed(&[("Secret/a/metadata/uid", json!(uid)), ("Secret/a/data/x", json!("x"))]);
        let masks = Masks::learn(&[run("1"), run("2"), run("3")]);
        let found = observed(&[("Secret/a/data/x", json!("x")), ("Ingress/b/metadata/uid", json!("4"))]);
        assert!(masks.differences(&found, &run("1"), "O5").is_empty());
        let found = observed(&[("Secret/a/data/x", json!("y"))]);
        assert_eq!(masks.differences(&found, &run("1"), "O5"), [r#"O5 Secret/a/data/x: "y", not "x""#]);
    }

    #[test]
    fn a_change_shows_in_a_child_or_in_a_condition_and_nowhere_else() {
        let before =
            observed(&[("Secret/a/data/x", json!(1)), ("RorunStack/shop/status/conditions/0/message", json!("a"))]);
        assert_eq!(shown(&before, &before), Shown::default());
        let counted = observed(&[
            ("Secret/a/data/x", json!(1)),
            ("Secret/a/metadata/resourceVersion", json!("2")),
            ("RorunStack/shop/spec/x", json!(1)),
            ("RorunStack/shop/status/conditions/0/message", json!("a")),
        ]);
        assert_eq!(shown(&before, &counted), Shown::default());
        // Otherwise no field would be one that does nothing.
        let told = |text: &str| observed(&[("Secret/shop-backup/data/BACKUP_ORIGIN", json!(text))]);
        assert_eq!(shown(&told("a"), &told("b")), Shown::default());
        assert!(Masks::default().differences(&told("a"), &told("b"), "O5").is_empty());
        let reported =
            observed(&[("Secret/a/data/x", json!(1)), ("RorunStack/shop/status/conditions/0/message", json!("b"))]);
        assert_eq!(shown(&before, &reported), Shown { in_child: false, in_condition: true });
    }
}
