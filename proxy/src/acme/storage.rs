//! The folder of an account and its certificates. Only the proxy may read it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A folder within that of the settings, for one directory. So certificates of a test authority are never taken for those of
/// another authority.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    folder: PathBuf,
}

impl Storage {
    /// The folder for the directory with this URL.
    pub(super) fn of(folder: &Path, directory: &str) -> Self {
        let name = directory.trim_start_matches("https://");
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "_");
        Self { folder: folder.join(name) }
    }

    /// Reads a file; `None` if there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.in_folder(&error)),
        }
    }

    /// Writes a file as a whole, or leaves the old one.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (file, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let written = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            // A file that was left behind may have another mode.
            let _ = fs::remove_file(&new);
            let mut writer = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            writer.write_all(bytes)?;
            writer.sync_all()?;
            fs::rename(&new, &file)?;
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(|error| self.in_folder(&error))
    }

    /// Whether files can be written.
    pub(super) fn check(&self) -> io::Result<()> {
        const PROBE: &str = "probe";
        self.write(PROBE, b"")?;
        self.remove(PROBE);
        Ok(())
    }

    /// Removes a file, if there is one.
    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.folder.join(name));
    }

    fn in_folder(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_for_the_proxy_alone_and_each_directory_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let of = |url| Storage::of(&folder.path().join("acme"), url);
        let storage = of("https://a.example/directory");
        assert_eq!(storage.read("x").unwrap(), None);
        for text in ["first", "2"] {
            storage.write("x", text.as_bytes()).unwrap();
            assert_eq!(storage.read("x").unwrap().unwrap(), text.as_bytes());
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&storage.folder), mode(&storage.folder.join("x"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&storage.folder).unwrap().count(), 1);
        assert_eq!(of("https://b.example/../directory").read("x").unwrap(), None);
        storage.remove("x");
        assert_eq!(storage.read("x").unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = Storage::of(file.path(), "https://a/b").write("x", b"1").unwrap_err().to_string();
        assert!(said.contains(&file.path().display().to_string()), "{said}");
    }
}
