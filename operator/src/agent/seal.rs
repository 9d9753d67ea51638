//! Encryption of dumps for the recipients of `backup.recipients`, and the way back with an identity of age.

use std::io::{self, Write};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};
use tokio::io::AsyncRead;
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

/// What encrypts one dump.
pub(super) struct Seal {
    writer: StreamWriter<Sealed>,
    sealed: Sealed,
}

/// What is encrypted and not taken yet.
#[derive(Clone, Default)]
struct Sealed(Arc<Mutex<Vec<u8>>>);

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealed {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seal {
    /// For these recipients; none of them: no encryption.
    pub(super) fn new(recipients: &[String]) -> io::Result<Option<Self>> {
        if recipients.is_empty() {
            return Ok(None);
        }
        let keys: Result<Vec<Recipient>, _> = recipients.iter().map(|key| recipient(key)).collect();
        let keys = keys.map_err(io::Error::other)?;
        let encryptor = Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient));
        let sealed = Sealed::default();
        // Its own words are looked up in files of languages, which a pod does not have.
        let encryptor = encryptor.map_err(|_| io::Error::other("the recipients do not go together"))?;
        let writer = encryptor.wrap_output(sealed.clone())?;
        Ok(Some(Self { writer, sealed }))
    }

    /// Encrypts, and gives what is ready of it.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.writer.write_all(bytes)?;
        Ok(self.sealed.take())
    }

    /// The end, without which nobody takes the rest for whole.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.writer.finish()?;
        Ok(self.sealed.take())
    }
}

/// A key that dumps are encrypted for.
pub(super) fn recipient(text: &str) -> Result<Recipient, String> {
    Recipient::from_str(text).map_err(|error| format!("{text} is no recipient of age: {error}"))
}

/// The identities of a key file of age: one a line, comments beside them.
pub(super) fn identities(text: &str) -> Vec<Identity> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| Identity::from_str(line).ok()).collect()
}

/// Decrypts on the way. A dump that was cut off or changed ends in an error, never in a shorter one.
pub(super) async fn open(
    sealed: impl AsyncRead + Unpin,
    identities: &[Identity],
) -> Result<impl AsyncRead + Unpin, &'static str> {
    let decryptor = Decryptor::new_async(sealed.compat()).await.map_err(|_| "it is no file of age")?;
    let keys = identities.iter().map(|identity| identity as &dyn age::Identity);
    let opened = decryptor.decrypt_async(keys).map_err(|error| match error {
        DecryptError::NoMatchingKeys => "the identity of backup.identitySecretRef is none of its recipients",
        _ => "its header was changed",
    })?;
    Ok(opened.compat())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn sealed(plain: &[u8], recipients: &[String]) -> Vec<u8> {
        let mut seal = Seal::new(recipients).expect("a seal").expect("recipients");
        let mut out = Vec::new();
        for chunk in plain.chunks(70_000) {
            out.extend(seal.add(chunk).expect("add"));
        }
        out.extend(seal.finish().expect("finish"));
        out
    }

    #[tokio::test]
    async fn only_an_identity_of_a_recipient_opens_what_is_whole() {
        let (one, other) = (Identity::generate(), Identity::generate());
        let plain: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let text = sealed(&plain, &[one.to_public().to_string()]);
        let mut back = Vec::new();
        open(&*text, std::slice::from_ref(&one)).await.expect("open").read_to_end(&mut back).await.expect("read");
        assert_eq!(back, plain);
        assert!(open(&*text, &[other]).await.is_err());
        let mut back = Vec::new();
        let identities = [one];
        let mut cut = open(&text[..text.len() - 70_000], &identities).await.expect("open");
        assert!(cut.read_to_end(&mut back).await.is_err(), "a dump that was cut off is taken for whole");
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        let error = recipient("age1nonsense").err().unwrap_or_default();
        assert!(error.starts_with("age1nonsense is no recipient of age"), "{error}");
        assert!(Seal::new(&[]).is_ok_and(|seal| seal.is_none()));
    }
}
