//! Connections from Terraform: accepted on the private socket, with TLS where Terraform wants it.

use crate::plugin::tls::Tls;
use futures_util::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// How long a client may take to prove who it is.
const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Connections that are accepted and not yet served.
const WAITING_MAX: usize = 8;

/// A connection, encrypted or not.
pub(super) struct Connection(Pin<Box<dyn Duplex>>);

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// Accepts until the stream is dropped. A client that is refused is logged and leaves the others alone.
pub(super) fn accept(
    listener: UnixListener,
    tls: Option<Tls>,
) -> impl Stream<Item = io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(WAITING_MAX);
    let acceptor = tls.map(|tls| tls.acceptor);
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                stream = listener.accept() => stream,
                () = accepted.closed() => return,
            };
            match stream {
                Ok((stream, _)) => {
                    tokio::spawn(greet(acceptor.clone(), stream, accepted.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    // Out of file descriptors, most likely: give others time to close theirs.
                    let _ =
                        tokio::time::timeout(Duration::from_millis(100), accepted.closed()).await;
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

async fn greet(
    acceptor: Option<TlsAcceptor>,
    stream: UnixStream,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let connection = match acceptor {
        None => Connection(Box::pin(stream)),
        Some(acceptor) => {
            match tokio::time::timeout(TLS_HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Connection(Box::pin(stream)),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "refused a connection");
                    return;
                }
                Err(_) => {
                    tracing::warn!("closed a connection that did not finish its TLS handshake");
                    return;
                }
            }
        }
    };
    // The server ended meanwhile: nobody needs the connection.
    let _ = accepted.send(Ok(connection)).await;
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}
