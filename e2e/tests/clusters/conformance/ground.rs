//! What a behaviour is looked at on: both clusters, and what was seen there.

use super::side::Side;
use crate::world::Outcome;

/// What came of looking.
pub enum Seen {
    /// All of it was seen.
    All,
    /// What can be seen here is right, and is too little to judge by.
    TooLittle(&'static str),
}

/// Looks at a behaviour.
pub type Look = fn(&Ground) -> Result<Seen, String>;

/// Both clusters, with a namespace of the behaviour's own.
pub struct Ground {
    /// The first, which exports.
    pub paris: Side,
    /// The second.
    pub osaka: Side,
    /// Begins a third one.
    pub third: Box<dyn Fn() -> Result<Side, String>>,
}

impl Ground {
    /// Both sides.
    pub fn both(&self) -> [&Side; 2] {
        [&self.paris, &self.osaka]
    }

    /// The same in both clusters.
    pub fn everywhere(&self, look: impl Fn(&Side) -> Outcome) -> Outcome {
        self.both().into_iter().try_for_each(look)
    }

    /// Both export a Service, and the first has done so earlier.
    pub fn both_export(&self, first: serde_json::Value, second: serde_json::Value) -> Outcome {
        self.paris.exports(first)?;
        self.paris.is_older()?;
        self.osaka.exports(second)
    }
}
