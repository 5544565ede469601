//! What holds for whatever clients send. `fuzz/` looks for bytes that break it, and the test here replays what it has kept.

use crate::http1::scan::{Heads, Refusal};
use crate::limits::ClientLimits;

const LIMITS: ClientLimits =
    ClientLimits { request_line: 64, head: 512, headers: 8, connections: 1, connections_per_address: 0 };

/// Heads end, or are refused, in the same way however their bytes come; and what counts as one head is one request. The
/// first byte says how many come together.
pub fn heads(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    assert_eq!(taken(bytes, usize::from(size).max(1)), taken(bytes, bytes.len().max(1)));
}

fn taken(bytes: &[u8], size: usize) -> Result<(u64, bool), Refusal> {
    let mut heads = Heads::new(LIMITS);
    bytes.chunks(size).try_for_each(|piece| heads.take(piece)).map_err(|(_, refusal)| refusal)?;
    Ok((heads.ended(), heads.is_within()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_fuzzing_has_kept_breaks_nothing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/heads");
        let files = fs::read_dir(folder).unwrap();
        assert!(files.map(|file| super::heads(&fs::read(file.unwrap().path()).unwrap())).count() > 0);
    }
}
