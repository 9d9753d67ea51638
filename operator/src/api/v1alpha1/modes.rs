//! Rules about the modes of a data service: the spec has exactly one member of its block, and an update keeps its name.

use kube::core::Rule;

/// The members of a data service's block that are modes. The first is the default of Development.
pub type Modes = &'static [&'static str];

/// Exactly one mode is set. `example` shows one.
pub(super) fn exactly_one(modes: Modes, example: &str) -> Rule {
    let set: Vec<_> = modes.iter().map(|mode| format!("has(self.{mode})")).collect();
    let message = format!("set exactly one of {}, e.g. {example}", list(modes));
    Rule::new(format!("[{}].filter(set, set).size() == 1", set.join(", "))).message(&*message)
}

/// The mode of the service `field` stays. `subject` and `way_out` are for the message.
pub(super) fn unchanged(field: &str, modes: Modes, subject: &str, way_out: &str) -> Rule {
    let message = format!("{subject} cannot change between {} while the stack exists: {way_out}", list(modes));
    Rule::new(format!("({}) == ({})", name("self", field, modes), name("oldSelf", field, modes))).message(&*message)
}

/// An expression for the name of the mode: a comparison of names notices a change between any two of them.
fn name(stack: &str, field: &str, modes: Modes) -> String {
    let Some((default, others)) = modes.split_first() else { return "''".to_owned() };
    let block = format!("{stack}.{field}");
    let one = |mode: &&str| format!("has({block}) && has({block}.{mode}) ? '{mode}' : ");
    others.iter().map(one).collect::<String>() + &format!("'{default}'")
}

fn list(modes: Modes) -> String {
    match modes.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => modes.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Modes = &["embedded", "external", "cloudNativePG"];

    #[test]
    fn a_third_mode_is_one_more_name() {
        let rule = unchanged("database", THREE, "a database", "create a new stack").rule;
        let expected = "(has(self.database) && has(self.database.external) ? 'external' : \
                        has(self.database) && has(self.database.cloudNativePG) ? 'cloudNativePG' : 'embedded') == \
                        (has(oldSelf.database) && has(oldSelf.database.external) ? 'external' : \
                        has(oldSelf.database) && has(oldSelf.database.cloudNativePG) ? 'cloudNativePG' : 'embedded')";
        assert_eq!(rule, expected);
        let rule = exactly_one(THREE, "`embedded: {}`");
        assert_eq!(
            rule.rule,
            "[has(self.embedded), has(self.external), has(self.cloudNativePG)].filter(set, set).size() == 1"
        );
        let message = serde_json::to_value(&rule).unwrap()["message"].clone();
        assert_eq!(message, "set exactly one of embedded, external and cloudNativePG, e.g. `embedded: {}`");
    }
}
