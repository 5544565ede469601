//! The figures of the process, as Prometheus's own libraries report them, if the system provides them.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::text::Text;

/// Writes the figures of a process that started then.
pub(super) fn process(started: SystemTime, text: &mut Text) {
    text.gauge("process_start_time_seconds", "When the process started.", unix(started));
    let [stat, status, limits] = ["stat", "status", "limits"]
        .map(|file| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
    if let Some(seconds) = cpu_seconds(&stat) {
        text.counter("process_cpu_seconds_total", "CPU time, of the user and the system.", seconds);
    }
    for (name, help, field) in [
        ("process_resident_memory_bytes", "Memory that is resident.", "VmRSS:"),
        ("process_virtual_memory_bytes", "Memory that is mapped.", "VmSize:"),
    ] {
        if let Some(bytes) = bytes(&status, field) {
            text.gauge(name, help, bytes);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Files that are open.", files.count());
    }
    if let Some(files) = open_files(&limits) {
        text.gauge("process_max_fds", "Files that may be open.", files);
    }
}

/// Seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The CPU time in proc(5): the 14th and 15th field. The second field, in parentheses, may hold blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    /// USER_HZ, the same on every Linux.
    const TICKS: f64 = 100.0;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// A field of `status`, which is in kibibytes.
fn bytes(status: &str, field: &str) -> Option<u64> {
    let kibibytes = status.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"))?;
    Some(kibibytes.trim().parse::<u64>().ok()? * 1024)
}

/// The soft limit of open files in `limits`.
fn open_files(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_cpu_is_found_behind_any_name_of_the_program() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn memory_and_files_are_read() {
        assert_eq!(bytes("VmSize:\t  10 kB\nVmRSS:\t   3 kB\n", "VmRSS:"), Some(3 * 1024));
        assert_eq!(
            open_files("Max open files            1024                 4096                 files"),
            Some(1024)
        );
        assert_eq!((bytes("", "VmRSS:"), open_files("")), (None, None));
    }
}
