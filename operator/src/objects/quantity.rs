//! Amounts: `0.5` and `500m` are the same, and the server stores them in a form of its own.

use serde_json::Value;

/// Adds a scalar in a form that is the same for the same amount, whether it is written as a number or as a text.
pub(super) fn canonical(scalar: &Value, into: &mut Vec<u8>) {
    let amount = match scalar {
        Value::String(text) => nanos(text),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => Some(i128::from(whole) * NANOS),
            None => nanos(&number.to_string()),
        },
        _ => None,
    };
    match (amount, scalar) {
        (Some(nanos), _) => {
            into.push(b'#');
            into.extend_from_slice(&nanos.to_be_bytes());
        }
        (None, Value::String(text)) => {
            into.push(b'"');
            into.extend_from_slice(text.as_bytes());
        }
        (None, other) => into.extend_from_slice(other.to_string().as_bytes()),
    }
    into.push(0);
}

/// Billionths in a whole.
const NANOS: i128 = 1_000_000_000;

/// An amount in billionths (source of the suffixes: k8s.io/apimachinery, pkg/api/resource/suffix.go).
fn nanos(text: &str) -> Option<i128> {
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!("0.5"), json!("500m"), true)]
    #[case(json!("1024Mi"), json!("1Gi"), true)]
    #[case(json!("1G"), json!("1Gi"), false)]
    #[case(json!("1e3"), json!("1k"), true)]
    #[case(json!(2), json!("2"), true)]
    #[case(json!("image:1"), json!("image:1.0"), false)]
    #[case(json!("1.2.3"), json!("1.2.30"), false)]
    #[case(json!(true), json!("true"), false)]
    fn the_same_amount_has_one_form(#[case] one: Value, #[case] other: Value, #[case] same: bool) {
        let form = |scalar: &Value| {
            let mut bytes = Vec::new();
            canonical(scalar, &mut bytes);
            bytes
        };
        assert_eq!(form(&one) == form(&other), same);
    }
}
