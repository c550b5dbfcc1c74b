//! A tool for test pods: a static program in an empty image, the standard
//! library only. It serves and fetches pages, and counts what a numbered
//! stream loses.

mod dns;
mod http;
mod stream;
mod tcp;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage:
  carrick-probe serve [--port 8080]           pages, TCP echo on port+1, UDP echo on port+2
  carrick-probe fetch HOST:PORT [--timeout-ms 2000]
  carrick-probe echo HOST:PORT [--bytes 64] [--timeout-ms 2000]          one TCP echo
  carrick-probe stream HOST:PORT [--seconds 10] [--per-second 100] [--bytes 200]
                                              UDP echo; prints losses and gaps as JSON
  carrick-probe listen [--port 9000] [--seconds 10]       counts a one-way stream
  carrick-probe send HOST:PORT [--seconds 10] [--per-second 100] [--bytes 200]
  carrick-probe resolve HOST
  carrick-probe lookup TYPE/NAME [--timeout-ms 2000]      the code, then a record a line";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let (task, rest) = arguments.split_first().ok_or(USAGE)?;
    let options = Options::parse(rest)?;
    match task.as_str() {
        "serve" => http::serve(options.port("port", 8080)?),
        "fetch" => http::fetch(&options.host()?, options.address()?, options.timeout()?),
        "echo" => tcp::echo(options.address()?, options.number("bytes", 64)?, options.timeout()?),
        "stream" => stream::round_trip(options.address()?, &options.plan()?),
        "listen" => stream::listen(options.port("port", 9000)?, &options.plan()?),
        "send" => stream::send(options.address()?, &options.plan()?),
        "lookup" => dns::lookup(&options.host()?, options.timeout()?),
        "resolve" => resolve(&options.host()?),
        other => Err(format!("unknown task {other:?}\n{USAGE}")),
    }
}

fn resolve(host: &str) -> Result<(), String> {
    let found =
        (host, 0).to_socket_addrs().map_err(|error| format!("resolving {host}: {error}"))?;
    found.for_each(|address| println!("{}", address.ip()));
    Ok(())
}

/// Arguments of a task: at most one target, and numbers by name.
struct Options {
    target: Option<String>,
    numbers: BTreeMap<String, u64>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { target: None, numbers: BTreeMap::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(name) = argument.strip_prefix("--") else {
                if options.target.replace(argument.clone()).is_some() {
                    return Err(format!("{argument:?} is a second target\n{USAGE}"));
                }
                continue;
            };
            let known = ["port", "timeout-ms", "seconds", "per-second", "bytes"];
            if !known.contains(&name) {
                return Err(format!("unknown option --{name}\n{USAGE}"));
            }
            let value = rest.next().ok_or(format!("--{name} needs a number"))?;
            let number = value.parse().map_err(|_| format!("--{name} {value:?} is no number"))?;
            options.numbers.insert(name.to_owned(), number);
        }
        Ok(options)
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        match self.numbers.get(name).copied().unwrap_or(default) {
            0 => Err(format!("--{name} must be at least 1")),
            number => Ok(number),
        }
    }

    fn port(&self, name: &str, default: u64) -> Result<u16, String> {
        let number = self.number(name, default)?;
        u16::try_from(number).map_err(|_| format!("--{name} {number} is no port"))
    }

    fn timeout(&self) -> Result<Duration, String> {
        self.number("timeout-ms", 2000).map(Duration::from_millis)
    }

    fn host(&self) -> Result<String, String> {
        self.target.clone().ok_or(format!("name a target\n{USAGE}"))
    }

    fn address(&self) -> Result<SocketAddr, String> {
        let target = self.host()?;
        let mut found =
            target.to_socket_addrs().map_err(|error| format!("resolving {target}: {error}"))?;
        found.next().ok_or(format!("{target} has no address"))
    }

    fn plan(&self) -> Result<stream::Plan, String> {
        let per_second = self.number("per-second", 100)?;
        let bytes = self.number("bytes", 200)?;
        if per_second > 100_000 {
            return Err(format!("--per-second {per_second} is more than 100000"));
        }
        if !(stream::HEADER as u64..=65_507).contains(&bytes) {
            return Err(format!("--bytes {bytes} is not between {} and 65507", stream::HEADER));
        }
        Ok(stream::Plan {
            length: Duration::from_secs(self.number("seconds", 10)?),
            interval: Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(1),
            bytes: usize::try_from(bytes).unwrap_or(stream::HEADER),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn refused<T>(result: Result<T, String>, part: &str) {
        let error = result.err().expect("must be refused");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn bad_arguments_are_named() {
        refused(parse(&["a:1", "b:1"]), "second target");
        refused(parse(&["--sceonds", "1"]), "--sceonds");
        refused(parse(&["--seconds"]), "needs a number");
        refused(parse(&["--seconds", "x"]), "\"x\"");
        refused(parse(&["--port", "70000"]).and_then(|o| o.port("port", 1)), "no port");
        refused(parse(&["--bytes", "1"]).and_then(|o| o.plan().map(drop)), "--bytes 1");
        refused(parse(&["--per-second", "0"]).and_then(|o| o.plan().map(drop)), "at least 1");
        refused(run(&["dance".to_owned()]), "dance");
        refused(run(&[]), "usage");
    }

    #[test]
    fn a_plan_has_defaults() {
        let plan = parse(&["1.2.3.4:5"]).and_then(|o| o.plan()).expect("valid");
        assert_eq!(plan.interval, Duration::from_millis(10));
        assert_eq!(plan.bytes, 200);
    }
}
