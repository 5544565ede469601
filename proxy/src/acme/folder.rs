//! The folder of an account and its certificates. Only the proxy may read it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A folder within that of the settings, for one directory. So certificates of a test authority are never taken for those of
/// another authority.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder for the directory with this name.
    pub(super) fn of(folder: &Path, directory: &str) -> Self {
        Self { path: folder.join(directory) }
    }

    /// Reads a file; `None` if there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.in_folder(&error)),
        }
    }

    /// Writes a file as a whole, or leaves the old one.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (file, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let written = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            // A file that was left behind may have another mode.
            let _ = fs::remove_file(&new);
            let mut writer = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            writer.write_all(bytes)?;
            writer.sync_all()?;
            fs::rename(&new, &file)?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|error| self.in_folder(&error))
    }

    /// Removes a file, if there is one.
    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    fn in_folder(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_for_the_proxy_alone_and_each_directory_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name| Folder::of(&folder.path().join("acme"), name);
        let storage = of("a.example_directory");
        assert_eq!(storage.read("x").unwrap(), None);
        for text in ["first", "2"] {
            storage.write("x", text.as_bytes()).unwrap();
            assert_eq!(storage.read("x").unwrap().unwrap(), text.as_bytes());
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&storage.path), mode(&storage.path.join("x"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&storage.path).unwrap().count(), 1);
        assert_eq!(of("b.example_.._directory").read("x").unwrap(), None);
        storage.remove("x");
        assert_eq!(storage.read("x").unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = Folder::of(file.path(), "a_b").write("x", b"1").unwrap_err().to_string();
        assert!(said.contains(&file.path().display().to_string()), "{said}");
    }
}
