//! The program, on a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::process::Command;

use stack::Postgres;

/// Runs the program on a database, and returns what it says.
fn seed(url: &str, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seed"));
    let output = command.args(["--database-url", url]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn rows_that_are_there_stay_with_if_empty_and_are_replaced_without() {
    let postgres = Postgres::shared();
    let url = postgres.database("if_empty").unwrap();
    let count = || postgres.psql(&url, "SELECT count(*) FROM housing_property").unwrap();
    assert!(seed(&url, &["--if-empty", "--properties", "30"]).contains(" 30 properties, "));
    let said = seed(&url, &["--if-empty", "--properties", "50"]);
    assert!(said.contains("housing_property has 30 rows; nothing was changed (--if-empty)"), "{said}");
    assert_eq!(count(), "30");
    assert!(seed(&url, &["--properties", "50"]).contains(" 50 properties, "));
    assert_eq!(count(), "50");
    // Rows of any table are rows.
    postgres.psql(&url, "TRUNCATE housing_property").unwrap();
    let said = seed(&url, &["--if-empty"]);
    assert!(said.contains("housing_property has 0 rows; nothing was changed"), "{said}");
    postgres.psql(&url, "TRUNCATE housing_office CASCADE; TRUNCATE housing_location CASCADE").unwrap();
    assert!(seed(&url, &["--if-empty", "--properties", "10"]).contains(" 10 properties, "));
}
