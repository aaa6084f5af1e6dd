//! Two real KMEs on loopback, joined by their link, and the real client. All waits are bounded.

/// Certificates of a small QKD network.
mod pki;
/// Two sites with a KME each, and clients for them.
mod sites;
/// Requests as bytes on the wire, without the client.
mod wire;

/// The binary as a user runs it.
mod binary;
/// Two QKD networks, one of which fails.
mod failover;
/// What the client makes of a KME that is away, hangs or lies.
mod faults;
/// The feeder between a caller and KMEs good and bad.
mod feeder;
/// Keys from one site to the other.
mod keys;
/// What the client makes of servers that depart from the standard.
mod quirks;
/// SKIP beside ETSI GS QKD 014.
mod skip;
/// The API by the letter of the standard.
mod standard;
/// Who is let in.
mod trust;
/// What befalls KMEs, by command and by schedule, as the client meets it.
mod weather;
