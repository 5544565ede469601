//! The rows of a seed are the same on any machine, on any day and with any version of the libraries.

use bytes::BytesMut;
use seed::Rows;
use seed::copy::write_row;
use sha2::{Digest as _, Sha256};

#[test]
fn the_rows_of_a_seed_have_the_recorded_digest() {
    let rows = Rows::new(42, 1_000);
    let mut text = BytesMut::new();
    rows.offices().for_each(|row| write_row(&row, &mut text));
    rows.agents().for_each(|row| write_row(&row, &mut text));
    rows.locations().for_each(|row| write_row(&row, &mut text));
    rows.properties().for_each(|row| write_row(&row, &mut text));
    let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "2efb6f3802cd36629e6a605c4e6041a0a767ed834324b04f065c85a07b6d66c4");
}
