//! Ctrl-C, SIGTERM and SIGHUP wait until the run that is being timed is over, so that everything can be unmounted.

use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Holds the signals back, here and in every program started from now on; [`asked`] tells of them. `program` is the
/// name that the message begins with.
pub(super) fn hold_back(program: &'static str) {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
        .thread_block()
        .expect("a program may block its own signals");
    thread::spawn(move || {
        while signals.wait().is_ok() {
            // first, for there may be no terminal left to print to
            ASKED.store(true, Ordering::Relaxed);
            eprintln!("{program}: ending when this run is over");
        }
    });
}

/// Ends the benchmark where it was asked to.
///
/// # Errors
/// Says so.
pub fn go_on() -> Result<(), String> {
    match asked() {
        true => Err("interrupted".to_owned()),
        false => Ok(()),
    }
}

/// Whether the program shall end.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
