//! Reads string constants out of Go sources: kind keeps the manifest of its storage and the names of its images so.

use anyhow::{Context, Result, bail};

/// The value of a constant that is made of literals and other constants of the same source, joined by `+`.
pub(super) fn go_constant(source: &str, name: &str) -> Result<String> {
    let start = ["const", "var"]
        .iter()
        .find_map(|keyword| source.find(&format!("\n{keyword} {name} =")))
        .with_context(|| format!("no constant {name}"))?;
    let (_, mut rest) = source[start..].split_once('=').context("a constant has a value")?;
    let mut value = String::new();
    loop {
        rest = rest.trim_start_matches([' ', '\n', '\t']);
        let (term, after) = term(source, rest)?;
        value.push_str(&term);
        match after.trim_start_matches([' ', '\t']).strip_prefix('+') {
            Some(more) => rest = more,
            None => return Ok(value),
        }
    }
}

fn term<'a>(source: &str, rest: &'a str) -> Result<(String, &'a str)> {
    for quote in ['`', '"'] {
        if let Some(literal) = rest.strip_prefix(quote) {
            let (text, after) = literal.split_once(quote).context("a literal that does not end")?;
            if quote == '"' && text.contains('\\') {
                bail!("a literal with an escape: {text}");
            }
            return Ok((text.to_owned(), after));
        }
    }
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
    Ok((go_constant(source, &rest[..end])?, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "package x\n\nconst image = \"a/b:1\"\n\nconst manifest = `\nimage: ` + image + `\nend\n`\nvar other = 3\n";

    #[test]
    fn joins_literals_and_constants() {
        assert_eq!(go_constant(SOURCE, "image").expect("a value"), "a/b:1");
        assert_eq!(go_constant(SOURCE, "manifest").expect("a value"), "\nimage: a/b:1\nend\n");
        go_constant(SOURCE, "missing").expect_err("not there");
    }
}
