//! Encryption: rustls, with the certificates that the system trusts, as for RabbitMQ.

use std::io;

use rustls_connector::{AsyncTlsStream, RustlsConnector};
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

pub(super) type TlsStream = Compat<AsyncTlsStream<Compat<TcpStream>>>;

/// Shakes hands with a peer, which must prove to be `name`.
///
/// The certificates are read each time, so that new ones count from the next connection on; the
/// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name others than the system's.
pub(super) async fn encrypt(stream: TcpStream, name: &str) -> io::Result<TlsStream> {
    let connector = spawn_blocking(RustlsConnector::new_with_native_certs).await??;
    Ok(connector.connect_async(name, stream.compat()).await?.compat())
}
