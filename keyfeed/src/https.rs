mod client;
mod fault;
mod files;

pub(crate) use client::{Answer, Client, Endpoint};
pub(crate) use files::TlsFiles;
