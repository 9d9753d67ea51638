//! How many pods evictions leave.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Replicas, Stack};
use crate::{api::v1alpha1::DisruptionSpec, names::Component};

/// What a PodDisruptionBudget says.
#[derive(Clone, Debug, PartialEq)]
pub enum Disruption {
    /// So many pods must stay available.
    MinAvailable(IntOrString),
    /// So many pods may be unavailable.
    MaxUnavailable(IntOrString),
}

impl Disruption {
    /// As the spec says; else one at a time where there are 2 pods or more at any time: with one, a budget would
    /// block the drain of its node.
    pub(super) fn resolve(spec: Option<&DisruptionSpec>, replicas: Replicas) -> Option<Self> {
        let min = spec.and_then(|spec| spec.min_available.clone()).map(|count| Self::MinAvailable(count.0));
        let max = spec.and_then(|spec| spec.max_unavailable.clone()).map(|count| Self::MaxUnavailable(count.0));
        let usual = || (replicas.floor() >= 2).then_some(Self::MaxUnavailable(IntOrString::Int(1)));
        min.or(max).or_else(usual)
    }

    /// Whether no pod of so many may be evicted. The disruption controller rounds percentages up.
    fn blocks(&self, pods: i32) -> bool {
        match self {
            Self::MinAvailable(count) => scaled(count, pods) >= pods,
            Self::MaxUnavailable(count) => scaled(count, pods) == 0,
        }
    }

    /// The field, and the value in it.
    fn written(&self) -> (&'static str, String) {
        let (field, count) = match self {
            Self::MinAvailable(count) => ("minAvailable", count),
            Self::MaxUnavailable(count) => ("maxUnavailable", count),
        };
        let text = match count {
            IntOrString::Int(count) => count.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        (field, text)
    }
}

fn scaled(count: &IntOrString, pods: i32) -> i32 {
    match count {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            // Of at most 1000 pods and 100 percent.
            i32::try_from((percent * i64::from(pods) + 99) / 100).unwrap_or(i32::MAX)
        }
    }
}

impl Stack {
    /// Says that a PodDisruptionBudget blocks the drain of nodes.
    pub fn disruption_note(&self, component: Component) -> Option<String> {
        let workload = self.workload(component)?;
        let (disruption, pods) = (workload.disruption.as_ref()?, workload.replicas.floor());
        if pods == 0 || !disruption.blocks(pods) {
            return None;
        }
        let (field, value) = disruption.written();
        let at = match workload.replicas {
            Replicas::Fixed(_) => "with",
            Replicas::Auto { .. } => "at the autoscaler's minimum of",
        };
        let pods = if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") };
        let way_out = match disruption {
            Disruption::MinAvailable(_) => "lower it, or run more pods",
            Disruption::MaxUnavailable(_) => "raise it",
        };
        Some(format!(
            "poddisruptionbudget/{} allows no eviction {at} {pods}, so that the drain of a node waits: \
             {component}.disruption.{field} is {value}; {way_out}",
            self.child(component),
        ))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const fn int(count: i32) -> IntOrString {
        IntOrString::Int(count)
    }

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[rstest]
    #[case::fewer_than_there_are(Disruption::MinAvailable(int(1)), 2, false)]
    #[case::all(Disruption::MinAvailable(int(2)), 2, true)]
    #[case::more_than_there_are(Disruption::MinAvailable(int(3)), 2, true)]
    #[case::half(Disruption::MinAvailable(percent("50%")), 2, false)]
    #[case::half_of_one_is_one(Disruption::MinAvailable(percent("50%")), 1, true)]
    #[case::rounded_up(Disruption::MinAvailable(percent("51%")), 2, true)]
    #[case::every(Disruption::MinAvailable(percent("100%")), 10, true)]
    #[case::none_must_stay(Disruption::MinAvailable(int(0)), 1, false)]
    #[case::one_at_a_time(Disruption::MaxUnavailable(int(1)), 1, false)]
    #[case::none_may_go(Disruption::MaxUnavailable(int(0)), 5, true)]
    #[case::no_percent_may_go(Disruption::MaxUnavailable(percent("0%")), 5, true)]
    #[case::a_little_is_one(Disruption::MaxUnavailable(percent("1%")), 2, false)]
    fn budgets_that_block_are_known(#[case] disruption: Disruption, #[case] pods: i32, #[case] blocks: bool) {
        assert_eq!(disruption.blocks(pods), blocks);
    }

    #[rstest]
    #[case::a_single_pod_has_none(None, Replicas::Fixed(1), None)]
    #[case::two_have_one(None, Replicas::Fixed(2), Some(Disruption::MaxUnavailable(int(1))))]
    #[case::asked_for_of_a_single_pod(Some(("minAvailable", int(1))), Replicas::Fixed(1), Some(Disruption::MinAvailable(int(1))))]
    #[case::asked_for(Some(("maxUnavailable", percent("25%"))), Replicas::Fixed(4), Some(Disruption::MaxUnavailable(percent("25%"))))]
    fn the_spec_wins_over_the_default(
        #[case] given: Option<(&str, IntOrString)>,
        #[case] replicas: Replicas,
        #[case] wanted: Option<Disruption>,
    ) {
        let spec = given.map(|(field, count)| {
            serde_json::from_value::<DisruptionSpec>(serde_json::json!({field: count})).expect("a spec")
        });
        assert_eq!(Disruption::resolve(spec.as_ref(), replicas), wanted);
    }
}
