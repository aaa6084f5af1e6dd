use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::answer::{ApiError, Body, Reply};
use super::identity::Caller;
use super::request::RawRequest;

/// Accepts mutual-TLS connections and answers their requests with `handler`, for ever; a connection to which it has no
/// answer is closed. All ends when it is dropped.
pub(super) async fn serve<H, F>(listener: TcpListener, tls: TlsAcceptor, handler: H)
where
    H: Fn(Arc<Caller>, RawRequest) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Reply>> + Send,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                warn!(%error, "no connection could be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, handler) = (tls.clone(), handler.clone());
        connections.spawn(async move {
            if let Some(stream) = handshake(tls, tcp).await {
                converse(stream, handler).await;
            }
            drop(permit);
        });
    }
}

/// The TLS handshake. A client that is refused gets time to read the alert that says why: closing at once could reset
/// the connection first.
async fn handshake(tls: TlsAcceptor, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
    let peer = tcp.peer_addr().ok();
    tcp.set_nodelay(true).ok()?;
    match timeout(HANDSHAKE_LIMIT, tls.accept(tcp).into_fallible()).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, mut tcp))) => {
            warn!(?peer, %error, "TLS handshake refused");
            tcp.shutdown().await.ok()?;
            let mut rest = [0; 1024];
            let drain = async { while tcp.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
            timeout(LINGER, drain).await.unwrap_or_default();
            None
        }
        Err(_) => {
            debug!(?peer, "TLS handshake not finished in time");
            None
        }
    }
}

async fn converse<H, F>(stream: TlsStream<TcpStream>, handler: H)
where
    H: Fn(Arc<Caller>, RawRequest) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Reply>> + Send,
{
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = Arc::new(certificate.map(|der| Caller::from_certificate(der)).unwrap_or_default());
    let service = service_fn(move |request: Request<Incoming>| {
        let (caller, handler) = (Arc::clone(&caller), handler.clone());
        async move {
            let reply = match read(request).await {
                Ok(request) => handler(caller, request).await,
                Err(error) => Some(error.into()),
            };
            // hyper closes a connection whose service fails.
            reply.map(response).ok_or(io::Error::from(io::ErrorKind::ConnectionAborted))
        }
    });
    let mut http = http1::Builder::new();
    let served = http
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!(%error, "connection ended");
    }
}

async fn read(request: Request<Incoming>) -> Result<RawRequest, ApiError> {
    let (parts, body) = request.into_parts();
    let body = timeout(BODY_LIMIT, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| ApiError::bad("the request's body did not come in time"))?
        .map_err(|_| {
            ApiError::bad(format!("the request's body is cut short or longer than {MAX_BODY} bytes"))
        })?;
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(RawRequest {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: content_type.to_owned(),
        body: body.to_bytes().into(),
    })
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let (media_type, bytes) = match reply.body {
        Body::None => (None, Vec::new()),
        Body::Json(bytes) => (Some("application/json"), bytes),
        Body::Other { media_type, bytes } => (media_type, bytes),
    };
    let mut response = Response::new(Full::from(bytes));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let close = reply.close.then_some("close");
    for (name, value) in [(CONTENT_TYPE, media_type), (ALLOW, reply.allow), (CONNECTION, close)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

const MAX_CONNECTIONS: usize = 128;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_millis(500);
/// From the end of one request to the end of the next one's header.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
const BODY_LIMIT: Duration = Duration::from_secs(5);
/// 1,000 keys of 8,192 bits, as a peer KME may push them, need 1.5 MB.
const MAX_BODY: usize = 2 * 1024 * 1024;
