//! Tests the report in a browser, at the width of a desktop and of a phone.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Inspects the page after its layout, and passes the result to the page around it. The report itself has no script.
const LOOK: &str = r#"<script>
addEventListener("load", () => {
  const box = (element) => element.getBoundingClientRect();
  const figures = [...document.querySelectorAll("figure")].map((figure) => {
    const shown = [...figure.querySelectorAll("svg")].filter((svg) => box(svg).width > 0);
    const outer = shown.length ? box(shown[0]) : { width: 0, height: 0, left: 0, right: 0 };
    const texts = shown.flatMap((svg) => [...svg.querySelectorAll("text")]);
    const scale = shown.length ? outer.width / shown[0].viewBox.baseVal.width : 0;
    return {
      title: figure.querySelector("h2").textContent,
      shown: shown.length, width: outer.width, height: outer.height,
      drawn: shown.flatMap((svg) => [...svg.querySelectorAll(".line, .area, .bar")]).length,
      labels: texts.filter((text) => text.matches(".label")).length,
      smallest: Math.min(...texts.map((text) => parseFloat(getComputedStyle(text).fontSize) * scale)),
      outside: texts.filter((text) => box(text).left < outer.left - 1 || box(text).right > outer.right + 1)
        .map((text) => text.textContent),
    };
  });
  const page = document.documentElement;
  const seen = { inner: innerWidth, width: page.scrollWidth, height: page.scrollHeight, figures };
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"#;

/// Browsers do not open windows as narrow as a phone, so the report is shown in a frame.
const AROUND: &str = r#"<!DOCTYPE html><iframe src="looked-at.html" width="WIDTH" height="2000" frameborder="0"></iframe>
<script id="seen" type="application/json"></script>
<script>onmessage = (event) => { document.getElementById("seen").textContent = event.data; };</script>"#;

#[test]
fn every_chart_is_readable_on_a_desktop_and_a_phone() {
    let Some(chromium) = chromium() else {
        println!("Skipped: there is no Chromium to open the report.");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.html");
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/measurements/experiment.json");
    let made =
        Command::new(env!("CARGO_BIN_EXE_bench")).arg("report").arg(run).arg("--out").arg(&report).status();
    assert!(made.unwrap().success());
    let browser = Browser { chromium, folder };
    for width in [1400, 400] {
        let seen = browser.look_at(&report, width);
        assert_eq!(
            (&seen["inner"], &seen["width"]),
            (&width.into(), &width.into()),
            "it is wider than its window"
        );
        let figures = seen["figures"].as_array().unwrap();
        assert!(figures.len() >= 8, "{figures:#?}");
        for figure in figures {
            let number = |name: &str| figure[name].as_f64().unwrap();
            assert_eq!(figure["shown"], 1, "{width}: {figure}");
            assert!(number("width") > 300.0 && number("height") > 120.0, "{width}: {figure}");
            assert!(number("drawn") >= 1.0 && number("labels") >= 1.0, "{width}: {figure}");
            assert!(number("smallest") >= 10.0, "{width}: {figure}");
            assert_eq!(figure["outside"].as_array().unwrap().len(), 0, "{width}: {figure}");
        }
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{width}.png"));
        browser.picture(&report, width, seen["height"].as_u64().unwrap(), &picture);
        println!("{}", picture.display());
    }
}

struct Browser {
    chromium: PathBuf,
    folder: TempDir,
}

impl Browser {
    /// The result of inspecting the page at this width.
    fn look_at(&self, report: &Path, width: u64) -> Value {
        let html = std::fs::read_to_string(report).unwrap();
        let looked_at = html.replace("</body>", &format!("{LOOK}</body>"));
        std::fs::write(self.folder.path().join("looked-at.html"), looked_at).unwrap();
        let around = self.folder.path().join("around.html");
        std::fs::write(&around, AROUND.replace("WIDTH", &width.to_string())).unwrap();
        // Virtual time runs until the page has nothing left to do.
        let dom = self.run(&around, &["--dump-dom".to_owned(), "--virtual-time-budget=10000".to_owned()]);
        let (_, rest) = dom.split_once("id=\"seen\" type=\"application/json\">").expect("it was loaded");
        serde_json::from_str(rest.split_once("</script>").unwrap().0).expect("it was laid out")
    }

    fn picture(&self, report: &Path, width: u64, height: u64, file: &Path) {
        let screenshot = format!("--screenshot={}", file.display());
        self.run(report, &[format!("--window-size={width},{height}"), screenshot]);
        assert!(std::fs::metadata(file).unwrap().len() > 10_000);
    }

    /// Opens the page from disk; fails if the console has any output.
    fn run(&self, page: &Path, args: &[String]) -> String {
        let profile = tempfile::tempdir_in(self.folder.path()).unwrap();
        let output = Command::new(&self.chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--enable-logging=stderr", "--v=0", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(args)
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let console: Vec<_> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "{console:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}
