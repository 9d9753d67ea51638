//! Statements of an open session whose errors matter: which one it was, by its SQLSTATE, and in the words of the server.

use std::fmt;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::classify;
use super::session::{Session, silent};
use crate::services::ServiceError;

/// The values of a row.
pub type Row = Vec<Option<String>>;

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The server did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The server refused the statement.
    #[error("{subject} answers: {said}")]
    Said {
        /// The service and its address.
        subject: String,
        /// The SQLSTATE.
        code: String,
        /// Its words. They may hold values of the database, so they are for whoever may read that.
        said: String,
    },
}

impl QueryError {
    /// The SQLSTATE of the answer.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Service(_) => None,
            Self::Said { code, .. } => Some(code),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Session").field(&self.connection.subject()).finish()
    }
}

impl Session {
    /// All rows that SQL gives, which may take so long. By the simple protocol: what stands in the SQL has to be quoted.
    pub async fn query(&self, sql: &str, within: Duration) -> Result<Vec<Row>, QueryError> {
        let answer = tokio::time::timeout(within, self.client.simple_query(sql)).await;
        let messages = answer.map_err(|_| silent(&self.connection, within))?.map_err(|error| {
            let Some(said) = error.as_db_error() else { return classify(&self.connection, &error).into() };
            let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            let (subject, code) = (self.connection.subject(), said.code().code().to_owned());
            QueryError::Said { subject, code, said: format!("{}{detail}", said.message()) }
        })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}
