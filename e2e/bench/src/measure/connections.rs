//! New TCP connections a second: opened, and dropped at once.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::measure::{Figures, Stop, Subject};

/// Clients at a time.
const CLIENTS: usize = 8;
const LENGTH: Duration = Duration::from_secs(2);
/// One connection may take so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections a second.
///
/// # Errors
/// When no connection was made.
pub fn rate(subject: &Subject<'_>) -> anyhow::Result<Figures> {
    let bind = || TcpListener::bind((subject.far, 0));
    let listener = subject.world.far.netns.run(bind)?.context("the listener")?;
    let target = listener.local_addr()?;
    listener.set_nonblocking(false)?;
    let (done, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    let took = std::thread::scope(|scope| {
        scope.spawn(|| accept(&listener, &done));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| subject.world.near.netns.run(|| connect(target, start, &made))))
            .collect();
        let stop = Stop(&done);
        let failed = clients.into_iter().filter_map(|client| client.join().ok()?.err()).next();
        let took = start.elapsed();
        drop(stop);
        // The one that ends the accepting thread's wait.
        let last = subject.world.far.netns.run(|| TcpStream::connect_timeout(&target, PATIENCE))?;
        last.context("the last connection")?;
        failed.map_or(Ok(took), |error| Err(error).context("a client"))
    })?;
    match made.load(Ordering::Relaxed) {
        0 => bail!("no connection to {target} was made"),
        made => {
            let rate = made as f64 / took.as_secs_f64();
            Ok([("connections".to_owned(), rate)].into())
        }
    }
}

fn accept(listener: &TcpListener, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        // A connection that went away while it waited is no failure of ours.
        let _ = listener.accept();
    }
}

fn connect(target: SocketAddr, start: Instant, made: &AtomicU64) {
    while start.elapsed() < LENGTH {
        let Ok(stream) = TcpStream::connect_timeout(&target, PATIENCE) else { continue };
        // Reset instead of closed: otherwise ports would run out within seconds.
        let reset = linger { l_onoff: 1, l_linger: 0 };
        if setsockopt(&stream, sockopt::Linger, &reset).is_ok() {
            made.fetch_add(1, Ordering::Relaxed);
        }
    }
}
