//! The end of a disk's threads: one event that all of them wait for.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::unistd::close;
use parking_lot::Mutex;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

/// An event that stays when it has come, with a handle for each thread. They are made beforehand, for a thread without one
/// could not be ended.
pub(super) struct Exit {
    notifier: EventNotifier,
    handles: Mutex<Handles>,
}

#[derive(Default)]
struct Handles {
    free: Vec<(EventConsumer, EventNotifier)>,
    /// Consumers in the hands of the library, which does not close them.
    lent: Vec<RawFd>,
}

impl Exit {
    pub(super) fn new(threads: u16) -> io::Result<Self> {
        let (consumer, notifier) = new_event_consumer_and_notifier(EventFlag::CLOEXEC | EventFlag::NONBLOCK)?;
        let free = (0..threads).map(|_| Ok((consumer.try_clone()?, notifier.try_clone()?)));
        let handles = Handles {
            free: free.collect::<io::Result<_>>()?,
            lent: Vec::new(),
        };
        Ok(Self {
            notifier,
            handles: Mutex::new(handles),
        })
    }

    /// A thread's handle; `None` where there are no more threads.
    pub(super) fn lend(&self) -> Option<(EventConsumer, EventNotifier)> {
        let mut handles = self.handles.lock();
        let handle = handles.free.pop()?;
        handles.lent.push(handle.0.as_raw_fd());
        Some(handle)
    }

    /// Ends all threads, those also that have yet to begin.
    pub(super) fn notify(&self) {
        // It fails only where the event has come very often.
        let _ = self.notifier.notify();
    }
}

/// The threads have ended: each of them has kept this alive.
impl Drop for Exit {
    fn drop(&mut self) {
        for consumer in self.handles.get_mut().lent.drain(..) {
            let _ = close(consumer);
        }
    }
}
