//! The order between components, as one table. It is no list of its own, which could differ from what holds: it follows from what each
//! component [requires](super::Component::requires) and [waits for](super::Component::waits_for).

use std::{collections::BTreeMap, fmt::Write as _};

use super::{COMPONENTS, Name};

/// Each component with its stage: a new stack gets it once those of the stages before serve, as far as it needs them.
pub fn stages() -> Vec<(Name, usize)> {
    let mut stages: BTreeMap<Name, usize> = BTreeMap::new();
    let found = COMPONENTS.iter().map(|component| {
        let needs = component.requires().iter().chain(component.waits_for());
        let stage = needs.filter_map(|need| stages.get(need)).max().map_or(0, |stage| stage + 1);
        stages.insert(component.name(), stage);
        (component.name(), stage)
    });
    found.collect()
}

/// The stages as a table of Markdown.
pub fn table() -> String {
    let stages = stages();
    let last = stages.iter().map(|(_, stage)| *stage).max().unwrap_or_default();
    let mut table = "| stage | components |\n|---|---|\n".to_owned();
    for stage in 0..=last {
        let names: Vec<_> = stages.iter().filter(|(_, of)| *of == stage).map(|(name, _)| name.as_str()).collect();
        let _ = writeln!(table, "| {} | {} |", stage + 1, names.join(", "));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are judged in this order, so that what one needs is known before.
    #[test]
    fn what_a_component_needs_comes_before_it() {
        for (index, component) in COMPONENTS.iter().enumerate() {
            for need in component.requires().iter().chain(component.waits_for()) {
                let before = COMPONENTS[..index].iter().any(|other| other.name() == *need);
                assert!(before, "{} needs {need}, which is not before it", component.name());
            }
        }
    }

    #[test]
    fn data_come_before_what_uses_them() {
        let stages: BTreeMap<_, _> = stages().into_iter().collect();
        let data = [Name::Database, Name::Redis, Name::Bucket].map(|of| stages[&of]);
        assert_eq!(data, [0; 3]);
        let users =
            [Name::Migration, Name::Restore, Name::Api, Name::Ocr, Name::Backup, Name::Drill, Name::BucketRules];
        for user in users {
            assert!(stages[&user] > stages[&Name::Connection], "{user}");
        }
        assert!(stages[&Name::Connection] > 0 && stages[&Name::Drill] > stages[&Name::Backup]);
    }
}
