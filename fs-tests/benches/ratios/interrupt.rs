//! Ctrl-C and SIGTERM wait until the run that is being timed is over, so that everything can be unmounted.

use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Holds the signals back, here and in every program started from now on; [`asked`] tells of them.
pub(crate) fn hold_back() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals
        .thread_block()
        .expect("a program may block its own signals");
    thread::spawn(move || {
        while signals.wait().is_ok() {
            eprintln!("ratios: ending when this run is over");
            ASKED.store(true, Ordering::Relaxed);
        }
    });
}

/// Whether the program shall end.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
