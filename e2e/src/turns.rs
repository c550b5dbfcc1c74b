//! Who gets a turn first on a machine that has less time than all want.

use std::thread::JoinHandle;

use rustix::process::setpriority_process;

/// How nice (setpriority(2)) who measures is.
const FIRST: i32 = -10;

/// How much nicer than their caller tools are.
pub(crate) const LAST: &str = "15";

/// Starts a thread that takes its turns before all else, as do threads that it starts: who measures others would count
/// its own waiting as theirs. Like any other where the kernel refuses that, as without root.
pub fn first_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let _refused = setpriority_process(None, FIRST);
        work()
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn who_measures_comes_first_and_nobody_else() {
        let priority = || getpriority_process(None).expect("a priority");
        let before = priority();
        let measuring = first_thread(move || {
            [priority(), std::thread::spawn(priority).join().expect("a thread")]
        });
        let measuring = measuring.join().expect("a thread");
        // Without root nothing changes.
        let expected = if nix::unistd::Uid::effective().is_root() { FIRST } else { before };
        assert_eq!(measuring, [expected; 2]);
        assert_eq!(priority(), before);
    }
}
