//! Amounts: `0.5` and `500m` are the same, and the server stores them in a form of its own.

use serde_json::Value;

use crate::quantity::{NANOS, nanos};

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
