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

#[test]
fn statements_that_change_a_table_notify_its_tag() {
    let postgres = Postgres::shared();
    let url = postgres.database("follow").unwrap();
    // psql prints what is notified to its own session after the statement, or the transaction, that causes it.
    let notified = |sql: &str| -> Vec<String> {
        let said = postgres.psql(&url, &format!("LISTEN cachepage;\n{sql};\nSELECT 1")).unwrap();
        let payloads = said.lines().filter_map(|line| line.split_once(" with payload \""));
        payloads.map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned()).collect()
    };
    assert!(seed(&url, &["--properties", "30"]).contains("indexes none; "));
    assert!(notified("UPDATE housing_property SET price = 1").is_empty());
    let said = seed(&url, &["--follow", "--if-empty"]);
    assert!(said.contains("only the triggers are new (--if-empty)"), "{said}");
    let location = "housing_location (city, state, zip_code)";
    for (sql, tags) in [
        ("UPDATE housing_property SET price = 2", &["housing.property"][..]),
        (
            "INSERT INTO housing_location (city, state, zip_code) VALUES ('a', 'b', 'c')",
            &["housing.location"],
        ),
        ("DELETE FROM housing_property WHERE id = 1", &["housing.property"]),
        ("TRUNCATE housing_property", &["housing.property"]),
        (&format!("COPY {location} FROM PROGRAM 'printf \"a\\tb\\tc\\n\"'"), &["housing.location"]),
        (
            "BEGIN;\nUPDATE housing_office SET city = 'a';\nUPDATE housing_agent SET name = 'b';\nUPDATE housing_office SET city = 'c';\nCOMMIT",
            &["housing.office", "housing.agent"],
        ),
        ("BEGIN;\nUPDATE housing_office SET city = 'a';\nROLLBACK", &[]),
        ("SELECT * FROM housing_office", &[]),
    ] {
        assert_eq!(notified(sql), tags, "{sql}");
    }
    // Another load keeps the triggers, and creates them once.
    seed(&url, &["--properties", "10"]);
    assert!(seed(&url, &["--follow", "--properties", "10"]).contains("changes are notified"));
    assert_eq!(notified("UPDATE housing_property SET price = 3"), ["housing.property"]);
}
