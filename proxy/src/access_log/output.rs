//! The target of the lines: a file, a FIFO or a standard stream. No write waits long for a reader.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, OFlags, access};
use rustix::io::Errno;

use crate::config::LogTarget;

/// A pipe that has any room takes so many bytes at once (PIPE_BUF).
const ROOM: usize = 4096;

/// How long a write waits for room in a standard stream.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

#[derive(Debug)]
pub(super) struct Output {
    target: LogTarget,
    /// `None` while nobody reads the FIFO.
    file: Option<File>,
    /// The rest of a line whose beginning was written.
    torn: Vec<u8>,
    /// The length of the file after that beginning.
    torn_at: u64,
}

/// Lines that could not be written, and why.
#[derive(Debug)]
pub(super) struct DroppedLines {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Output {
    pub(super) fn open(target: LogTarget) -> io::Result<Self> {
        let file = match open(&target) {
            Ok(file) => Some(file),
            Err(error) if is_unread(&error) => None,
            Err(error) => return Err(unopened(&target, &error)),
        };
        Ok(Self { target, file, torn: Vec::new(), torn_at: 0 })
    }

    /// Opens the file anew. If that fails, the old one goes on.
    pub(super) fn reopen(&mut self) -> Result<(), DroppedLines> {
        match open(&self.target) {
            Ok(file) => self.file = Some(file),
            Err(error) => return Err(DroppedLines { lines: 0, error }),
        }
        match mem::take(&mut self.torn).len() {
            0 => Ok(()),
            _ => Err(DroppedLines {
                lines: 1,
                error: io::Error::other("a line was cut by the end of its file"),
            }),
        }
    }

    /// Whether only a part of a line is written.
    pub(super) fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }

    /// Writes whole lines. If only a part of a line can be written, the next call begins with its rest.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), DroppedLines> {
        let mut torn = mem::take(&mut self.torn);
        // If the file is shorter now, somebody has emptied it, and the beginning of the line is gone.
        let was_emptied = !torn.is_empty() && self.length() < self.torn_at;
        if was_emptied {
            torn.clear();
        }
        let joined = (!torn.is_empty()).then(|| [&torn, lines].concat());
        let text = joined.as_deref().unwrap_or(lines);
        let (written, result) = self.push(text);
        let error = match result {
            Ok(()) if was_emptied => {
                let error = io::Error::other("the file was emptied within a line");
                return Err(DroppedLines { lines: 1, error });
            }
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let is_within_line = match written {
            0 => !torn.is_empty(),
            _ => text[written - 1] != b'\n',
        };
        let mut lost = &text[written..];
        if error.kind() == ErrorKind::BrokenPipe {
            // The reader has left; another may open the FIFO.
            self.file = None;
        } else if is_within_line {
            let end = lost.iter().position(|&byte| byte == b'\n').map_or(lost.len(), |at| at + 1);
            (self.torn, self.torn_at) = (lost[..end].to_vec(), self.length());
            lost = &lost[end..];
        }
        let lost = lost.iter().filter(|&&byte| byte == b'\n').count() as u64;
        Err(DroppedLines { lines: lost + u64::from(was_emptied), error })
    }

    /// The length of the file; 0 if there is no file.
    fn length(&self) -> u64 {
        self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len())
    }

    /// Writes as many bytes as there is room for, and returns their number.
    fn push(&mut self, text: &[u8]) -> (usize, io::Result<()>) {
        let is_stream = !matches!(self.target, LogTarget::File(_));
        let file = match &mut self.file {
            Some(file) => file,
            none => match open(&self.target) {
                Ok(file) => none.insert(file),
                Err(error) => return (0, Err(error)),
            },
        };
        let mut written = 0;
        while written < text.len() {
            let rest = &text[written..];
            let wrote = match is_stream {
                true => await_room(file).and_then(|()| file.write(&rest[..rest.len().min(ROOM)])),
                false => file.write(rest),
            };
            match wrote {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

/// Whether the target can be opened, as far as this can be seen without making a file.
pub(super) fn check(target: &LogTarget) -> io::Result<()> {
    let LogTarget::File(path) = target else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let outcome = match path.metadata() {
        Err(_) => access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from),
        // Opening a FIFO here would show an end to its reader.
        Ok(metadata) if metadata.file_type().is_fifo() => {
            access(path, Access::WRITE_OK).map_err(io::Error::from)
        }
        Ok(_) => options().open(path).map(drop),
    };
    outcome.map_err(|error| unopened(target, &error))
}

fn unopened(target: &LogTarget, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{target} cannot be opened: {error}"))
}

fn open(target: &LogTarget) -> io::Result<File> {
    let copy = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map(File::from);
    match target {
        LogTarget::Stdout => copy(io::stdout().as_fd()),
        LogTarget::Stderr => copy(io::stderr().as_fd()),
        LogTarget::File(path) => open_file(path),
    }
}

/// Opens a file. It holds addresses of clients, so only the owner and the group may read it.
fn open_file(path: &Path) -> io::Result<File> {
    options().create(true).mode(0o640).open(path)
}

/// Opens for appending, without waiting for the reader of a FIFO.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    options
}

/// Whether a FIFO could not be opened because nobody reads it.
fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

/// Waits for room in a standard stream, for a second at most. Other processes share the stream, so it cannot be switched to
/// refuse instead of wait.
fn await_room(stream: &File) -> io::Result<()> {
    match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&PATIENCE))? {
        0 => Err(ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
