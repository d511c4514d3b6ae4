//! Virtual machines that boot from images: QEMU without hardware acceleration, and a small Linux (`scripts/guest`).

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a machine may be silent before it counts as stuck. No test depends on its speed: it takes seconds.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the guest's own lines begin with.
const MARK: &str = "okapi-guest: ";

/// What `scripts/guest` has made.
#[derive(Debug, Clone)]
pub struct Parts {
    directory: PathBuf,
}

impl Parts {
    /// Finds it in the directory where `scripts/setup` has it made.
    ///
    /// # Panics
    /// Where it is missing.
    pub fn find() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest");
        assert!(
            directory.join("made").exists(),
            "there is no guest in {}: run scripts/setup",
            directory.display()
        );
        Self { directory }
    }

    /// The disk that guests are cloned from: ext4, 64 MiB.
    pub fn base(&self) -> PathBuf {
        self.directory.join("base.img")
    }
}

/// What is burned into a guest's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Address in a /24.
    pub ip: String,
    /// Name server.
    pub dns: String,
    /// Host name.
    pub host: String,
}

impl Identity {
    /// The line that a guest with this identity prints when it has taken its address.
    pub fn announcement(&self) -> String {
        let Self { ip, dns, host } = self;
        format!("ip={ip} dns={dns} host={host} eth0={ip}/24")
    }
}

/// By what a guest gets its disk.
#[derive(Debug, Clone)]
pub enum Transport {
    /// A file, past the page cache, with QEMU's io_uring.
    File(PathBuf),
    /// An NBD address.
    Nbd(String),
    /// A vhost-user socket.
    VhostUser(PathBuf),
}

/// A running virtual machine; it is killed with this.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    output: PipeReader,
    /// All that QEMU and the console have printed.
    console: String,
    /// Where [`Guest::next_line`] goes on.
    seen: usize,
}

impl Guest {
    /// Boots from a disk, with more arguments for the guest's kernel: `okapi.trim` has it write 8 MiB, wait for
    /// [`Guest::proceed`], and trim.
    ///
    /// # Panics
    /// Where QEMU cannot be started.
    pub fn boot(parts: &Parts, disk: &Transport, arguments: &str) -> Self {
        // The kernel's check of its timers fails where a busy host stops the machine for long.
        let (output, console) = io::pipe().expect("pipes can be made");
        let both = console.try_clone().expect("pipes can be shared");
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-M", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max"])
            .args(["-m", "128M", "-smp", "1"])
            .args(["-object", "memory-backend-memfd,id=ram,size=128M,share=on"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-netdev", "user,id=n0,restrict=on"])
            .args(["-device", "virtio-net-pci,netdev=n0,romfile="])
            .args(disk.options())
            .arg("-kernel")
            .arg(parts.directory.join("vmlinuz"))
            .arg("-initrd")
            .arg(parts.directory.join("initrd.img"))
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check {arguments}"
            ))
            .stdin(Stdio::piped())
            .stdout(console)
            .stderr(both)
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-system-x86_64: {error}; run scripts/setup"));
        let input = qemu.stdin.take().expect("its input is a pipe");
        Self {
            qemu,
            input,
            output,
            console: String::new(),
            seen: 0,
        }
    }

    /// The next line of the guest's own, without the mark; what the kernel prints is passed over.
    ///
    /// # Panics
    /// Where the machine ends or is stuck before, with all that it printed.
    pub fn next_line(&mut self) -> String {
        loop {
            let rest = &self.console[self.seen..];
            if let Some(end) = rest.find('\n') {
                let line = rest[..end].trim_end_matches('\r');
                let own = line.find(MARK).map(|at| line[at + MARK.len()..].to_owned());
                self.seen += end + 1;
                match own {
                    Some(line) => return line,
                    None => continue,
                }
            }
            assert!(self.read_more(), "the machine has ended\n{}", self.console);
        }
    }

    /// Presses the return key.
    ///
    /// # Panics
    /// Where the machine has ended.
    pub fn proceed(&mut self) {
        self.input.write_all(b"\n").expect("the machine runs");
    }

    /// Waits until it has powered itself off.
    ///
    /// # Panics
    /// Where it is stuck before, or QEMU fails, with all that it printed.
    pub fn wait(mut self) {
        while self.read_more() {}
        let status = self.qemu.wait().expect("a child can be waited for");
        assert!(status.success(), "QEMU: {status}\n{}", self.console);
    }

    /// `false` at the end.
    fn read_more(&mut self) -> bool {
        let mut ready = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).expect("minutes fit a timeout");
        let count = poll(&mut ready, timeout).expect("a pipe can be polled");
        assert!(count > 0, "the machine is stuck\n{}", self.console);
        let mut bytes = [0; 4096];
        let len = self.output.read(&mut bytes).expect("a pipe can be read");
        self.console.push_str(&String::from_utf8_lossy(&bytes[..len]));
        len > 0
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Transport {
    fn options(&self) -> Vec<String> {
        let block = |node: String| {
            vec![
                "-blockdev".into(),
                format!("{node},node-name=d0,discard=unmap"),
                "-device".into(),
                "virtio-blk-pci,drive=d0".into(),
            ]
        };
        match self {
            Self::File(path) => block(format!(
                "driver=file,filename={},cache.direct=on,aio=io_uring",
                path.display()
            )),
            Self::Nbd(uri) => block(format!("driver=nbd,{}", nbd_options(uri))),
            Self::VhostUser(socket) => vec![
                "-chardev".into(),
                format!("socket,id=c0,path={},reconnect-ms=100", socket.display()),
                "-device".into(),
                "vhost-user-blk-pci,chardev=c0".into(),
            ],
        }
    }
}

/// `nbd+unix:///NAME?socket=PATH` as QEMU's options have it.
fn nbd_options(uri: &str) -> String {
    let rest = uri
        .strip_prefix("nbd+unix:///")
        .expect("the export is on a UNIX socket");
    let (name, path) = rest.split_once("?socket=").expect("the address has a socket");
    format!("server.type=unix,server.path={path},export={name}")
}
