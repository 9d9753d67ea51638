//! Secrets that the spec names: their members, and what is wrong with them.

use super::{Observed, SecretData};
use crate::{
    api::v1alpha1::SecretKeyReference,
    contract::{CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, ClientCertificate},
    names::{Waiting, reason},
};

/// The Secret that a field of the spec names.
pub(super) struct NamedSecret<'a> {
    pub(super) name: &'a str,
    field: &'a str,
    data: &'a SecretData,
}

impl<'a> NamedSecret<'a> {
    pub(super) fn find(observed: &'a Observed, name: &'a str, field: &'a str) -> Result<Self, Waiting> {
        match observed.secrets.get(name) {
            _ if observed.traits.get(name).is_some_and(|traits| traits.too_large) => Err(Waiting::new(
                reason::TOO_LARGE,
                format!(
                    "secret/{name}, named by {field}, holds too much under the keys that are named: at most 512 KiB"
                ),
            )),
            Some(Some(data)) => Ok(Self { name, field, data }),
            _ => Err(Waiting::new(
                reason::REFERENCE_MISSING,
                format!("secret/{name}, named by {field}, does not exist: create it in the stack's namespace"),
            )),
        }
    }

    pub(super) fn optional(&self, key: &str) -> Result<Option<String>, Waiting> {
        let Some(value) = self.data.get(key) else { return Ok(None) };
        let text = String::from_utf8(value.clone()).map_err(|_| self.invalid(key, "is not UTF-8"))?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&self, key: &str) -> Result<String, Waiting> {
        self.optional(key)?.ok_or_else(|| {
            Waiting::new(
                reason::KEY_MISSING,
                format!(
                    "secret/{}, named by {}, lacks the key {key} or it is empty: add it, or name the right key in {}",
                    self.name, self.field, self.field
                ),
            )
        })
    }

    /// A key of an S3 service, which some tools put into the quotation marks of an .env file.
    pub(super) fn unquoted(&self, key: &str) -> Result<String, Waiting> {
        let text = self.required(key)?;
        let quoted =
            ['"', '\''].into_iter().any(|mark| text.len() > 1 && text.starts_with(mark) && text.ends_with(mark));
        if quoted {
            let problem = "is in quotation marks, which some tools keep from an .env file: remove the quotation marks";
            return Err(self.invalid(key, problem));
        }
        Ok(text)
    }

    /// An access key id, which signatures hold in clear. A token or a password that is named for one is rarely like one.
    pub(super) fn access_key_id(&self, key: &str) -> Result<String, Waiting> {
        let id = self.unquoted(key)?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (3..=128).contains(&id.len()) && id.bytes().all(known) {
            return Ok(id);
        }
        Err(self.invalid(key, "is no access key id: 3 to 128 letters, digits, _ and - of ASCII"))
    }

    pub(super) fn invalid(&self, key: &str, problem: &str) -> Waiting {
        Waiting::new(
            reason::INVALID_VALUE,
            format!("the value of {key} in secret/{}, named by {}, {problem}", self.name, self.field),
        )
    }
}

/// The certificate authorities (PEM) that a field of the spec names.
pub(super) fn authority(
    reference: Option<&SecretKeyReference>,
    field: &str,
    observed: &Observed,
) -> Result<Option<String>, Waiting> {
    let Some(reference) = reference else { return Ok(None) };
    let secret = NamedSecret::find(observed, &reference.name, field)?;
    authority_of(&secret, reference.key.as_deref().unwrap_or("ca.crt")).map(Some)
}

/// The certificates (PEM) of a key.
pub(super) fn authority_of(secret: &NamedSecret<'_>, key: &str) -> Result<String, Waiting> {
    let pem = secret.required(key)?;
    let certificates = certificates(&pem);
    if certificates.is_empty() {
        return Err(secret.invalid(key, "is not a certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

/// The certificate of a client, in a Secret as cert-manager makes it.
pub(super) fn client_certificate(name: &str, field: &str, observed: &Observed) -> Result<ClientCertificate, Waiting> {
    let secret = NamedSecret::find(observed, name, field)?;
    let certificate = authority_of(&secret, CLIENT_CERTIFICATE_FILE)?;
    let key = secret.required(CLIENT_KEY_FILE)?;
    if key.contains("ENCRYPTED") {
        let problem = "is encrypted, and nobody tells the pods its passphrase: store the key without one";
        return Err(secret.invalid(CLIENT_KEY_FILE, problem));
    }
    if !(key.contains("-----BEGIN ") && key.contains("PRIVATE KEY-----")) {
        let problem = "is not a private key in PEM form (-----BEGIN PRIVATE KEY-----)";
        return Err(secret.invalid(CLIENT_KEY_FILE, problem));
    }
    Ok(ClientCertificate { certificate, key })
}

/// Just the certificates of a PEM file: they go into a `ConfigMap`, and a private key beside them must not.
fn certificates(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem
        .split_inclusive(END)
        .filter_map(|part| part.rfind("-----BEGIN CERTIFICATE-----").map(|start| &part[start..]));
    blocks.filter(|block| block.ends_with(END)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::certificates;

    #[test]
    fn a_private_key_beside_the_certificates_is_left_out() {
        let block = |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
        let (one, two, key) =
            (block("CERTIFICATE", "one"), block("CERTIFICATE", "two"), block("PRIVATE KEY", "secret"));
        let expected = format!("{one}{two}");
        assert_eq!(certificates(&format!("a comment\n{key}{one}{key}{two}{key}")), expected.trim_end());
        let cut_off = "-----BEGIN CERTIFICATE-----\ncut off\n";
        assert_eq!(certificates(&format!("{key}{cut_off}")), "");
        assert_eq!(certificates(&format!("{cut_off}{key}{one}")), one.trim_end());
    }
}
