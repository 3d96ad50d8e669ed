//! One connection to Redis, and the commands that the tier is made of.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    RedisError, RedisResult, TlsCertificates,
};

/// Sets a value unless a newer one is there.
const PUT: &str = include_str!("put.lua");

/// How to reach Redis.
#[derive(Clone)]
pub struct HotServer {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// ACL user; empty for the default one.
    pub username: String,
    /// Empty for none.
    pub password: String,
    /// Number of the database.
    pub database: u16,
    /// `None`: not encrypted.
    pub tls: Option<HotTls>,
    /// Before every key.
    pub prefix: String,
    /// How long a user's value stays after its last write.
    pub ttl: Duration,
}

/// How the connection is encrypted; the server's certificate must be valid for its host.
#[derive(Clone, Debug, Default)]
pub struct HotTls {
    /// PEM file of the authorities that may have signed it; empty for those of the system.
    pub ca: PathBuf,
}

impl fmt::Debug for HotServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password.
        write!(f, "redis at {self}")
    }
}

impl fmt::Display for HotServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why Redis could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// It does not answer in time, or refuses.
    #[error("Redis at {server}: {source}")]
    Redis {
        /// `host:port`.
        server: String,
        /// What it, or the connection, said.
        source: RedisError,
    },
    /// It does not let this worker in.
    #[error("Redis at {server}: {source}; check hot.username and hot.password")]
    Login {
        /// `host:port`.
        server: String,
        /// What it said.
        source: RedisError,
    },
    /// The authorities' file could not be read.
    #[error("hot.tls_ca {path}: {source}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl HotError {
    fn of(server: &HotServer, source: RedisError) -> Self {
        let server = server.to_string();
        let no_login = ["NOAUTH", "WRONGPASS", "NOPERM"];
        if source.kind() == ErrorKind::AuthenticationFailed
            || source.code().is_some_and(|code| no_login.contains(&code))
        {
            Self::Login { server, source }
        } else {
            Self::Redis { server, source }
        }
    }

    /// A short stable name, for replies and counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Redis { source, .. } if source.is_timeout() => "timed out",
            Self::Redis { source, .. } if source.is_io_error() => "is unreachable",
            Self::Redis { .. } | Self::Login { .. } | Self::Authorities { .. } => "refused",
        }
    }
}

/// What became of a value.
#[derive(Debug)]
pub enum Put {
    /// It is there.
    Written,
    /// A newer one is there, and stays.
    Older,
    /// Redis refused it: full, or a replica.
    Refused(HotError),
}

/// An open connection. After an error, open another: a late reply could be taken for the next.
pub struct HotConnection {
    server: HotServer,
    connection: Connection,
    /// Redis' name for the script; empty until loaded.
    script: String,
}

impl HotConnection {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// [`HotError`] where that fails or takes longer than `connect`; a TLS handshake with a
    /// server that hangs takes as long as that does. Later, each command may take `answer`.
    pub fn open(server: &HotServer, connect: Duration, answer: Duration) -> Result<Self, HotError> {
        let told = |source| HotError::of(server, source);
        let connection = client(server)?.get_connection_with_timeout(connect).map_err(told)?;
        connection.set_read_timeout(Some(answer)).map_err(told)?;
        connection.set_write_timeout(Some(answer)).map_err(told)?;
        Ok(Self { server: server.clone(), connection, script: String::new() })
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// [`HotError`] where it does not.
    pub fn ping(&mut self) -> Result<(), HotError> {
        redis::cmd("PING").exec(&mut self.connection).map_err(|e| self.told(e))
    }

    /// Writes users' values, all in one round trip; none over a newer one. In the same order.
    ///
    /// # Errors
    /// [`HotError`] where the connection failed; any of the values may then be there or not.
    pub fn put(&mut self, values: &[(&str, Vec<u8>)]) -> Result<Vec<Put>, HotError> {
        if self.script.is_empty() {
            self.load()?;
        }
        let mut outcomes = self.put_once(values)?;
        // Redis forgets scripts when it restarts.
        let is_unknown = |outcome: &RedisResult<i64>| {
            outcome.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT"))
        };
        if outcomes.iter().any(is_unknown) {
            self.load()?;
            outcomes = self.put_once(values)?;
        }
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(0) => Put::Older,
                Ok(_) => Put::Written,
                Err(error) => Put::Refused(self.told(error)),
            })
            .collect())
    }

    fn load(&mut self) -> Result<(), HotError> {
        let mut command = redis::cmd("SCRIPT");
        let loaded = command.arg("LOAD").arg(PUT).query(&mut self.connection);
        self.script = loaded.map_err(|e| self.told(e))?;
        Ok(())
    }

    fn put_once(&mut self, values: &[(&str, Vec<u8>)]) -> Result<Vec<RedisResult<i64>>, HotError> {
        let mut pipeline = redis::Pipeline::with_capacity(values.len());
        let ttl = self.server.ttl.as_secs().max(1);
        for (user, value) in values {
            let key = key(&self.server.prefix, user);
            pipeline.cmd("EVALSHA").arg(&self.script).arg(1).arg(key).arg(value).arg(ttl);
        }
        let outcomes = pipeline.ignore_errors().query(&mut self.connection);
        outcomes.map_err(|e| self.told(e))
    }

    /// Users' values, in the same order; `None` for those that have none.
    ///
    /// # Errors
    /// [`HotError`] where Redis does not answer.
    pub fn get(&mut self, users: &[&str]) -> Result<Vec<Option<Vec<u8>>>, HotError> {
        let mut command = redis::cmd("MGET");
        users.iter().for_each(|user| {
            command.arg(key(&self.server.prefix, user));
        });
        command.query(&mut self.connection).map_err(|e| self.told(e))
    }

    fn told(&self, source: RedisError) -> HotError {
        HotError::of(&self.server, source)
    }
}

fn key(prefix: &str, user: &str) -> String {
    // Without the shard, so that a look-up need not know how many there are; the value says it.
    format!("{prefix}user:{user}")
}

/// A host that is gone is found out by the kernel: a TLS handshake has no timeout of its own.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(1))
        .with_retries(5);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    // What was sent and not acknowledged keeps keepalive from asking.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    settings
}

fn client(server: &HotServer) -> Result<Client, HotError> {
    let told = |source| HotError::of(server, source);
    let host = server.host.clone();
    let address = match &server.tls {
        None => ConnectionAddr::Tcp(host, server.port),
        Some(_) => {
            ConnectionAddr::TcpTls { host, port: server.port, insecure: false, tls_params: None }
        }
    };
    let info: ConnectionInfo = address.into_connection_info().map_err(told)?;
    let mut redis = info.redis_settings().clone().set_db(i64::from(server.database));
    if !server.username.is_empty() {
        redis = redis.set_username(&server.username);
    }
    if !server.password.is_empty() {
        redis = redis.set_password(&server.password);
    }
    let info = info.set_redis_settings(redis).set_tcp_settings(tcp());
    match &server.tls {
        Some(HotTls { ca }) if !ca.as_os_str().is_empty() => {
            let pem = std::fs::read(ca)
                .map_err(|source| HotError::Authorities { path: ca.clone(), source })?;
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(info, certificates).map_err(told)
        }
        _ => Client::open(info).map_err(told),
    }
}
