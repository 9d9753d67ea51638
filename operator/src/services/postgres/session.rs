//! A connection to PostgreSQL that stays open, for what lasts as long as its session.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::Connection;
use super::{Failure, PostgresTarget, classify, connector, first, hosts, is_other_kind};
use crate::services::error::{Cause, ServiceError};
use crate::services::network::{Bounded, Network};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// How long an answer may take. A checkpoint on a slow disk takes seconds; a server that is gone without a word never answers.
const ANSWER: Duration = Duration::from_mins(1);

/// An open session. Dropping it ends it.
pub struct Session {
    pub(super) client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
    pub(super) connection: Connection,
}

impl Session {
    /// Connects under a name that `pg_stat_activity` shows.
    pub async fn open(target: &PostgresTarget, application: &str) -> Result<Self, ServiceError> {
        let (mut connection, tls) = connector(target)?;
        connection.config.application_name(application);
        let opened = tokio::time::timeout(CONNECT, open(&connection, &tls)).await;
        match opened {
            Ok(Ok((client, driver))) => Ok(Self { client, driver, connection }),
            Ok(Err(failure)) => Err(failure.told(&connection)),
            Err(_) => Err(silent(&connection, CONNECT)),
        }
    }

    /// The values of the last row that SQL gives, by the simple protocol: it takes several statements at once, and prepares
    /// nothing that a pooler would have to know.
    pub(super) async fn row(&self, sql: &str) -> Result<Vec<Option<String>>, ServiceError> {
        Ok(self.rows(sql, ANSWER).await?.pop().unwrap_or_default())
    }

    /// Likewise, of every row, which may take so long.
    pub(super) async fn rows(&self, sql: &str, within: Duration) -> Result<Vec<Vec<Option<String>>>, ServiceError> {
        let answer = tokio::time::timeout(within, self.client.simple_query(sql)).await;
        let messages = answer.map_err(|_| silent(&self.connection, within))?;
        let messages = messages.map_err(|error| classify(&self.connection, &error))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Waits until the connection ends, and says why. It may be called again after it was dropped.
    pub(super) async fn ended(&mut self) -> ServiceError {
        if let Ok(Err(error)) = poll_fn(|context| Pin::new(&mut self.driver).poll(context)).await {
            return classify(&self.connection, &error);
        }
        ServiceError::new(Cause::Unreachable, self.connection.subject(), "it ended the connection")
    }

    /// For messages: the server.
    pub(super) fn subject(&self) -> String {
        self.connection.subject()
    }
}

pub(super) fn silent(connection: &Connection, time: Duration) -> ServiceError {
    let detail = format!("no answer within {} s", time.as_secs());
    ServiceError::new(Cause::Unreachable, connection.subject(), detail)
}

type Opened = (Client, JoinHandle<Result<(), tokio_postgres::Error>>);

/// One host after the other, as libpq does.
async fn open(connection: &Connection, tls: &MakeRustlsConnect) -> Result<Opened, Failure> {
    let network = Network::lasting();
    let mut last = Failure::NoAddress;
    for (name, address, port) in hosts(&connection.config) {
        match open_one(&network, &connection.config, (&name, &address, port), tls.clone()).await {
            Ok(opened) => return Ok(opened),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn open_one(
    network: &Network,
    config: &Config,
    (name, address, port): (&str, &str, u16),
    mut tls: MakeRustlsConnect,
) -> Result<Opened, Failure> {
    let stream = network.connect(address, port).await.map_err(Failure::Network)?;
    let tls = MakeTlsConnect::<Bounded>::make_tls_connect(&mut tls, name).map_err(|_| Failure::NoName)?;
    let (client, driver) = config.connect_raw(stream, tls).await?;
    let driver = tokio::spawn(driver);
    let attributes = config.get_target_session_attrs();
    if attributes != TargetSessionAttrs::Any {
        let read_only = first(&client.simple_query("SHOW transaction_read_only").await?);
        if is_other_kind(attributes, read_only.as_deref()) {
            return Err(Failure::OtherKind);
        }
    }
    Ok((client, driver))
}
