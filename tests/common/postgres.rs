//! A PostgreSQL server of the test's own, and a proxy before it that lets connections die.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::server::Server;

pub struct Postgres {
    /// Its data stays when it is killed.
    pub server: Server,
    pub url: String,
}

impl Postgres {
    pub fn start_new(name: &str) -> Self {
        let server = Server::start_new("postgres", name, &[]);
        Self { url: server.address.clone(), server }
    }

    /// Runs statements.
    pub fn run(&self, sql: &str) {
        let output = Command::new("psql")
            .args(["-qX", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn address(&self) -> String {
        let rest = self.url.split('@').nth(1).expect("an address");
        rest.split('/').next().expect("an address").to_owned()
    }

    /// The URL of a proxy that cuts its first connection after so many bytes of the server's.
    pub fn cut_once_after(&self, bytes: i64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (server, left) = (self.address(), Arc::new(AtomicI64::new(bytes)));
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else {
                    return;
                };
                let left = (number == 0).then(|| Arc::clone(&left));
                let up =
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                std::thread::spawn(move || pump(up.0, up.1, None));
                std::thread::spawn(move || pump(server, client, left));
            }
        });
        self.url.replace(&self.address(), &format!("127.0.0.1:{port}"))
    }
}

/// Copies from one end to the other until one ends, or nothing is left of what may pass.
fn pump(mut from: TcpStream, mut to: TcpStream, left: Option<Arc<AtomicI64>>) {
    let mut buffer = [0; 1_024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let cut = left.as_ref().is_some_and(|l| l.fetch_sub(read as i64, Ordering::Relaxed) < 0);
        if cut || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Both fail where the other direction was faster.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
