//! The way to Kafka for calls: long-lived clients that ask and send, for all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::answer::Refusal;
use crate::client::{ClientError, EventSender, RequestClient};
use crate::config::Config;
use crate::kafka::{Producer, ProducerKind};
use crate::runtime::{self, Stop, Urgency};

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks for lists and sends events.
pub struct Clients {
    pub asking: RequestClient,
    pub events: EventSender,
    /// For what actions start.
    pub actions: Producer,
}

/// The clients, once a broker has answered.
#[derive(Clone)]
pub struct Link(Arc<Mutex<Result<Arc<Clients>, String>>>);

impl Link {
    /// Begins to connect, and goes on until it has.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(config: &Config, stop: &Stop) -> Result<(Self, JoinHandle<()>), String> {
        let link = Self(Arc::new(Mutex::new(Err("not connected to the broker yet".into()))));
        let (made, config, stop) = (link.clone(), config.clone(), stop.clone());
        let thread = runtime::spawn("gateway-link", Urgency::Now, move || {
            loop {
                match connect(&config) {
                    Ok(clients) => {
                        made.set(Ok(Arc::new(clients)));
                        return;
                    }
                    Err(error) => made.set(Err(error.to_string())),
                }
                if stop.sleep(AGAIN) {
                    return;
                }
            }
        });
        let thread = thread.map_err(|e| format!("a thread of the gateway: {e}"))?;
        Ok((link, thread))
    }

    fn set(&self, clients: Result<Arc<Clients>, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    /// The clients.
    ///
    /// # Errors
    /// 503 with the reason where there are none yet.
    pub fn clients(&self) -> Result<Arc<Clients>, Refusal> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().map_err(Refusal::unavailable)
    }
}

fn connect(config: &Config) -> Result<Clients, ClientError> {
    Ok(Clients {
        asking: RequestClient::connect(config)?,
        // What was accepted must not be lost with a broker.
        events: EventSender::new(config, ProducerKind::Durable)?,
        actions: Producer::new(&config.kafka.client(), ProducerKind::Durable, "driftline-gateway")?,
    })
}
