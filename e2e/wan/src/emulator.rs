//! Starts the sites' threads and passes questions and changes to them.

use crate::conditions::{Conditions, ConditionsError};
use crate::config::{Config, ConfigError, SiteConfig};
use crate::link::Link;
use crate::netns;
use crate::pool::Pool;
use crate::route::Table;
use crate::site::{Command, Site};
use crate::stats::{DirectionStats, SiteStats, Stats};
use crate::sys;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// Packets that the kernel holds for us while we are busy: about 200 ms at full rate, which is more
/// than a busy machine keeps a preferred thread away. 75 MB a site at the very most.
const KERNEL_QUEUE: u32 = 32_768;
/// Commands that may wait for a site.
const COMMANDS: usize = 16;

/// Why the emulator didn't start or obey.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Conditions out of range.
    #[error(transparent)]
    Conditions(#[from] ConditionsError),
    /// The site's namespace or device couldn't be set up.
    #[error(
        "site {site:?}: cannot {what} in namespace {netns}: {source}; run as root with a \
             path to a network namespace that has no such device"
    )]
    Setup {
        /// The site.
        site: String,
        /// What failed.
        what: String,
        /// Its namespace.
        netns: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// A site's thread has ended.
    #[error("site {0:?} has stopped working; see the log for its error and start again")]
    Stopped(String),
}

struct Handle {
    commands: SyncSender<Command>,
    wake: UnixStream,
    thread: JoinHandle<()>,
}

/// A running emulator; dropping it removes its devices.
pub struct Emulator {
    config: Config,
    initial: Vec<Vec<Conditions>>,
    handles: Vec<Handle>,
}

impl Emulator {
    /// Sets up every site and starts forwarding.
    ///
    /// # Errors
    /// On the first thing that is wrong; what was made until then is removed.
    pub fn start(config: Config) -> Result<Self, EmulatorError> {
        let initial = config.validate()?;
        let namespaces: Vec<File> =
            config.sites.iter().map(open_namespace).collect::<Result<_, _>>()?;
        let devices: Vec<File> = (0..config.sites.len())
            .map(|own| make_device(&config, own, &namespaces[own]))
            .collect::<Result<_, _>>()?;
        let devices = Arc::new(devices);
        let epoch = Instant::now();
        let mut emulator = Self { handles: Vec::new(), initial, config };
        for (own, namespace) in namespaces.into_iter().enumerate() {
            let handle = emulator.spawn(own, namespace, devices.clone(), epoch)?;
            emulator.handles.push(handle);
        }
        Ok(emulator)
    }

    fn spawn(
        &self,
        own: usize,
        namespace: File,
        devices: Arc<Vec<File>>,
        epoch: Instant,
    ) -> Result<Handle, EmulatorError> {
        let (commands, receiver) = sync_channel(COMMANDS);
        let failed = |source| self.config.sites[own].failed("start a thread", source);
        let (wake, woken) = UnixStream::pair().map_err(failed)?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(failed)?;
        }
        let site = self.site(own, devices, epoch, receiver, woken);
        let name = self.config.sites[own].name.clone();
        let thread = std::thread::Builder::new()
            .name(format!("wan-{own}"))
            .spawn(move || {
                if let Err(error) = netns::enter(&namespace).and_then(|()| site.run()) {
                    tracing::error!(site = name, %error, "site stopped");
                }
            })
            .map_err(failed)?;
        Ok(Handle { commands, wake, thread })
    }

    fn site(
        &self,
        own: usize,
        devices: Arc<Vec<File>>,
        epoch: Instant,
        commands: Receiver<Command>,
        wake: UnixStream,
    ) -> Site {
        let Config { sites, buffers_per_site, mtu, seed, .. } = &self.config;
        let links = self.initial[own].iter().enumerate();
        let direction =
            |site: &SiteConfig| DirectionStats { to: site.name.clone(), ..<_>::default() };
        Site {
            own,
            device: sites[own].network.clone(),
            devices,
            routes: routes(&self.config),
            links: links
                .map(|(to, initial)| {
                    let direction = (own * sites.len() + to) as u64;
                    Link::new(initial.clone(), seed ^ direction.wrapping_mul(0xd134_2543_de82_ef95))
                })
                .collect(),
            stats: SiteStats {
                site: sites[own].name.clone(),
                directions: sites.iter().map(direction).collect(),
                ..SiteStats::default()
            },
            pool: Pool::new(*buffers_per_site, *mtu as usize),
            waiting: BinaryHeap::with_capacity(*buffers_per_site),
            sequence: 0,
            commands,
            wake,
            epoch,
            emptied: 0,
            handled: 0,
            polled: true,
        }
    }

    /// Changes a direction's conditions.
    ///
    /// # Errors
    /// Unknown sites, conditions out of range, a stopped site.
    pub fn set(&self, from: &str, to: &str, conditions: Conditions) -> Result<(), EmulatorError> {
        conditions.validate()?;
        let (from, to) = self.direction(from, to)?;
        self.ask(from, |done| Command::Set(to, conditions, done))
    }

    /// A direction's present conditions.
    ///
    /// # Errors
    /// Unknown sites, a stopped site.
    pub fn get(&self, from: &str, to: &str) -> Result<Conditions, EmulatorError> {
        let (from, to) = self.direction(from, to)?;
        self.ask(from, |answer| Command::Get(to, answer))
    }

    /// Cuts or restores a direction. What is under way still arrives.
    ///
    /// # Errors
    /// Unknown sites, a stopped site.
    pub fn set_cut(&self, from: &str, to: &str, cut: bool) -> Result<(), EmulatorError> {
        let (from, to) = self.direction(from, to)?;
        self.ask(from, |done| Command::Cut(to, cut, done))
    }

    /// Gives every direction the conditions that it had at the start; counters go on.
    ///
    /// # Errors
    /// A stopped site.
    pub fn reset(&self) -> Result<(), EmulatorError> {
        for (from, row) in self.initial.iter().enumerate() {
            for (to, conditions) in row.iter().enumerate() {
                self.ask(from, |done| Command::Set(to, conditions.clone(), done))?;
            }
        }
        Ok(())
    }

    /// Everything counted since the start.
    ///
    /// # Errors
    /// A stopped site.
    pub fn stats(&self) -> Result<Stats, EmulatorError> {
        let sites = (0..self.handles.len()).map(|site| self.ask(site, Command::Stats));
        Ok(Stats { sites: sites.collect::<Result<_, _>>()? })
    }

    fn direction(&self, from: &str, to: &str) -> Result<(usize, usize), EmulatorError> {
        let pair = (self.config.site("from", from)?, self.config.site("to", to)?);
        if pair.0 == pair.1 {
            return Err(ConfigError::SelfLink(from.to_owned()).into());
        }
        Ok(pair)
    }

    fn ask<T>(
        &self,
        site: usize,
        command: impl FnOnce(SyncSender<T>) -> Command,
    ) -> Result<T, EmulatorError> {
        let stopped = || EmulatorError::Stopped(self.config.sites[site].name.clone());
        let (answer, answered) = sync_channel(1);
        let handle = &self.handles[site];
        handle.commands.send(command(answer)).map_err(|_| stopped())?;
        // A full pipe is readable already, so the thread wakes without this byte.
        let _ = (&handle.wake).write(&[1]);
        answered.recv().map_err(|_| stopped())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for Handle { commands, wake, thread } in self.handles.drain(..) {
            drop((commands, wake));
            if thread.join().is_err() {
                tracing::error!("a site's thread panicked");
            }
        }
    }
}

impl SiteConfig {
    fn failed(&self, what: impl Into<String>, source: io::Error) -> EmulatorError {
        EmulatorError::Setup {
            site: self.name.clone(),
            what: what.into(),
            netns: self.netns.display().to_string(),
            source,
        }
    }
}

fn routes(config: &Config) -> Table {
    let sites = config.sites.iter().enumerate();
    Table::new(sites.flat_map(|(index, site)| site.prefixes.iter().map(move |net| (*net, index))))
}

fn open_namespace(site: &SiteConfig) -> Result<File, EmulatorError> {
    File::open(&site.netns).map_err(|error| site.failed("open the path", error))
}

/// Makes a site's device on a thread that enters its namespace.
fn make_device(config: &Config, own: usize, namespace: &File) -> Result<File, EmulatorError> {
    let site = &config.sites[own];
    let name = site.network.as_str();
    let others = config.sites.iter().enumerate().filter(|(index, _)| *index != own);
    let others = others.filter(|(_, other)| other.network == site.network);
    let foreign: Vec<_> = others.flat_map(|(_, site)| site.prefixes.clone()).collect();
    let inside = || -> Result<File, EmulatorError> {
        netns::enter(namespace).map_err(|error| site.failed("enter", error))?;
        let device =
            sys::tun(name).map_err(|error| site.failed(format!("make device {name}"), error))?;
        netns::set_up(name, Some(config.mtu), Some(KERNEL_QUEUE))
            .map_err(|error| site.failed(format!("bring up {name}"), error))?;
        for net in foreign {
            netns::add_route(name, net)
                .map_err(|error| site.failed(format!("add a route to {net}"), error))?;
        }
        Ok(device)
    };
    std::thread::scope(|scope| {
        let panicked = |_| Err(site.failed("set up", io::Error::other("thread panicked")));
        scope.spawn(inside).join().unwrap_or_else(panicked)
    })
}
