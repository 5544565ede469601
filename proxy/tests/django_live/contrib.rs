//! The tests of the Django application `contrib/django`, on each Django.

use std::process::Command;

use crate::venv::djangos;

const APPLICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/django");

#[test]
fn the_application_for_django_passes_its_tests() {
    for django in djangos() {
        let mut command = Command::new(&django.python);
        command.args(["-B", "-m", "django", "test", "--settings=tests.settings"]);
        let output = command.current_dir(APPLICATION).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Django {}: {said}", django.version);
    }
}
