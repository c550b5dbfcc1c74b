//! Waiting for a condition with a deadline: the only way that the lab waits.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Between the first two looks; doubles with each look up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(5);

/// Short against every time that the lab asserts (seconds), long against the
/// cost of a look (milliseconds).
const LONGEST: Duration = Duration::from_millis(100);

/// Polls `condition` until it gives `Ok`, and returns that value.
///
/// # Errors
/// [`Error::Timeout`] with the last `Err` text once `deadline` has passed.
pub fn wait_until<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = SHORTEST;
    loop {
        let last = match condition() {
            Ok(value) => return Ok(value),
            Err(last) => last,
        };
        if start.elapsed() >= deadline {
            let seconds = deadline.as_secs_f64();
            return Err(Error::Timeout { what: what.to_owned(), seconds, last });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_and_names_what_it_last_saw() {
        let mut looks = 0;
        let seen = wait_until(Duration::from_secs(5), "a third look", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(seen.expect("came true"), 3);
        let error = wait_until::<()>(Duration::ZERO, "the impossible", || Err("nothing".into()));
        let text = error.expect_err("never true").to_string();
        assert!(text.contains("the impossible") && text.contains("nothing"), "{text}");
    }
}
