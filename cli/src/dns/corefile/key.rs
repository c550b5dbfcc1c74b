//! The keys of a server block: where it listens, and for which zone.

/// A key: `[transport://]zone[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    /// The transport with its `://`; empty when none is named.
    transport: &'a str,
    /// The zone as it is written.
    host: &'a str,
    /// The port with its `:`; empty when none is named.
    port: &'a str,
}

impl<'a> Key<'a> {
    /// Reads a key, without the comma that may come after it.
    pub fn parse(text: &'a str) -> Self {
        let text = text.strip_suffix(',').unwrap_or(text);
        let (transport, rest) = match text.find("://") {
            Some(at) => text.split_at(at + 3),
            None => ("", text),
        };
        let (host, port) = match rest.rfind(':') {
            Some(at) if rest[at + 1..].parse::<u16>().is_ok() => rest.split_at(at),
            _ => (rest, ""),
        };
        Self { transport, host, port }
    }

    /// Its zone: small letters, no dot at the end; the root is empty.
    pub fn zone(&self) -> String {
        zone(self.host)
    }

    /// The same transport and port for another zone.
    pub fn with_zone(&self, zone: &str) -> String {
        format!("{}{zone}{}", self.transport, self.port)
    }

    /// Where it listens: two keys with the same answer each other's queries.
    pub fn listens(&self) -> (&'a str, &'a str) {
        let transport = if self.transport.is_empty() { "dns://" } else { self.transport };
        let port = match (self.port, transport) {
            ("", "dns://") => ":53",
            (port, _) => port,
        };
        (transport, port)
    }
}

/// A zone as it is compared.
pub fn zone(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether `inner` is `outer` or below it; both as [`zone`] gives them.
pub fn within(inner: &str, outer: &str) -> bool {
    outer.is_empty()
        || inner == outer
        || inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_zone_and_place() {
        for (text, zone, listens) in [
            (".:53", "", ("dns://", ":53")),
            (":1053", "", ("dns://", ":1053")),
            (".", "", ("dns://", ":53")),
            ("Cluster.Local.:53,", "cluster.local", ("dns://", ":53")),
            ("tls://example.org", "example.org", ("tls://", "")),
            ("dns://a:5353", "a", ("dns://", ":5353")),
        ] {
            let key = Key::parse(text);
            assert_eq!((key.zone().as_str(), key.listens()), (zone, listens), "{text}");
        }
        assert_eq!(Key::parse("dns://a:5353,").with_zone("z"), "dns://z:5353");
        assert_eq!(Key::parse("a").with_zone("z"), "z");
    }

    #[test]
    fn zones_are_within_others() {
        assert!(within("a.b", "b") && within("b", "b") && within("b", ""));
        assert!(!within("ab", "b") && !within("b", "a.b"));
    }
}
