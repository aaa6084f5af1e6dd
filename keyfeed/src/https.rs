mod blocking;
mod client;
mod fault;
mod files;
mod version;

pub(crate) use blocking::Blocking;
pub(crate) use client::{Answer, Client, Endpoint};
pub(crate) use files::TlsFiles;
pub use version::TlsVersion;
