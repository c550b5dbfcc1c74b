//! A link that is given up on purpose, for a drill: until a time, whoever is there to end it.

use std::time::Instant;

use tokio::sync::watch;

/// Until when the link is given up; not at all while nothing is set, and once that time is over.
#[derive(Debug, Clone)]
pub struct Away(watch::Receiver<Option<Instant>>);

impl Away {
    /// As `until` says.
    pub fn new(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(until)
    }

    /// Of a link that is never given up.
    pub fn never() -> Self {
        Self(watch::channel(None).1)
    }

    fn until(&mut self) -> Option<Instant> {
        self.0.borrow_and_update().filter(|until| *until > Instant::now())
    }

    /// Ends when the link is to be given up.
    pub(super) async fn begins(&mut self) {
        while self.until().is_none() {
            if self.0.changed().await.is_err() {
                // Nobody can ask for it any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends when a link may stand again.
    pub(super) async fn is_over(&mut self) {
        while let Some(until) = self.until() {
            let slept = tokio::time::sleep_until(until.into());
            tokio::select! {
                () = slept => {}
                // It ended sooner; without anyone to say so, time ends it.
                Ok(()) = self.0.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_ends_by_itself_and_when_it_is_told() {
        let (set, until) = watch::channel(None);
        let mut away = Away::new(until);
        away.is_over().await;
        set.send_replace(Some(Instant::now() + Duration::from_millis(20)));
        away.begins().await;
        away.is_over().await;
        assert_eq!(away.until(), None);
        set.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        away.begins().await;
        let told = async {
            set.send_replace(None);
        };
        tokio::join!(away.is_over(), told);
        set.send_replace(Some(Instant::now() + Duration::from_millis(20)));
        drop(set);
        away.is_over().await;
    }
}
