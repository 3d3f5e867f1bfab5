//! The server of a world, in this process or as one of its own.

use super::{Command, Daemon, Layout, Where};
use proto_types::{Clock, OsEntropy};
use server_daemon::{Decorators, Machine, Running, ServerConfig};
use std::{path::Path, sync::Arc};

/// A server, running or killed.
pub struct Server(Inner);

enum Inner {
    Here(Box<Running>),
    Process(Daemon),
}

impl Server {
    /// Starts it and writes the authorities' certificates to [`Layout::ca_file`].
    pub async fn start(layout: &Layout, place: Where) -> Self {
        let text = layout.server_toml();
        let server = match place {
            Where::Here | Where::Behind(_) => {
                super::node::say_why();
                Self(Inner::Here(Box::new(Self::run(&text, super::clock(place)).await)))
            }
            Where::Processes => {
                let config = layout.write("server.toml", &text);
                let (home, log) = (layout.dir().join("home"), layout.dir().join("server.log"));
                let mut daemon = Daemon::start(&["server", "run", "--config", &config], &home, log);
                daemon.ready().await;
                Self(Inner::Process(daemon))
            }
        };
        let shown = Command::new(layout, Path::new("/nonexistent")).args(["bundle", "show"]).to_end().await.exited(0);
        layout.write("ca.pem", &shown.stdout);
        server
    }

    async fn run(text: &str, clock: Arc<dyn Clock>) -> Running {
        let config = ServerConfig::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let machine = Machine { clock, entropy: Arc::new(OsEntropy) };
        server_daemon::Server::start_with(config, machine, Decorators::default()).await.expect("the server starts")
    }

    /// The server in this process.
    pub fn here(&self) -> &Running {
        match &self.0 {
            Inner::Here(running) => running,
            Inner::Process(_) => panic!("the server does not run in this process"),
        }
    }
    /// The server's process.
    pub fn process(&self) -> &Daemon {
        match &self.0 {
            Inner::Process(daemon) => daemon,
            Inner::Here(_) => panic!("the server is not a process of its own"),
        }
    }
    /// The same, to be crashed.
    pub fn process_mut(&mut self) -> &mut Daemon {
        match &mut self.0 {
            Inner::Process(daemon) => daemon,
            Inner::Here(_) => panic!("the server is not a process of its own"),
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        match &mut self.0 {
            Inner::Process(daemon) => daemon.kill(),
            Inner::Here(_) => panic!("only a server of its own process can be killed"),
        }
    }
    /// An orderly end, to be started again.
    pub async fn pause(&mut self) {
        match &mut self.0 {
            Inner::Process(daemon) => daemon.stop().await,
            Inner::Here(_) => panic!("only a server of its own process is started again"),
        }
    }
    /// Starts the killed server again on the same data and ports.
    pub async fn start_again(&mut self) {
        match &mut self.0 {
            Inner::Process(daemon) => {
                daemon.start_again();
                daemon.ready().await;
            }
            Inner::Here(_) => panic!("only a server that was killed is started again"),
        }
    }

    pub async fn stop(self) {
        match self.0 {
            Inner::Here(running) => running.stop().await,
            Inner::Process(mut daemon) => daemon.stop().await,
        }
    }
}
