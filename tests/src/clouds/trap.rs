//! A listener that nobody should ever call: where a redirect or a forged name would lead.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::TcpListener, task::JoinHandle};

use crate::error::{Context as _, Result};

/// The listener; dropping it ends it.
pub struct Trap {
    address: SocketAddr,
    callers: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Trap {
    /// Listens on loopback.
    pub async fn set() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("set a trap")?;
        let address = listener.local_addr().context("set a trap")?;
        let callers = Arc::new(AtomicUsize::new(0));
        let count = callers.clone();
        let task = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self { address, callers, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many came.
    pub fn callers(&self) -> usize {
        self.callers.load(Ordering::SeqCst)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.task.abort();
    }
}
