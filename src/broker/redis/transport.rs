//! The sockets below the client library, which tell whether anything arrives.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{Host, RedisOptions};

/// How many bytes have arrived on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicU64>);

impl Heard {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A connection, in clear text or encrypted.
pub(super) struct Wire {
    stream: Stream,
    heard: Heard,
}

enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::TlsStream>),
}

impl Wire {
    /// Connects to a host.
    pub(super) async fn open(host: &Host, options: &RedisOptions) -> io::Result<Self> {
        let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
        stream.set_nodelay(true)?;
        let stream = match options.tls {
            #[cfg(feature = "tls")]
            true => Stream::Tls(Box::new(super::tls::encrypt(stream, &host.name).await?)),
            #[cfg(not(feature = "tls"))]
            true => return Err(io::ErrorKind::Unsupported.into()),
            false => Stream::Plain(stream),
        };
        Ok(Self { stream, heard: Heard::default() })
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

/// Does the same with either kind of stream.
macro_rules! either {
    ($wire:expr, $stream:ident => $do:expr) => {
        match &mut $wire.stream {
            Stream::Plain($stream) => $do,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $do,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(either!(self, stream => Pin::new(stream).poll_read(context, buffer)))?;
        self.heard.0.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
