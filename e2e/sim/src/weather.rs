//! What a network does to datagrams.

use std::time::Duration;

use crate::random::Random;

/// How a network behaves, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// How long a datagram is under way.
    pub delay: Duration,
    /// How many of a hundred are lost.
    pub loss: u64,
    /// How many of a hundred arrive twice.
    pub duplication: u64,
    /// How many of a hundred come late, so that others overtake them.
    pub reordering: u64,
    /// By how much they come late, at most.
    pub late: Duration,
}

impl Weather {
    /// 40 ms each way, nothing lost.
    pub const FAIR: Self = Self {
        delay: Duration::from_millis(40),
        loss: 0,
        duplication: 0,
        reordering: 0,
        late: Duration::ZERO,
    };
    /// Loss, reordering and duplication of 5 % each.
    pub const FOUL: Self = Self {
        loss: 5,
        duplication: 5,
        reordering: 5,
        late: Duration::from_millis(60),
        ..Self::FAIR
    };

    /// After how long each copy of one datagram arrives; of a lost one, none does.
    pub(crate) fn arrivals(&self, random: &mut Random) -> impl Iterator<Item = Duration> {
        let copies = if random.percent(self.loss) {
            0
        } else if random.percent(self.duplication) {
            2
        } else {
            1
        };
        let mut one = || {
            let late = random.percent(self.reordering).then_some(self.late.as_micros() as u64);
            let extra = late.map_or(0, |most| random.below(most + 1));
            self.delay + Duration::from_micros(extra)
        };
        [(copies > 0).then(&mut one), (copies > 1).then(&mut one)].into_iter().flatten()
    }
}
