//! Measures real Django with the same pages, if Python has it.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{Experiment, Tables};
use crate::laboratory::{LabError, Server};
use crate::load;
use crate::run::Site;
use crate::site::{NAIVE, OPTIMIZED};

/// The article's site, included in the program, so that bench needs no file at run time.
const SITE: &str = include_str!("../../django_site.py");

/// Imports the packages that the site needs, and prints the version of Django.
const PROBE: &str = "import django, rest_framework, psycopg, redis; print(django.__version__)";

/// The packages that the site needs, for pip.
const PACKAGES: &str = r#""Django>=5.2" djangorestframework "psycopg[binary]" redis"#;

/// A Python that has Django.
#[derive(Debug)]
pub(super) struct Django {
    python: PathBuf,
    pub(super) version: String,
}

impl Django {
    /// Finds a Python with Django. A Python that the user named must have it. Otherwise python3 or python is used if it has
    /// Django.
    pub(super) async fn find(asked_for: Option<&Path>) -> Result<Option<Self>, LabError> {
        if let Some(python) = asked_for {
            let found = Self::probe(python).await;
            let missing = || LabError::NoDjango { python: python.to_owned(), packages: PACKAGES };
            return found.map(Some).ok_or_else(missing);
        }
        for name in ["python3", "python"] {
            if let Some(found) = Self::probe(name.as_ref()).await {
                return Ok(Some(found));
            }
        }
        println!("Real Django is left out: there is no Python that has it (pip install {PACKAGES}).");
        Ok(None)
    }

    async fn probe(python: &Path) -> Option<Self> {
        let output = Command::new(python).args(["-c", PROBE]).kill_on_drop(true).output().await.ok()?;
        let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then(|| Self { python: python.to_owned(), version })
    }

    async fn serve(&self, database_url: &str, redis_url: &str) -> Result<Server, LabError> {
        Server::start("django", 0, &self.python, |python, _| {
            Ok(python.args(["-c", SITE]).env("DATABASE_URL", database_url).env("REDIS_URL", redis_url))
        })
        .await
    }
}

impl Experiment {
    /// Measures single requests, in the same way as for the proxy.
    pub(super) async fn django(&mut self, tables: Tables) -> Result<(), LabError> {
        let Some(django) = &self.django else { return Ok(()) };
        self.progress.step(&format!("{tables}: single requests to real Django {}", django.version));
        let laboratory = &self.laboratory;
        let server = django.serve(laboratory.database.url(), &laboratory.pages.url()).await?;
        let target = |path: &str| format!("http://127.0.0.1:{}{path}", server.port).parse();
        // The first requests are slower, and are not measured.
        for path in [NAIVE.path, OPTIMIZED.path] {
            load::one(&target(path)?).await;
        }
        let singles = self.singles(Site::Django, tables, &target).await?;
        self.run.singles.extend(singles);
        Ok(())
    }
}
