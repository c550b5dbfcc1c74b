//! Policy rules: which routing table a packet is looked up in.

use carrick_model::{Family, Prefix};

use crate::codec::{Request, attributes};
use crate::error::NetlinkError;
use crate::socket::Netlink;

const FIXED: usize = 12;
const FR_ACT_TO_TBL: u8 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;

/// `[from source] lookup table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Rules are tried from the lowest priority on.
    pub priority: u32,
    /// Its address family.
    pub family: Family,
    /// Sources that it is for; `None` for all.
    pub source: Option<Prefix>,
    /// The table.
    pub table: u32,
    /// Who made it ([`crate::PROTOCOL`]).
    pub protocol: u8,
}

impl Rule {
    /// A rule of ours.
    pub fn new(priority: u32, family: Family, source: Option<Prefix>, table: u32) -> Self {
        Self { priority, family, source, table, protocol: crate::PROTOCOL }
    }
}

impl Netlink {
    /// All rules of both families that look up a table.
    pub fn rules(&mut self) -> Result<Vec<Rule>, NetlinkError> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut fixed = [0; FIXED];
            fixed[0] = family as u8;
            let request = || Request::new(libc::RTM_GETRULE, libc::NLM_F_DUMP, &fixed);
            match self.dump("rules", request, parse) {
                Ok(rules) => all.extend(rules),
                Err(error)
                    if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Makes these the only rules that carry our protocol number, adding before deleting and in the
    /// order given. Returns how much was written.
    pub fn sync_rules(&mut self, wanted: &[Rule]) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let ours = |rule: &Rule| rule.protocol == crate::PROTOCOL;
        let held: Vec<_> = self.rules()?.into_iter().filter(ours).collect();
        for rule in wanted.iter().filter(|rule| !held.contains(rule)) {
            let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
            self.change_rule(libc::RTM_NEWRULE, flags, rule, "add")?;
        }
        for rule in held.iter().filter(|rule| !wanted.contains(rule)) {
            self.change_rule(libc::RTM_DELRULE, libc::NLM_F_ACK, rule, "delete")?;
        }
        Ok((self.writes() - before) as usize)
    }

    fn change_rule(
        &mut self,
        kind: u16,
        flags: i32,
        rule: &Rule,
        verb: &str,
    ) -> Result<(), NetlinkError> {
        let mut fixed = [0; FIXED];
        fixed[0] = match rule.family {
            Family::V4 => libc::AF_INET as u8,
            Family::V6 => libc::AF_INET6 as u8,
        };
        fixed[2] = rule.source.map_or(0, |source| source.length());
        fixed[7] = FR_ACT_TO_TBL;
        let mut request = Request::new(kind, flags, &fixed);
        if let Some(source) = rule.source {
            request.ip(FRA_SRC, source.address());
        }
        request
            .u32(FRA_PRIORITY, rule.priority)
            .u32(FRA_TABLE, rule.table)
            .u8(FRA_PROTOCOL, rule.protocol);
        let Rule { priority, table, .. } = rule;
        self.write(request, || format!("{verb} rule {priority} to table {table}"))
    }
}

fn parse(payload: &[u8]) -> Option<Rule> {
    let family = match i32::from(*payload.first()?) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    if *payload.get(7)? != FR_ACT_TO_TBL {
        return None;
    }
    let mut rule = Rule::new(0, family, None, u32::from(*payload.get(4)?));
    rule.protocol = 0;
    for attribute in attributes(payload, FIXED) {
        match attribute.kind {
            FRA_SRC => rule.source = Prefix::new(attribute.ip()?, *payload.get(2)?).ok(),
            FRA_PRIORITY => rule.priority = attribute.u32()?,
            FRA_TABLE => rule.table = attribute.u32()?,
            FRA_PROTOCOL => rule.protocol = attribute.u8()?,
            _ => {}
        }
    }
    Some(rule)
}
