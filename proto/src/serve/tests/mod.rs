//! The whole server in one process: a small provider, a client over the real socket and TLS.

mod broken;
mod calls;
mod connection;
mod host;
mod lifecycle;
mod provider;
