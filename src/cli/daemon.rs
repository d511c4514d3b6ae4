//! The program that serves a drive: how it leaves the terminal, what signals do to it, how it ends.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use tracing::{error, info, warn};

use super::exporter::Exporter;
use super::mounts;
use super::outcome::{Failure, Outcome, print};
use super::plan::Plan;
use crate::clock::SystemClock;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Compress, Dedup, Sealer, Volume};
use crate::grid::Grid;
use crate::image::Images;
use crate::serve::control::{DRIVE_NAMESPACE, DeviceNumber, Served, Server, Service};
use crate::serve::fuse::{Detach, Session, unmount};
use crate::vfs::Vfs;

/// Serve a drive whose plan is on stdin; started by `okapi mount`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    mountpoint: PathBuf,
}

/// Starts a program of its own for the drive; returns its announcement when the drive answers.
///
/// The new program is this one, run afresh: a process with threads cannot be forked safely. Its stdin carries the
/// plan and its stdout, which it closes when it is ready, the announcement.
pub(super) fn start(plan: &Plan, mountpoint: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source: io::Error| {
        Error::new(
            ErrorKind::NoMemory,
            "cannot start the program that serves the drive",
        )
        .with_source(source)
    };
    let mut child = std::env::current_exe()
        .and_then(|program| {
            Command::new(program)
                // The file may have the name of the helper of mount(8), which takes other arguments.
                .arg0("okapi")
                .arg("daemon")
                .arg(mountpoint)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        })
        .map_err(failed)?;
    let mut announcement = Vec::new();
    if let Some(stdin) = child.stdin.take() {
        // A child that has ended already tells why by itself.
        let _ = serde_json::to_writer(stdin, plan);
    }
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut announcement).map_err(failed)?;
    }
    if !announcement.is_empty() {
        return Ok(announcement);
    }
    let status = child.wait().map_err(failed)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(code) if code != 0 => Err(Failure::Reported(code)),
        _ => Err(Failure::failed(
            ErrorKind::Corrupt,
            format!("the program that serves the drive ended with {status}"),
        )),
    }
}

/// Serves as the program that [`start`] starts.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let plan = serde_json::from_reader(io::stdin().lock()).map_err(|error| {
        Failure::Usage(format!(
            "stdin has no plan of a drive: {error}\nhint: use `okapi mount`"
        ))
    })?;
    let leave = || -> io::Result<()> {
        setsid()?;
        std::env::set_current_dir("/")
    };
    leave().map_err(|source| {
        Error::new(ErrorKind::NotPermitted, "cannot leave the terminal").with_source(source)
    })?;
    serve(&plan, &arguments.mountpoint, |announcement| {
        print(announcement)?;
        silence()
            .map_err(|source| Error::new(ErrorKind::NotFound, "cannot use /dev/null").with_source(source))?;
        Ok(())
    })
}

/// Makes the drive, mounts it, calls `ready` with an announcement, and serves until the drive is unmounted.
pub(super) fn serve(plan: &Plan, mountpoint: &Path, ready: impl FnOnce(String) -> Outcome) -> Outcome {
    // Before any thread starts, so that all of them leave signals to the one that waits for them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals
        .thread_block()
        .map_err(|source| Error::new(ErrorKind::NotPermitted, "cannot block signals").with_source(source))?;

    let grid = Grid::new(plan.grid())?;
    let namespace = grid.create_namespace(DRIVE_NAMESPACE, None)?;
    let volume = Volume::new(&grid, namespace, Arc::new(SystemClock), plan.volume())?;
    let _sealer = match (plan.dedup(), plan.compress()) {
        (Dedup::Off, Compress::Off) => None,
        _ => Some(Sealer::start(&volume)?),
    };
    let session = Session::mount(&(Arc::clone(&volume) as Arc<dyn Vfs>), &plan.mount(mountpoint))?;

    let (summary, transport) = (plan.summary(), session.running().clone());
    let attended = attend(&session, (grid, volume), plan, signals).and_then(|attended| {
        let (place, pid) = (mountpoint.display(), std::process::id());
        let transport = transport.name();
        ready(format!("okapi: {place}: {summary}, {transport}, pid {pid}\n"))?;
        Ok(attended)
    });
    match attended {
        Ok((_server, device)) => session.join().map_err(|error| {
            // What is served no more must not stay in the tree as a dead mount.
            let _ = unmount_own(mountpoint, device);
            error.into()
        }),
        Err(failure) => {
            let _ = unmount(mountpoint, Detach::Lazy);
            Err(failure)
        }
    }
}

/// Opens the control socket, waits for signals, and sees that the mount answers.
fn attend(
    session: &Session,
    drive: (Arc<Grid>, Arc<Volume>),
    plan: &Plan,
    signals: SigSet,
) -> Result<(Server, DeviceNumber), Failure> {
    let mountpoint = session.mountpoint().to_owned();
    let mount = mounts::on(&mountpoint)?.ok_or_else(|| {
        let context = format!("{} was unmounted at once", mountpoint.display());
        Failure::failed(ErrorKind::NotFound, context)
    })?;
    std::fs::metadata(&mountpoint).map_err(|source| {
        let context = format!("the mount on {} does not answer", mountpoint.display());
        Error::new(ErrorKind::Corrupt, context).with_source(source)
    })?;
    let (counters, caches) = (session.counters(), Arc::new(session.caches()));
    let (grid, volume) = drive;
    let told = Arc::clone(&caches);
    volume.on_outdated(move |outdated| told.forget(outdated));
    let images = Images::new(
        Arc::clone(&volume) as Arc<dyn Vfs>,
        plan.read_only(),
        move |outdated| caches.forget(outdated),
    );
    let exporter = Exporter {
        images: Arc::clone(&images),
        device: mount.device,
    };
    let service = Service::new(
        Served { grid, volume, images },
        session.running().to_string(),
        move || counters.snapshot(),
        move |wanted| exporter.start(wanted),
    );
    let server = Server::start(mount.device, service)?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || unmount_on_signals(&signals, &mountpoint, mount.device))
        .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))?;
    Ok((server, mount.device))
}

/// Unmounts at each signal; the session ends when that has succeeded and nobody uses the drive any more.
fn unmount_on_signals(signals: &SigSet, mountpoint: &Path, device: DeviceNumber) {
    while let Ok(signal) = signals.wait() {
        info!("{signal}: unmounting {}", mountpoint.display());
        if let Err(error) = unmount_own(mountpoint, device) {
            error!("{error}");
        }
    }
}

fn unmount_own(mountpoint: &Path, device: DeviceNumber) -> Result<()> {
    let place = mountpoint.display();
    match mounts::on(mountpoint)? {
        Some(mount) if mount.device == device => {}
        Some(_) => {
            let context = format!("{place} is covered by another mount\nhint: unmount that first");
            return Err(Error::new(ErrorKind::Busy, context));
        }
        None => return Ok(()),
    }
    match unmount(mountpoint, Detach::WhenIdle) {
        Err(error) if error.kind() == ErrorKind::Busy => {
            warn!("{place} is in use: it is out of the tree now, and ends when its users let go");
            unmount(mountpoint, Detach::Lazy)
        }
        result => result,
    }
}

/// Lets go of the terminal, and of the pipe that the parent reads to its end.
fn silence() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}
