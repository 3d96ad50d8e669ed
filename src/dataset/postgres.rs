//! Items of a PostgreSQL database. Enters: a URL, a query and perhaps a column by which rows were
//! last changed. Leaves: items, one row at a time as the server sends them, and rows that are
//! none with the reason. Never writes, and never says the URL: it holds a password.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use serde_json::{Map, Value};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error};

use super::items::{ItemColumns, ItemRow, RefusedRow, item_of_json};
use crate::event::MAX_RECORD_BYTES;

/// A server that does not take the connection within this is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// After this without a word the network is asked whether the server is still there; it has as
/// long again to say so. Queries themselves may take as long as they need.
const SILENCE: Duration = Duration::from_secs(30);
/// A pass reads again what was changed so long before the newest change that the last one saw: a
/// transaction may be given its time long before it is committed.
const OVERLAP: Duration = Duration::from_secs(300);

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The connection or the server died, or neither was there: trying again may help.
    #[error("the connection to {place} was lost after {rows} rows: {reason}")]
    Lost {
        /// Host and database.
        place: String,
        /// Rows read before.
        rows: u64,
        /// Why.
        reason: String,
    },
    /// It would fail again.
    #[error("{0}")]
    Refused(String),
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseTls {
    /// Never.
    Off,
    /// Where the server offers it, whoever it is.
    Prefer,
    /// Always, with a certificate that is valid for the host.
    Verify,
}

/// A database and the query for its items.
pub struct Database {
    config: Config,
    tls: MakeTlsConnector,
    place: String,
    query: String,
    updated_at: Option<String>,
    columns: ItemColumns,
}

/// What a pass over a database has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabasePass {
    /// Rows.
    pub rows: u64,
    /// The newest change among them: microseconds since the Unix epoch of a timestamp, a number
    /// as it is. None without a column for it, or where every row has none.
    pub newest: Option<i64>,
}

impl Database {
    /// A database to be read later. `ca` is a PEM file of authorities, empty for those of the
    /// system; `updated_at` is empty where the query has no such column.
    ///
    /// # Errors
    /// Where the URL is none, or the authorities cannot be read.
    pub fn new(
        url: &str,
        tls: DatabaseTls,
        ca: &Path,
        query: &str,
        updated_at: &str,
    ) -> Result<Self, DatabaseError> {
        // The parser's own message would quote parts of the URL.
        let mut config: Config = url.parse().map_err(|_| {
            DatabaseError::Refused(
                "the URL is none of PostgreSQL's; expected \
                 postgresql://user:password@host:5432/database"
                    .into(),
            )
        })?;
        config
            .application_name("driftline catalog sync")
            .connect_timeout(CONNECT_LIMIT)
            .keepalives_idle(SILENCE)
            .keepalives_interval(SILENCE / 6)
            .keepalives_retries(6)
            .tcp_user_timeout(SILENCE * 2)
            .ssl_mode(match tls {
                DatabaseTls::Off => SslMode::Disable,
                DatabaseTls::Prefer => SslMode::Prefer,
                DatabaseTls::Verify => SslMode::Require,
            });
        let place = place(&config);
        let query = query.trim().trim_end_matches(';').to_owned();
        let updated_at = Some(updated_at.to_owned()).filter(|column| !column.is_empty());
        let tls = connector(tls, ca)?;
        Ok(Self { config, tls, place, query, updated_at, columns: ItemColumns::default() })
    }

    /// Host and database, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether rows can be read by when they were changed.
    pub fn is_incremental(&self) -> bool {
        self.updated_at.is_some()
    }

    /// Reads every row, or those changed since `newest` of an earlier pass and shortly before.
    /// `each` may stop it with a reason.
    ///
    /// # Errors
    /// [`DatabaseError`], after which the rows given to `each` are good but not all.
    pub async fn read(
        &self,
        since: Option<i64>,
        mut each: impl FnMut(ItemRow) -> Result<(), String>,
    ) -> Result<DatabasePass, DatabaseError> {
        let mut pass = DatabasePass::default();
        let connected = self.config.connect(self.tls.clone()).await;
        let (mut client, connection) = connected.map_err(|e| self.failed(&e, 0))?;
        // Ends when the client is dropped; its error is the client's too.
        tokio::spawn(connection);
        let statement = self.statement(&client, since).await?;
        let read_only = client.build_transaction().read_only(true).start();
        let transaction = read_only.await.map_err(|e| self.failed(&e, 0))?;
        let since: Option<&(dyn ToSql + Sync)> = since.as_ref().map(|s| s as _);
        let rows = transaction.query_raw(&statement, since).await;
        let mut rows = std::pin::pin!(rows.map_err(|e| self.failed(&e, 0))?);
        loop {
            let row = rows.try_next().await.map_err(|e| self.failed(&e, pass.rows))?;
            let Some(row) = row else { return Ok(pass) };
            pass.rows += 1;
            let text: &str = row.try_get(0).map_err(|e| self.failed(&e, pass.rows))?;
            let changed: Option<i64> = row.try_get(1).map_err(|e| self.failed(&e, pass.rows))?;
            pass.newest = pass.newest.max(changed);
            each(self.item(pass.rows, text)).map_err(DatabaseError::Refused)?;
        }
    }

    fn item(&self, row: u64, text: &str) -> ItemRow {
        let refuse = |reason| RefusedRow { row, item: None, reason };
        if text.len() > MAX_RECORD_BYTES {
            let reason = format!("has {} bytes; {MAX_RECORD_BYTES} are allowed", text.len());
            return Err(refuse(reason));
        }
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        item_of_json(&self.columns, row, &object)
    }

    /// Each row as one JSON text, and when it was changed as a number.
    async fn statement(
        &self,
        client: &Client,
        since: Option<i64>,
    ) -> Result<String, DatabaseError> {
        let query = &self.query;
        let Some(column) = &self.updated_at else {
            return Ok(format!("SELECT row_to_json(q)::text, NULL::int8 FROM ({query}\n) q"));
        };
        let quoted = format!("q.\"{}\"", column.replace('"', "\"\""));
        let probe = format!("SELECT {quoted} FROM ({query}\n) q");
        let probe = client.prepare(&probe).await.map_err(|e| self.failed(&e, 0))?;
        let kind = probe.columns().first().map(|c| c.type_().clone());
        let (changed, condition) = match kind {
            Some(Type::TIMESTAMPTZ | Type::TIMESTAMP) => {
                let time = match kind {
                    Some(Type::TIMESTAMP) => "to_timestamp($1::int8 / 1e6) AT TIME ZONE 'UTC'",
                    _ => "to_timestamp($1::int8 / 1e6)",
                };
                let changed = format!("(extract(epoch FROM {quoted}) * 1000000)::int8");
                // The column itself stands alone, so that an index of it serves.
                let overlap = OVERLAP.as_secs();
                (changed, format!("{quoted} >= {time} - interval '{overlap} seconds'"))
            }
            Some(Type::INT8 | Type::INT4) => {
                (format!("{quoted}::int8"), format!("{quoted} >= $1::int8"))
            }
            _ => {
                return Err(DatabaseError::Refused(format!(
                    "column {column:?}, by which changes are to be read, is a {}; expected a \
                     timestamp, timestamptz, integer or bigint",
                    kind.map_or_else(|| "nothing".into(), |kind| kind.to_string())
                )));
            }
        };
        let condition = since.map_or_else(String::new, |_| format!(" WHERE {condition}"));
        Ok(format!("SELECT row_to_json(q)::text, {changed} FROM ({query}\n) q{condition}"))
    }

    fn failed(&self, error: &Error, rows: u64) -> DatabaseError {
        let place = self.place.clone();
        // What the server says, then what the system says: the library's own words are general.
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        if is_transient(error) {
            DatabaseError::Lost { place, rows, reason }
        } else {
            DatabaseError::Refused(format!("{place} refuses: {reason}"))
        }
    }
}

/// Whether trying again may help: the network failed, or the server says that it is ending,
/// starting, or full.
fn is_transient(error: &Error) -> bool {
    match error.code() {
        Some(code) => {
            let states = [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
                SqlState::TOO_MANY_CONNECTIONS,
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
            ];
            states.contains(code) || code.code().starts_with("08")
        }
        None => {
            let mut causes =
                std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
            error.is_closed() || causes.any(|cause| cause.is::<std::io::Error>())
        }
    }
}

fn place(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("the default database");
    format!("{}/{database}", hosts.join(","))
}

fn connector(tls: DatabaseTls, ca: &Path) -> Result<MakeTlsConnector, DatabaseError> {
    let failed = |error: openssl::error::ErrorStack| {
        DatabaseError::Refused(format!("TLS authorities {}: {error}", ca.display()))
    };
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    if !ca.as_os_str().is_empty() {
        builder.set_ca_file(ca).map_err(failed)?;
    }
    if tls != DatabaseTls::Verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(tls == DatabaseTls::Verify);
        Ok(())
    });
    Ok(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<Database, DatabaseError> {
        Database::new(url, DatabaseTls::Prefer, Path::new(""), "SELECT 1 AS item;\n", "")
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_quoted() {
        for url in ["hunter2", "postgresql://u:hunter2@h:port/d", "hunter2 = 3", ""] {
            let error = open(url).map(|_| ());
            match error {
                Err(error) => assert!(!error.to_string().contains("hunter2"), "{error}"),
                Ok(()) => assert!(url.is_empty(), "{url}"),
            }
        }
    }

    #[test]
    fn a_place_names_host_and_database_and_no_password() {
        let database = open("postgresql://me:hunter2@db.example:5433/shop").unwrap();
        assert_eq!(database.place(), "db.example/shop");
    }

    #[test]
    fn authorities_that_cannot_be_read_are_named() {
        let ca = Path::new("/no/such.pem");
        let error = Database::new("postgresql://h/d", DatabaseTls::Verify, ca, "SELECT 1", "");
        assert!(error.map(|_| ()).unwrap_err().to_string().contains("/no/such.pem"));
    }
}
