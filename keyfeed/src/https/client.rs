use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{TlsFiles, TlsVersion, fault};
use crate::source::SourceError;

/// One HTTPS server: where it is, who it must be, and how long it may take.
pub(crate) struct Endpoint {
    /// Host and port, to connect to and to name in messages.
    pub(crate) address: String,
    /// The name that its certificate must carry (RFC 9525); also sent as SNI.
    pub(crate) server_name: ServerName<'static>,
    /// Named in messages.
    pub(crate) files: TlsFiles,
    /// Path in front of every request, without a slash at its end; mostly empty.
    prefix: String,
    /// Limit of a whole request, connection included.
    timeout: Duration,
    tls: Arc<ClientConfig>,
}

/// A client of one server with one kept-alive connection.
pub(crate) struct Client {
    endpoint: Endpoint,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// Status and whole body of an answer. The body may hold keys: it is overwritten when dropped.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Endpoint {
    /// Takes `https://host[:port][/prefix]`, the files, the name expected in the server's certificate when it is not
    /// the host, the lowest TLS version, and the limit of a request.
    pub(crate) fn new(
        url: &str,
        name: Option<&str>,
        files: TlsFiles,
        lowest: TlsVersion,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let bad_url = |why: &str| SourceError::Setting {
            name: "url",
            reason: format!("`{url}` {why}; write https://HOST:PORT"),
        };
        let uri: Uri = url.parse().map_err(|_| bad_url("is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad_url("does not begin with https://"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad_url("names no host"))?;
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(bad_url("has a query or a user name"));
        }
        let expected = name.unwrap_or(host.trim_start_matches('[').trim_end_matches(']'));
        let server_name = ServerName::try_from(expected.to_owned()).map_err(|_| SourceError::Setting {
            name: "kme_name",
            reason: format!(
                "`{expected}` is neither a DNS name nor an IP address, so no certificate can carry it"
            ),
        })?;
        Ok(Endpoint {
            address: format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            server_name,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls: Arc::new(files.client_config(lowest)?),
            files,
            timeout,
        })
    }
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Client { endpoint, connection: None }
    }

    /// Sends one request and reads the whole answer, within the endpoint's time limit. `json` makes it a POST.
    ///
    /// A kept-alive connection that the server has closed meanwhile is replaced once, unseen.
    pub(crate) async fn request(&mut self, path: &str, json: Option<Vec<u8>>) -> Result<Answer, SourceError> {
        let json = json.map(Bytes::from);
        let limit = self.endpoint.timeout;
        match timeout(limit, self.request_unlimited(path, json)).await {
            Ok(result) => result,
            Err(_) => {
                self.connection = None;
                Err(self.endpoint.silent("its answer", limit))
            }
        }
    }

    async fn request_unlimited(&mut self, path: &str, json: Option<Bytes>) -> Result<Answer, SourceError> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
            && let Ok(response) = connection.send_request(self.compose(path, json.clone())?).await
        {
            return self.finish(connection, response).await;
        }
        let mut connection = self.endpoint.connect().await?;
        let request = self.compose(path, json)?;
        let response =
            connection.send_request(request).await.map_err(|e| fault::classify(&e, &self.endpoint))?;
        self.finish(connection, response).await
    }

    fn compose(&self, path: &str, json: Option<Bytes>) -> Result<Request<Full<Bytes>>, SourceError> {
        let builder = Request::builder()
            .uri(format!("{}{path}", self.endpoint.prefix))
            .header(HOST, &self.endpoint.address)
            .header(USER_AGENT, concat!("qhaul/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json");
        let built = match json {
            // Full states its length, so hyper sends Content-Length: some servers cannot read chunked JSON.
            Some(body) => {
                builder.method(Method::POST).header(CONTENT_TYPE, "application/json").body(Full::new(body))
            }
            None => builder.method(Method::GET).body(Full::default()),
        };
        built.map_err(|e| SourceError::Setting {
            name: "url",
            reason: format!("no request can be made of it: {e}"),
        })
    }

    async fn finish(
        &mut self,
        connection: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
    ) -> Result<Answer, SourceError> {
        let status = response.status().as_u16();
        let body = self.read(response.into_body()).await?;
        self.connection = Some(connection);
        Ok(Answer { status, body })
    }

    async fn read(&self, mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        // All room at once: a vector that grows leaves copies of what it held.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| fault::classify(&e, &self.endpoint))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > MAX_ANSWER {
                let reason = format!("it is longer than {MAX_ANSWER} bytes");
                return Err(SourceError::BadAnswer { request: "a request", reason });
            }
            bytes.extend_from_slice(&data);
            if let Ok(mut unshared) = data.try_into_mut() {
                unshared.fill(0);
            }
        }
        Ok(bytes)
    }
}

impl Endpoint {
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SourceError> {
        let connect_limit = CONNECT_LIMIT.min(self.timeout);
        let tcp = timeout(connect_limit, TcpStream::connect(&self.address))
            .await
            .map_err(|_| self.unreachable(format!("no answer within {} ms", connect_limit.as_millis())))?
            .map_err(|e| self.unreachable(e.to_string()))?;
        tcp.set_nodelay(true).map_err(|e| self.unreachable(e.to_string()))?;
        let tls_limit = TLS_LIMIT.min(self.timeout);
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let tls = timeout(tls_limit, connector.connect(self.server_name.clone(), tcp))
            .await
            .map_err(|_| self.silent("the TLS handshake", tls_limit))?
            .map_err(|e| fault::classify(&e, self))?;
        let (sender, driver) = handshake(TokioIo::new(tls)).await.map_err(|e| fault::classify(&e, self))?;
        // The driver's error also reaches the request in flight, which reports it.
        tokio::spawn(async move { driver.await.unwrap_or_default() });
        Ok(sender)
    }

    fn unreachable(&self, reason: String) -> SourceError {
        SourceError::Unreachable { address: self.address.clone(), reason }
    }

    fn silent(&self, step: &'static str, limit: Duration) -> SourceError {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        SourceError::Silent { address: self.address.clone(), step, millis }
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const TLS_LIMIT: Duration = Duration::from_secs(5);
/// Room for some 1,000 keys of 256 bits with generous extensions.
const MAX_ANSWER: usize = 256 * 1024;
