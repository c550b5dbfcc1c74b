//! A connection as applications have them: a request every 100 ms, sent again as TCP would, and given up
//! when its answer has not come within the application's time-out.

use std::time::{Duration, Instant};

use carrick_exchange::probe::stream::{Answer, Question};

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(100);
/// TCP's least wait before it sends again (Linux), doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// The application's time-out.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The machine of one connection.
#[derive(Debug)]
pub struct Connection {
    stream: u64,
    number: u32,
    state: State,
    opened: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The next request leaves then.
    Idle(Instant),
    /// An answer is awaited since `since`; the request leaves again at `again`.
    Waiting {
        since: Instant,
        again: Instant,
        wait: Duration,
    },
    Broken,
}

impl Connection {
    /// One that opens at `now`.
    pub fn new(stream: u64, now: Instant) -> Self {
        Self { stream, number: 0, state: State::Idle(now), opened: false }
    }

    /// A request to be sent now.
    pub fn poll(&mut self, now: Instant) -> Option<Question> {
        match self.state {
            State::Idle(at) if at <= now => {
                let (wait, again) = (FIRST_RETRY, now + FIRST_RETRY);
                self.state = State::Waiting { since: now, again, wait };
            }
            State::Waiting { since, .. } if since + TIMEOUT <= now => {
                self.state = State::Broken;
                return None;
            }
            State::Waiting { since, again, wait } if again <= now => {
                let wait = wait * 2;
                self.state = State::Waiting { since, again: now + wait, wait };
            }
            _ => return None,
        }
        let (stream, number) = (self.stream, self.number);
        Some(Question { stream, number, sent: 0, interval: Duration::ZERO })
    }

    /// When to poll next.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Idle(at) => Some(at),
            State::Waiting { since, again, .. } => Some(again.min(since + TIMEOUT)),
            State::Broken => None,
        }
    }

    /// Takes an answer.
    pub fn answered(&mut self, now: Instant, answer: &Answer) {
        let State::Waiting { since, .. } = self.state else { return };
        let question = answer.question;
        if !answer.asked || (question.stream, question.number) != (self.stream, self.number) {
            return;
        }
        self.state = if since + TIMEOUT <= now { State::Broken } else { State::Idle(now + PAUSE) };
        self.number = self.number.wrapping_add(1);
        self.opened = true;
    }

    /// It had an answer at all.
    pub fn is_opened(&self) -> bool {
        self.opened
    }

    /// It was opened, and never waited too long.
    pub fn has_survived(&self) -> bool {
        self.opened && !matches!(self.state, State::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets it run for `length` over a way of 10 ms that is cut within `cut`.
    fn run(length: Duration, cut: std::ops::Range<Duration>) -> (Connection, usize) {
        let start = Instant::now();
        let (mut connection, mut now, mut requests) = (Connection::new(3, start), start, 0);
        while let Some(due) = connection.due().filter(|due| *due < start + length) {
            now = now.max(due);
            let Some(question) = connection.poll(now) else { continue };
            requests += 1;
            if !cut.contains(&(now - start)) {
                let (asked, arrivals, number) = (true, Default::default(), None);
                let answer = Answer { question, asked, arrivals, number };
                connection.answered(now + Duration::from_millis(10), &answer);
            }
        }
        (connection, requests)
    }

    #[test]
    fn it_survives_what_tcp_survives_within_the_time_out() {
        let second = Duration::from_secs(1);
        let (quiet, requests) = run(11 * second, Duration::ZERO..Duration::ZERO);
        assert!(quiet.has_survived());
        assert_eq!(requests, 100);
        let (short, _) = run(20 * second, 2 * second..4 * second);
        assert!(short.has_survived());
        let (long, _) = run(20 * second, 2 * second..9 * second);
        assert!(long.is_opened() && !long.has_survived());
        let (never, _) = run(20 * second, Duration::ZERO..20 * second);
        assert!(!never.is_opened() && !never.has_survived());
    }
}
