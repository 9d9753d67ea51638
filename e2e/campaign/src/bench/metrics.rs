//! The metrics of an operator, as its endpoint gives them.

use std::collections::BTreeMap;

/// One look at all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text format of Prometheus.
    pub(super) fn parse(text: &str) -> Metrics {
        Metrics(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of a family's series that have this label; all of them if none is given.
    pub(super) fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let of = |sample: &&Sample| {
            sample.name == name
                && label.is_none_or(|(key, value)| sample.labels.get(key).is_some_and(|found| found == value))
        };
        self.0.iter().filter(of).map(|sample| sample.value).sum()
    }

    /// How many reconciles have ended.
    pub(super) fn reconciles(&self) -> f64 {
        self.sum("controller_runtime_reconcile_total", None)
    }

    /// What was added to a histogram since an earlier look: upper bounds with the counts up to them.
    pub(super) fn buckets_since(&self, earlier: &Metrics, name: &str) -> Vec<(f64, f64)> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        let bounds = self.0.iter().filter(|sample| sample.name == name).filter_map(|sample| sample.labels.get("le"));
        for text in bounds {
            let Ok(bound) = text.parse::<f64>() else { continue };
            if buckets.iter().all(|(known, _)| known.total_cmp(&bound).is_ne()) {
                let label = Some(("le", text.as_str()));
                buckets.push((bound, self.sum(&name, label) - earlier.sum(&name, label)));
            }
        }
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.trim().rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut pairs = BTreeMap::new();
    let mut rest = labels.strip_suffix('}')?;
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"')?;
        pairs.insert(key.trim_start_matches(',').to_owned(), value.to_owned());
        rest = after;
    }
    Some(Sample { name: name.to_owned(), labels: pairs, value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP a Things.
# TYPE a counter
a{kind=\"Secret\",verb=\"apply\"} 3
a{kind=\"Service\",verb=\"apply\"} 4
b 1.5e3
h_bucket{le=\"0.005\"} 2
h_bucket{le=\"+Inf\"} 5
";

    #[test]
    fn sums_series_by_name_and_label() {
        let metrics = Metrics::parse(TEXT);
        for (name, label, expected) in [
            ("a", None, 7.0),
            ("a", Some(("kind", "Secret")), 3.0),
            ("a", Some(("verb", "apply")), 7.0),
            ("a", Some(("kind", "Pod")), 0.0),
            ("b", None, 1500.0),
            ("c", None, 0.0),
        ] {
            assert!((metrics.sum(name, label) - expected).abs() < f64::EPSILON, "{name} {label:?}");
        }
    }

    #[test]
    fn a_histogram_counts_from_an_earlier_look() {
        let (earlier, now) =
            (Metrics::parse("h_bucket{le=\"0.005\"} 1\nh_bucket{le=\"+Inf\"} 1"), Metrics::parse(TEXT));
        assert_eq!(now.buckets_since(&earlier, "h"), [(0.005, 1.0), (f64::INFINITY, 4.0)]);
    }

    #[test]
    fn lines_that_are_no_samples_are_left_out() {
        for line in ["", "#", "a{", "a{b=\"c} 1", "a one"] {
            assert_eq!(sample(line), None, "{line:?}");
        }
    }
}
