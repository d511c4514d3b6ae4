//! The threads that serve a mount, and how they end.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// Threads that serve until the filesystem is unmounted.
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    end: mpsc::Sender<io::Result<()>>,
    /// How each thread ended.
    ends: mpsc::Receiver<io::Result<()>>,
}

impl Threads {
    pub(super) fn new() -> Self {
        let (end, ends) = mpsc::channel();
        Self {
            handles: Vec::new(),
            end,
            ends,
        }
    }

    /// Starts one more.
    ///
    /// # Errors
    /// Where the system has no more threads.
    pub(super) fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let end = self.end.clone();
        let handle = thread::Builder::new().name(name).spawn(move || {
            let ended = panic::catch_unwind(AssertUnwindSafe(body));
            let ended = ended.unwrap_or_else(|_| Err(io::Error::other("a serving thread panicked")));
            // Nobody listens where the mount has failed.
            let _ = end.send(ended);
        })?;
        self.handles.push(handle);
        Ok(())
    }

    /// Waits until all have ended, and nothing is left of them.
    ///
    /// # Errors
    /// That of the first thread that fails, at once: a request may wait for ever then, and ends with the process alone.
    pub(super) fn join(self) -> io::Result<()> {
        self.ends
            .iter()
            .take(self.handles.len())
            .collect::<io::Result<()>>()?;
        for handle in self.handles {
            // Panics have been told already.
            let _ = handle.join();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_while_others_go_on() {
        let (stop, stopped) = mpsc::channel::<()>();
        let mut threads = Threads::new();
        threads.spawn("well".into(), || Ok(())).unwrap();
        threads
            .spawn("goes-on".into(), move || {
                let _ = stopped.recv();
                Ok(())
            })
            .unwrap();
        threads
            .spawn("fails".into(), || Err(io::ErrorKind::InvalidData.into()))
            .unwrap();
        assert_eq!(threads.join().unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(stop);
    }

    #[test]
    fn all_are_waited_for() {
        let mut threads = Threads::new();
        let (tell, told) = mpsc::channel();
        for number in 0..3 {
            let tell = tell.clone();
            let body = move || tell.send(number).map_err(io::Error::other);
            threads.spawn(format!("thread-{number}"), body).unwrap();
        }
        threads.join().unwrap();
        assert_eq!(told.try_iter().count(), 3);
    }
}
