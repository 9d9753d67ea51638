//! What a server means that does not take its client for the certificate that it showed, or for none.

use std::error::Error;

use tokio_postgres::error::SqlState;

use crate::services::{
    error::{Cause, causes},
    tls,
};

/// In our own words. `None`: it is not the certificate. `shown`: whether the client has one.
///
/// Which of several faults a SQLSTATE stands for only the server's words tell; in another language than English the message is that of
/// the SQLSTATE.
pub(super) fn refused(error: &tokio_postgres::Error, shown: bool) -> Option<(Cause, &'static str)> {
    if let Some(database) = error.as_db_error() {
        return said(database.code(), database.message(), shown);
    }
    let alert = causes(error as &dyn Error).find_map(|cause| tls::of_client(cause.downcast_ref()?, shown));
    alert.map(|words| (Cause::Tls, words))
}

fn said(code: &SqlState, message: &str, shown: bool) -> Option<(Cause, &'static str)> {
    let detail = match (code.code(), shown) {
        ("28000", false) if message.contains("client certificate") => {
            "it asks for a certificate of the client; name its Secret in database.external.tls.clientCertificateSecretRef, \
             which no other mode of database has (SQLSTATE 28000)"
        }
        ("28000", true) if message.contains("client certificate") => {
            "it asks for a certificate of the client, and did not take that of clientCertificateSecretRef (SQLSTATE 28000)"
        }
        ("28000", true) if message.contains("certificate authentication failed") => {
            "the certificate of clientCertificateSecretRef is for another user; its common name has to be the user of the \
             URL, or the server has to map it (SQLSTATE 28000)"
        }
        // What the server says of a certificate for another user where it asks for a password as well.
        ("28P01", true) => {
            "it refuses the user or the password of the URL, or the certificate of clientCertificateSecretRef is for \
             another user (SQLSTATE 28P01)"
        }
        _ => return None,
    };
    Some((Cause::Authentication, detail))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("28000", "connection requires a valid client certificate", false, Some("name its Secret in"))]
    #[case("28000", "connection requires a valid client certificate", true, Some("did not take that of"))]
    #[case("28000", "certificate authentication failed for user \"u\"", true, Some("its common name has to be"))]
    #[case("28000", "no pg_hba.conf entry for host \"10.0.0.1\"", true, None)]
    #[case("28000", "no pg_hba.conf entry for host \"10.0.0.1\"", false, None)]
    #[case("28P01", "password authentication failed for user \"u\"", true, Some("is for another user"))]
    #[case("28P01", "password authentication failed for user \"u\"", false, None)]
    #[case("57P03", "the database system is starting up", true, None)]
    fn what_a_server_says_of_a_certificate(
        #[case] code: &str,
        #[case] message: &str,
        #[case] shown: bool,
        #[case] expected: Option<&str>,
    ) {
        let told = said(&SqlState::from_code(code), message, shown).map(|(_, words)| words);
        assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
        assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{told:?}");
    }
}
