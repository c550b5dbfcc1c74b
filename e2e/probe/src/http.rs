//! Pages that say who asked and who answered.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::{stream, tcp};

/// A client that says nothing for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most of a request or an answer that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Serves pages, TCP echo and UDP echo until the process ends.
pub fn serve(port: u16) -> Result<(), String> {
    if port > u16::MAX - 2 {
        return Err(format!("--port {port} leaves no room for the echo ports"));
    }
    let listener = listen(port)?;
    let echo = listen(port + 1)?;
    stream::serve_echo(port + 2)?;
    std::thread::spawn(move || tcp::serve_echo(&echo));
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "unknown".to_owned());
    println!("serving on port {port} as {name}");
    for connection in listener.incoming() {
        let name = name.clone();
        match connection {
            Ok(connection) => drop(std::thread::spawn(move || answer(connection, &name))),
            Err(error) => eprintln!("accepting: {error}"),
        }
    }
    Ok(())
}

/// Fetches a page and prints its body.
pub fn fetch(host: &str, address: SocketAddr, timeout: Duration) -> Result<(), String> {
    println!("{}", get(host, address, timeout)?.trim_end());
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, String> {
    // On both families where IPv6 exists.
    let any: [SocketAddr; 2] = [([0u16; 8], port).into(), ([0u8; 4], port).into()];
    TcpListener::bind(&any[..]).map_err(|error| format!("listening on port {port}: {error}"))
}

fn answer(mut connection: TcpStream, name: &str) {
    let result = respond(&mut connection, name);
    if let Err(error) = result {
        eprintln!("answering: {error}");
    }
}

fn respond(connection: &mut TcpStream, name: &str) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let client = connection.peer_addr()?.ip().to_canonical();
    let mut lines = BufReader::new(connection.try_clone()?.take(LIMIT)).lines();
    // The whole request is read: closing with unread bytes would reset the connection.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = page(client, name);
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn page(client: std::net::IpAddr, name: &str) -> String {
    format!("{{\"client\":\"{client}\",\"server\":\"{name}\"}}\n")
}

fn get(host: &str, address: SocketAddr, timeout: Duration) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("fetching from {address}: {error}");
    let mut connection = TcpStream::connect_timeout(&address, timeout).map_err(failed)?;
    connection.set_read_timeout(Some(timeout)).map_err(failed)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).map_err(failed)?;
    let mut text = String::new();
    connection.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(format!("{address} answered {:?}", text.lines().next().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_names_the_client() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (connection, _) = listener.accept().expect("a client");
            answer(connection, "pod-1");
        });
        let body = get("test", address, PATIENCE).expect("a page");
        assert_eq!(body, "{\"client\":\"127.0.0.1\",\"server\":\"pod-1\"}\n");
        server.join().expect("ended");
    }

    #[test]
    fn a_refusal_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let error = get("test", address, PATIENCE).expect_err("refused");
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
