//! Tests the measuring commands as their user sees them.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn an_experiment_measures_the_whole_article() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("run.json");
    let mut experiment =
        bench(&["experiment", "--quick", "--properties", "2000", "--indexes", "none,optimized"]);
    experiment.args(["--seconds", "1", "--fail-on-error", "--out"]).arg(&json);
    let output = output(&mut experiment);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.starts_with("A quick experiment on 2,000 rows, indexes none; 2,000 rows, indexes optimized.")
    );
    assert!(said.contains("It will take about 0 min "), "{said}");
    assert!(said.contains("A cache hit takes "), "{said}");

    let run: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let queries = |single: &&Value| single["site"] == "cachepage" && single["tables"]["indexes"] == "none";
    let singles: Vec<_> = run["singles"].as_array().unwrap().iter().filter(queries).collect();
    let counted: Vec<_> = singles.iter().map(|single| single["queries"].as_u64().unwrap()).collect();
    assert_eq!(counted, [62, 2, 62, 0]);
    let median = |single: &Value| single["series"]["summary"]["median_ms"].as_f64().unwrap();
    assert!(median(singles[3]) < median(singles[0]), "{singles:?}");
    let scans: Vec<_> = run["plans"].as_array().unwrap().iter().map(|plan| plan["scan"].clone()).collect();
    assert_eq!(scans, ["Seq Scan", "Index Scan"]);
    let warm = &run["bombardments"][2]["series"];
    assert_eq!((&warm["name"], &warm["summary"]["hits"]), (&"cached, warm".into(), &50.into()));
    let seen = run["redis"]["monitor"].as_array().unwrap();
    let commands = ["\"GET\"", "\"SETEX\"", "\"GET\""];
    assert_eq!(seen.len(), commands.len(), "{seen:?}");
    assert!(seen.iter().zip(commands).all(|(line, command)| line.as_str().unwrap().contains(command)));

    let limits = run["limits"].as_array().unwrap().iter().map(|limit| limit["name"].clone());
    let asked_for = [
        "prepared answer, one head",
        "cached page, one head",
        "prepared answer, 30,000 heads",
        "cached page, 30,000 heads",
        "40 cached pages, 30,000 heads",
    ];
    assert!(limits.clone().eq(asked_for), "{:?}", limits.collect::<Vec<_>>());
    let pages = run["freshness"].as_array().unwrap();
    assert_eq!(pages.len(), 2);
    for page in pages {
        // The queries of the changes are not counted.
        let queries = page["queries"].as_u64().unwrap();
        assert!(queries > 0 && queries.is_multiple_of(62), "{page:#}");
        let answers = page["age_us"].as_array().unwrap().len();
        assert!(page["summary"]["requests"] == answers && page["changes"] == 7, "{page:#}");
    }

    let html = std::fs::read_to_string(json.with_extension("html")).unwrap();
    assert_eq!(html.matches("<figure>").count(), 10);
}

#[test]
fn mixed_users_end_with_what_was_measured_so_far() {
    let (site, asked) = serve_one_page();
    let mut mixed = bench(&["mixed", &site, "--duration", "600", "--fail-on-error"]).spawn().unwrap();
    asked.recv().unwrap();
    asked.recv().unwrap();
    // The first page was read; its user now pauses before the next request.
    kill_process(Pid::from_child(&mixed), Signal::INT).unwrap();
    let mut said = String::new();
    mixed.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(mixed.wait().unwrap().code(), Some(0), "{said}");
    let line = said.lines().find(|line| line.starts_with("cached ")).unwrap_or_else(|| panic!("{said}"));
    assert_ne!(line.split_whitespace().nth(1), Some("0"), "{said}");
}

#[test]
fn failures_are_reported_by_kind_and_set_the_exit_status_with_fail_on_error() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = format!("http://{closed}");
    let mixed = ["mixed", &site, "--users", "1", "--duration", "1"];
    let bombard = ["bombard", &site, "-n", "3"];
    for (command, told) in
        [(&mixed[..], "x connection refused"), (&bombard, "3 of 3 failed: 3 x connection refused")]
    {
        let lenient = output(&mut bench(command));
        assert_eq!(lenient.status.code(), Some(0), "{lenient:?}");
        assert!(String::from_utf8_lossy(&lenient.stdout).contains(told), "{lenient:?}");
        let strict = output(bench(command).arg("--fail-on-error"));
        assert_eq!(strict.status.code(), Some(1), "{strict:?}");
    }
}

#[test]
fn the_docs_show_the_committed_run() {
    let docs = std::fs::read_to_string(project("docs/laboratory.md")).unwrap();
    let shown = measured(&docs);
    let run = project("docs/measurements/experiment.json");
    let report = |flag: &str| {
        let output = output(bench(&["report"]).arg(&run).arg(flag));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        shown,
        report("--markdown"),
        "regenerate it: bench report docs/measurements/experiment.json --markdown"
    );
    let readme = std::fs::read_to_string(project("README.md")).unwrap();
    let mut facts = measured(&readme).lines().filter(|line| line.starts_with("* ")).peekable();
    assert!(facts.peek().is_some());
    assert!(
        facts.all(|fact| shown.lines().any(|line| line == fact)),
        "README.md: take the facts from docs/laboratory.md"
    );
    let chart = std::fs::read_to_string(project("docs/measurements/users.svg")).unwrap();
    assert!(chart == report("--svg"), "regenerate it: bench report docs/measurements/experiment.json --svg");
}

/// What a page shows of the committed run.
fn measured(page: &str) -> &str {
    let (_, rest) = page.split_once("<!-- measured:begin -->\n").expect("a block of what was measured");
    rest.split_once("<!-- measured:end -->").expect("its end").0
}

#[test]
fn a_run_of_an_older_version_has_a_report_unless_its_fields_mean_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read(project("docs/measurements/experiment.json")).unwrap();
    let mut run: Value = serde_json::from_slice(&text).unwrap();
    let fields = run.as_object_mut().unwrap();
    for newer in ["freshness", "limits", "redis"] {
        fields.remove(newer);
    }
    let old = folder.path().join("old.json");
    std::fs::write(&old, run.to_string()).unwrap();
    let made = output(bench(&["report"]).arg(&old));
    assert!(made.status.success(), "{made:?}");
    run["format"] = 0.into();
    std::fs::write(&old, run.to_string()).unwrap();
    let refused = output(bench(&["report"]).arg(&old));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("was written by another version"),
        "{refused:?}"
    );
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let run = project("docs/measurements/experiment.json");
    let output = output(bench(&["diff"]).arg(&run).arg(&run));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.lines().count() > 20, "{said}");
    assert!(said.lines().all(|line| line.ends_with("same")), "{said}");
}

#[test]
fn an_experiment_that_cannot_be_saved_does_not_start() {
    let output = output(&mut bench(&["experiment", "--out", "/dev/null/run.json"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot write /dev/null/run.json"),
        "{output:?}"
    );
}

#[test]
fn a_file_that_is_not_a_run_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{}").unwrap();
    for (path, told) in
        [(broken.as_path(), "is no run of the laboratory"), (Path::new("/nowhere.json"), "cannot read")]
    {
        let output = output(bench(&["report"]).arg(path));
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{output:?}");
    }
}

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("DATABASE_URL").env_remove("REDIS_URL");
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("bench is built")
}

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A server that answers every request with a page, and reports each request before it answers.
fn serve_one_page() -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let site = format!("http://{}", listener.local_addr().expect("its address"));
    let (asked, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let asked = asked.clone();
            std::thread::spawn(move || answer(stream, || asked.send(()).is_ok()));
        }
    });
    (site, told)
}

fn answer(mut stream: TcpStream, mut go_on: impl FnMut() -> bool) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|length| length > 0) && go_on() {
        let answered = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage");
        if answered.is_err() {
            return;
        }
    }
}
