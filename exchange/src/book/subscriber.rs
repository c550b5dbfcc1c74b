//! The importing side: what to ask next, of whom, and what the answers come to.
//!
//! Every question that [`Subscriber::poll_ask`] gives out is answered once by
//! [`Subscriber::handle_answer`], if only by saying that nothing came within its patience. Times never run backwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use carrick_model::{ClusterId, MemberName};

use super::change::apply;
use super::head::{Head, HeadError, verify};
use super::pull::{Pull, PullError, Wanted};
use super::tree::Book;
use crate::message::service::{
    Answer, Ask, AskHead, Change, News, answer::Kind as Answered, ask::Kind as Asking,
};
use crate::trust::Pin;

/// How long the other side waits for news before it answers that there are none.
pub const WAIT: Duration = Duration::from_secs(2);

/// The shortest time between two questions for a head: so often a second a peer that flaps is listened to.
const PACE: Duration = Duration::from_millis(100);

/// How long a question may take at first, beside what the other side waits; twice as long after each failure.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(16);

/// How long after a failure the next question goes out; twice as long once all ways have failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// After so many failures in a row, by all ways, the last is told: what passes in seconds is no news.
const NEWS: u32 = 5;

/// How many questions for pieces are under way at once.
const PARALLEL: usize = 4;

/// After so many questions for a head another way is taken, so that no gateway can keep us from news for long.
const SAME_WAY: u32 = 32;

/// What one cluster exports to us, as far as we have heard.
#[derive(Debug)]
pub struct Subscriber {
    pin: Pin,
    own: ClusterId,
    ways: Vec<MemberName>,
    held: Option<Head>,
    book: Book,
    pull: Option<Pull>,
    /// What a pull had verified when its book was gone.
    salvaged: Option<Book>,
    asked: BTreeMap<u64, Question>,
    next_id: u64,
    /// Counts on with each failure: which gateway is asked, and which of its links it is to take.
    way: u32,
    heads: u32,
    failures: u32,
    last_head: Option<Instant>,
    not_before: Option<Instant>,
    error: Option<SubscriberError>,
}

/// A question under way.
#[derive(Debug)]
enum Question {
    Head,
    /// For pieces of the book of this head.
    Pieces(Head, Wanted),
}

/// A question to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names it in [`Subscriber::handle_answer`].
    pub id: u64,
    /// The gateway of ours that it goes to.
    pub gateway: MemberName,
    /// The question.
    pub ask: Ask,
    /// After which time nothing is to be expected any more.
    pub patience: Duration,
}

/// Why nothing newer is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriberError {
    /// Nobody answered.
    #[error("no answer from {cluster}'s controller about exported services: {why}")]
    NoAnswer {
        /// Whose.
        cluster: ClusterId,
        /// What happened.
        why: String,
    },
    /// It refused.
    #[error("{cluster} does not say what it exports: {why}")]
    Refused {
        /// Who.
        cluster: ClusterId,
        /// Its words.
        why: String,
    },
    /// A head that is not taken.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Pieces that are not taken.
    #[error("{cluster}: {error}")]
    Pieces {
        /// Whose.
        cluster: ClusterId,
        /// Why.
        error: PullError,
    },
}

impl SubscriberError {
    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAnswer { .. } => "NoAnswer",
            Self::Refused { .. } => "Refused",
            Self::Head(error) => error.reason(),
            Self::Pieces { .. } => "MalformedServices",
        }
    }
}

impl Subscriber {
    /// For what the cluster in `pin` exports to `own`; nothing is known yet.
    pub fn new(pin: Pin, own: ClusterId) -> Self {
        Self {
            pin,
            own,
            ways: Vec::new(),
            held: None,
            book: Book::default(),
            pull: None,
            salvaged: None,
            asked: BTreeMap::new(),
            next_id: 0,
            way: 0,
            heads: 0,
            failures: 0,
            last_head: None,
            not_before: None,
            error: None,
        }
    }

    /// The newest book; `None` before the first is there.
    pub fn book(&self) -> Option<&Book> {
        self.held.as_ref().map(|_| &self.book)
    }

    /// The head of [`Subscriber::book`].
    pub fn head(&self) -> Option<Head> {
        self.held
    }

    /// Why nothing newer is known, when questions have come to nothing for a while and by every way.
    pub fn error(&self) -> Option<&SubscriberError> {
        self.error.as_ref()
    }

    /// Our gateways that are linked with the cluster, in order of preference.
    pub fn handle_ways(&mut self, ways: Vec<MemberName>) {
        if self.ways != ways {
            self.ways = ways;
            (self.way, self.failures, self.not_before) = (0, 0, None);
        }
    }

    /// Who they must be may change. What only an identity vouched for that is no longer pinned is forgotten.
    pub fn handle_pin(&mut self, pin: Pin) {
        if self.pin == pin {
            return;
        }
        self.pin = pin;
        // A head that is being pulled was verified with the pin of then.
        (self.pull, self.salvaged) = (None, None);
        if self.held.is_some_and(|head| !self.pin.identities.contains(&head.signer)) {
            (self.held, self.book) = (None, Book::default());
        }
    }

    /// When [`Subscriber::poll_ask`] has something again; `None` while it waits for answers or ways.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let heads = self.asked.values().filter(|q| matches!(q, Question::Head)).count();
        if self.ways.is_empty() || self.pull.is_none() && heads > 0 {
            return None;
        }
        let paced = self.last_head.filter(|_| self.pull.is_none()).map(|at| at + PACE);
        [self.not_before, paced].into_iter().flatten().max()
    }

    /// The next question, if there is one now.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Request> {
        if self.ways.is_empty() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.not_before = None;
        let (kind, question, wait) = match &mut self.pull {
            Some(pull) => {
                let mut indices = false;
                let mut under_way = 0;
                for question in self.asked.values() {
                    let Question::Pieces(head, wanted) = question else { continue };
                    under_way += 1;
                    indices |= *head == pull.head() && *wanted == Wanted::Index;
                }
                if under_way >= PARALLEL {
                    return None;
                }
                let (ask, wanted) = pull.next(indices)?;
                (Asking::Pieces(ask), Question::Pieces(pull.head(), wanted), Duration::ZERO)
            }
            None => self.head_question(now)?,
        };
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id, question);
        // There is one at least.
        let count = self.ways.len() as u32;
        let gateway = self.ways.get((self.way % count) as usize)?.clone();
        let cluster = self.pin.cluster.to_string();
        let ask = Ask { cluster, way: self.way / count, kind: Some(kind) };
        let longer = PATIENCE * 2_u32.pow(self.failures.min(8));
        Some(Request { id, gateway, ask, patience: wait + longer.min(LONGEST_PATIENCE) })
    }

    fn head_question(&mut self, now: Instant) -> Option<(Asking, Question, Duration)> {
        let under_way = self.asked.values().any(|question| matches!(question, Question::Head));
        if under_way || self.last_head.is_some_and(|at| now < at + PACE) {
            return None;
        }
        self.last_head = Some(now);
        self.heads += 1;
        if self.heads >= SAME_WAY {
            (self.heads, self.way) = (0, self.way.wrapping_add(1));
        }
        let ask = match self.held {
            None => AskHead::default(),
            Some(head) => AskHead {
                root: head.root.as_bytes().to_vec(),
                epoch: head.version.epoch,
                generation: head.version.generation,
                // Two seconds are no overflow.
                wait_milliseconds: WAIT.as_millis() as u32,
            },
        };
        let wait = Duration::from_millis(ask.wait_milliseconds.into());
        Some((Asking::Head(ask), Question::Head, wait))
    }

    /// What came of a question; `Err` says why nothing did. Returns whether the book is another one now.
    pub fn handle_answer(
        &mut self,
        id: u64,
        answer: Result<Answer, String>,
        now: Instant,
        wall: SystemTime,
    ) -> bool {
        let Some(question) = self.asked.remove(&id) else { return false };
        let taken = match answer {
            Ok(Answer { kind: Some(kind) }) => self.take(&question, kind, wall),
            Ok(Answer { kind: None }) => Err(self.no_answer("it speaks otherwise")),
            Err(why) => Err(self.no_answer(&why)),
        };
        match taken {
            Ok(changed) => {
                (self.failures, self.not_before, self.error) = (0, None, None);
                changed
            }
            Err(error) => {
                self.failed(&question, error, now);
                false
            }
        }
    }

    fn no_answer(&self, why: &str) -> SubscriberError {
        SubscriberError::NoAnswer { cluster: self.pin.cluster.clone(), why: why.to_owned() }
    }

    fn failed(&mut self, question: &Question, error: SubscriberError, now: Instant) {
        if let (Question::Pieces(head, wanted), Some(pull)) = (question, &mut self.pull)
            && pull.head() == *head
        {
            pull.unanswered(wanted);
            if matches!(error, SubscriberError::Pieces { .. }) {
                self.pull = None;
            }
        }
        // Questions that went out together fail together, and count once.
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.way = self.way.wrapping_add(1);
        let rounds = self.failures / (self.ways.len().max(1) as u32);
        let pause = (FIRST_PAUSE * 2_u32.pow(rounds.min(8))).min(LONGEST_PAUSE);
        self.not_before = Some(now + pause);
        if self.failures >= NEWS.max(self.ways.len() as u32) {
            self.error = Some(error);
        }
    }

    fn take(
        &mut self,
        question: &Question,
        kind: Answered,
        wall: SystemTime,
    ) -> Result<bool, SubscriberError> {
        match (question, kind) {
            (_, Answered::Refused(why)) => {
                let why = why.chars().filter(|c| !c.is_control()).take(200).collect();
                Err(SubscriberError::Refused { cluster: self.pin.cluster.clone(), why })
            }
            (Question::Head, Answered::Unchanged(_)) => Ok(false),
            (Question::Head, Answered::Head(news)) => self.news(news, wall),
            (Question::Pieces(head, wanted), Answered::Pieces(pieces)) => {
                let Some(pull) = self.pull.as_mut().filter(|pull| pull.head() == *head) else {
                    return Ok(false);
                };
                let taken = pull.take(wanted, pieces).and_then(|()| pull.finish().transpose());
                let cluster = || self.pin.cluster.clone();
                match taken {
                    Ok(None) => Ok(false),
                    Ok(Some(book)) => Ok(self.adopt(*head, book)),
                    Err(PullError::Gone) => {
                        self.salvaged = self.pull.take().map(Pull::salvage);
                        Ok(false)
                    }
                    Err(error) => Err(SubscriberError::Pieces { cluster: cluster(), error }),
                }
            }
            _ => Err(self.no_answer("it answers something else")),
        }
    }

    fn news(&mut self, news: News, wall: SystemTime) -> Result<bool, SubscriberError> {
        let signed = news.head.unwrap_or_default();
        let held = self.held.map(|head| head.version);
        let head = verify(&signed, &self.pin, &self.own, wall, held)?;
        if self.held.is_some() && head.root == self.book.root() {
            self.held = Some(head);
            return Ok(false);
        }
        Ok(match self.shortcut(&head, &news.changes) {
            Some(book) => self.adopt(head, book),
            None => {
                let from = self.salvaged.take().unwrap_or_else(|| self.book.clone());
                self.pull = Some(Pull::new(head, from));
                false
            }
        })
    }

    /// The book of a head, where nothing has to be asked for.
    fn shortcut(&self, head: &Head, changes: &[Change]) -> Option<Book> {
        let empty = || Some(Book::default()).filter(|book| book.root() == head.root);
        let changed = || apply(&self.book, changes).ok().filter(|book| head.is_of(book));
        empty().or_else(changed)
    }

    fn adopt(&mut self, head: Head, book: Book) -> bool {
        (self.held, self.book) = (Some(head), book);
        (self.pull, self.salvaged) = (None, None);
        true
    }
}
