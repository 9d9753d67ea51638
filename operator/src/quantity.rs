//! Amounts as Kubernetes writes them: `250m`, `10Gi`, `1e3`.

/// Billionths in a whole.
pub(crate) const NANOS: i128 = 1_000_000_000;

/// An amount in billionths, so that `1Gi` and `1024Mi` can be compared. `None`: the text is no amount (source of the suffixes: k8s.io/apimachinery, pkg/api/resource/suffix.go).
pub(crate) fn nanos(text: &str) -> Option<i128> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [(&str, u32); 10] =
        [("n", 0), ("u", 3), ("m", 6), ("", 9), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24), ("E", 27)];
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let digits: i128 = if fraction.is_empty() { whole.parse() } else { format!("{whole}{fraction}").parse() }.ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let factor = if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        1024_i128.checked_pow(u32::try_from(power).ok()? + 1)?.checked_mul(NANOS)?
    } else if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        10_i128.checked_pow(*power)?
    } else {
        let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.trim_start_matches('+').parse().ok()?;
        10_i128.checked_pow(exponent.checked_add(9)?)?
    };
    Some(digits.checked_mul(factor)? / scale)
}
