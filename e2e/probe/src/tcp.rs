//! TCP echo: a connection that carries a given number of bytes there and back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Returns what comes, connection by connection, until the process ends.
pub fn serve_echo(listener: &TcpListener) {
    for connection in listener.incoming().flatten() {
        std::thread::spawn(move || copy(&connection));
    }
}

/// Sends `bytes` bytes, reads them back, and prints how long that took.
pub fn echo(address: SocketAddr, bytes: u64, timeout: Duration) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("echo of {address}: {error}");
    let start = Instant::now();
    let connection = TcpStream::connect_timeout(&address, timeout).map_err(failed)?;
    connection.set_read_timeout(Some(timeout)).map_err(failed)?;
    let mut sender = connection.try_clone().map_err(failed)?;
    let writer = std::thread::spawn(move || {
        let copied = std::io::copy(&mut std::io::repeat(0x5a).take(bytes), &mut sender);
        copied.and_then(|_| sender.shutdown(Shutdown::Write))
    });
    let mut reader = &connection;
    let returned = std::io::copy(&mut reader, &mut std::io::sink()).map_err(failed)?;
    writer.join().map_err(|_| format!("echo of {address}: the sender failed"))?.map_err(failed)?;
    if returned != bytes {
        return Err(format!("echo of {address}: {returned} of {bytes} bytes came back"));
    }
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    println!("{{\"bytes\":{bytes},\"ms\":{millis:.2}}}");
    Ok(())
}

fn copy(connection: &TcpStream) {
    let (mut reader, mut writer) = (connection, connection);
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = reader.read(&mut buffer) {
        if length == 0 || writer.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || serve_echo(&listener));
        echo(address, 1_000_000, Duration::from_secs(10)).expect("echoed");
    }

    #[test]
    fn a_connection_that_closes_early_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || drop(listener.accept()));
        assert!(echo(address, 1000, Duration::from_secs(10)).is_err());
    }
}
