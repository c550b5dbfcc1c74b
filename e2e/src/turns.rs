//! Who gets a turn first on a machine that has less time than all want.

use std::thread::JoinHandle;

use carrick_wan::sys::prefer_thread;

/// How much nicer than their caller tools are.
pub(crate) const LAST: &str = "15";

/// Starts a thread that takes its turns before all else, as do threads that it starts: who measures others would count
/// its own waiting as theirs. Like any other where the kernel refuses that, as without root.
pub fn first_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let _refused = prefer_thread();
        work()
    })
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    /// The calling thread's scheduling class, as the kernel shows it.
    fn class() -> i32 {
        let text = std::fs::read_to_string("/proc/thread-self/stat").expect("its own line");
        // The 41st field; the 2nd, a name, ends with the last bracket.
        let field = text.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(38));
        field.and_then(|field| field.parse().ok()).expect("a class")
    }

    #[test]
    fn who_measures_comes_first_and_nobody_else() {
        let before = class();
        let measuring =
            first_thread(|| [class(), std::thread::spawn(class).join().expect("a thread")]);
        let measuring = measuring.join().expect("a thread");
        // Without root it is as before, at most nicer.
        let root = nix::unistd::Uid::effective().is_root();
        let expected = if root { libc::SCHED_RR } else { before };
        assert_eq!(measuring, [expected; 2]);
        assert_eq!(class(), before);
    }
}
