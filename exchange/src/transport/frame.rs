//! Frames on a stream: four bytes of length, most significant first, then one Protobuf message.
//!
//! A frame of length zero says nothing; it opens a stream whose opener has nothing to say yet.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use prost::Message;
use quinn::{ReadError, RecvStream, SendStream, WriteError};

const HEADER: usize = 4;

/// How long the other side may refuse to take a frame before it counts as stuck.
const STALLED: Duration = Duration::from_secs(10);

/// Why a frame could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the protocol allows.
    #[error("frame of {length} bytes; at most {limit} are taken")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a message of the expected type.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// The stream ended within a frame.
    #[error("stream ended within a frame")]
    Truncated,
    /// The other side does not read.
    #[error("the other side took nothing for {} s", STALLED.as_secs())]
    Stalled,
    /// The link is gone; [`super::Link::closed`] says why.
    #[error("link closed")]
    Closed,
}

/// The writing half of a channel.
#[derive(Debug)]
pub struct Sender<T> {
    stream: SendStream,
    limit: usize,
    _type: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    pub(crate) fn new(stream: SendStream, limit: usize) -> Self {
        Self { stream, limit, _type: PhantomData }
    }

    /// Sends one message; waits while the other side is behind. Not cancel-safe: drop the sender
    /// after an interrupted call.
    pub async fn send(&mut self, message: &T) -> Result<(), FrameError> {
        let length = message.encoded_len();
        if length > self.limit {
            return Err(FrameError::TooLarge { length, limit: self.limit });
        }
        let mut frame = Vec::with_capacity(HEADER + length);
        // The limit is far below 4 GiB.
        frame.extend_from_slice(&(length as u32).to_be_bytes());
        message.encode_raw(&mut frame);
        self.write(&frame).await
    }

    /// Opens the stream at the other side without saying anything.
    pub(crate) async fn prime(&mut self) -> Result<(), FrameError> {
        self.write(&[0; HEADER]).await
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        match tokio::time::timeout(STALLED, self.stream.write_all(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(
                WriteError::Stopped(_)
                | WriteError::ConnectionLost(_)
                | WriteError::ClosedStream
                | WriteError::ZeroRttRejected,
            )) => Err(FrameError::Closed),
            Err(_) => Err(FrameError::Stalled),
        }
    }

    /// Says that nothing more will come, and waits until the other side has everything.
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.stream.finish().map_err(|_| FrameError::Closed)?;
        match tokio::time::timeout(STALLED, self.stream.stopped()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(FrameError::Closed),
            Err(_) => Err(FrameError::Stalled),
        }
    }
}

/// The reading half of a channel.
#[derive(Debug)]
pub struct Receiver<T> {
    stream: RecvStream,
    buffer: BytesMut,
    limit: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Receiver<T> {
    pub(crate) fn new(stream: RecvStream, limit: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), limit, _type: PhantomData }
    }

    /// The next message; `None` when the other side has finished. Cancel-safe.
    ///
    /// After an error the channel is of no more use.
    pub async fn receive(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = take_frame(&mut self.buffer, self.limit)? {
                return Ok(Some(message));
            }
            // What is held is what has arrived, at most one frame and one chunk: a length alone
            // makes us allocate nothing.
            match self.stream.read_chunk(64 << 10, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => return Err(FrameError::Truncated),
                Err(
                    ReadError::Reset(_)
                    | ReadError::ConnectionLost(_)
                    | ReadError::ClosedStream
                    | ReadError::IllegalOrderedRead
                    | ReadError::ZeroRttRejected,
                ) => return Err(FrameError::Closed),
            }
        }
    }
}

/// Takes one message off the front, if it is there whole. Skips empty frames. A frame of more than
/// `limit` bytes is an error as soon as its length is there.
pub fn take_frame<T: Message + Default>(
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<T>, FrameError> {
    while let Some(header) = buffer.first_chunk::<HEADER>() {
        let length = u32::from_be_bytes(*header) as usize;
        if length > limit {
            return Err(FrameError::TooLarge { length, limit });
        }
        if buffer.len() < HEADER + length {
            return Ok(None);
        }
        buffer.advance(HEADER);
        let frame = buffer.split_to(length);
        if length > 0 {
            let message = T::decode(frame);
            return message.map(Some).map_err(|e| FrameError::Malformed(e.to_string()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::peer::{PeerMessage, Report, peer_message::Kind};

    fn message(generation: u64) -> PeerMessage {
        let report = Report { generation, ..Report::default() };
        PeerMessage { kind: Some(Kind::Report(report)) }
    }

    fn framed(message: &PeerMessage) -> Vec<u8> {
        let body = message.encode_to_vec();
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let bytes = [framed(&message(1)), vec![0; 4], framed(&message(2))].concat();
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            seen.extend(take_frame::<PeerMessage>(&mut buffer, 100).expect("frame"));
        }
        assert_eq!(seen, [message(1), message(2)]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn oversized_length_is_refused_before_its_bytes_arrive() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 101][..]);
        let error = take_frame::<PeerMessage>(&mut buffer, 100).expect_err("too large");
        assert_eq!(error, FrameError::TooLarge { length: 101, limit: 100 });
    }

    proptest! {
        #[test]
        fn random_bytes_are_frames_or_errors(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take_frame::<PeerMessage>(&mut buffer, 300) {}
            prop_assert!(buffer.len() <= bytes.len());
        }
    }
}
