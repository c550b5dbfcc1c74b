//! Questions on a link: each has a stream of its own, with one message there and one back.
//!
//! The other end takes questions only once it says so ([`Link::take_calls`]); an older release never does, and
//! what it is asked waits until the asker gives up.

use std::time::Duration;

use quinn::{ReadToEndError, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;

use super::frame::FrameError;
use super::link::Link;
use crate::book::{MAX_ANSWER, MAX_ASK};

/// How long a question may take to arrive whole.
const ASKING: Duration = Duration::from_secs(5);

/// A question of the other end.
#[derive(Debug)]
pub struct Call {
    send: SendStream,
    receive: RecvStream,
}

impl Link {
    /// Asks, and waits for the answer: the bytes of one message each, at most [`MAX_ASK`] and [`MAX_ANSWER`].
    /// Dropping the future takes the question back.
    ///
    /// Only after [`Link::channel`] of this end is there: the first stream is the channel.
    ///
    /// # Errors
    /// When the link ends, the other end drops the question, or either is too large.
    pub async fn call(&self, question: &[u8]) -> Result<Vec<u8>, FrameError> {
        if question.len() > MAX_ASK {
            return Err(FrameError::TooLarge { length: question.len(), limit: MAX_ASK });
        }
        let stream = self.connection().open_bi().await;
        let (mut send, receive) = stream.map_err(|_| FrameError::Closed)?;
        send.write_all(question).await.map_err(|_| FrameError::Closed)?;
        send.finish().map_err(|_| FrameError::Closed)?;
        read(receive, MAX_ANSWER).await
    }

    /// Lets the other end ask, so many questions at once. After [`Link::channel`].
    pub fn take_calls(&self, at_once: u32) {
        // One place is the channel's, where the other end opened it.
        let places = VarInt::from_u32(at_once.saturating_add(1));
        self.connection().set_max_concurrent_bi_streams(places);
    }

    /// Has the other end's questions answered, so many at once, until the link ends. After [`Link::channel`].
    /// What is under way ends when the future is dropped.
    pub async fn serve_calls<F>(&self, at_once: u32, mut answer: impl FnMut(Call) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.take_calls(at_once);
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                call = self.called() => match call {
                    // The other end can open no more streams than that.
                    Some(call) => drop(tasks.spawn(answer(call))),
                    None => return,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// The next question; `None` when the link has ended. Cancel-safe.
    pub async fn called(&self) -> Option<Call> {
        let (send, receive) = self.connection().accept_bi().await.ok()?;
        Some(Call { send, receive })
    }
}

impl Call {
    /// The question, and where its answer goes.
    ///
    /// # Errors
    /// When the asker has taken it back, takes more than five seconds, or says too much.
    pub async fn read(self) -> Result<(Vec<u8>, Reply), FrameError> {
        let question = tokio::time::timeout(ASKING, read(self.receive, MAX_ASK)).await;
        let question = question.map_err(|_| FrameError::Stalled)??;
        Ok((question, Reply(self.send)))
    }
}

/// Where an answer goes. Without one, the asker learns that there is none.
#[derive(Debug)]
pub struct Reply(SendStream);

impl Reply {
    /// Answers.
    ///
    /// # Errors
    /// When the asker does not wait any more, or it is too large.
    pub async fn answer(mut self, answer: &[u8]) -> Result<(), FrameError> {
        if answer.len() > MAX_ANSWER {
            return Err(FrameError::TooLarge { length: answer.len(), limit: MAX_ANSWER });
        }
        self.0.write_all(answer).await.map_err(|_| FrameError::Closed)?;
        self.0.finish().map_err(|_| FrameError::Closed)
    }

    /// Waits until the asker does not wait any more. Cancel-safe.
    pub async fn given_up(&mut self) {
        // Whatever it says, nobody reads.
        let _ = self.0.stopped().await;
    }
}

async fn read(mut stream: RecvStream, limit: usize) -> Result<Vec<u8>, FrameError> {
    match stream.read_to_end(limit).await {
        Ok(bytes) => Ok(bytes),
        Err(ReadToEndError::TooLong) => Err(FrameError::TooLarge { length: limit + 1, limit }),
        Err(ReadToEndError::Read(_)) => Err(FrameError::Closed),
    }
}
