//! Real Django beside it, where Python has it.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{Experiment, Tables};
use crate::laboratory::{LabError, Server};
use crate::load;
use crate::run::Site;
use crate::site::{NAIVE, OPTIMIZED};

/// The article's site: it needs no file of its own.
const SITE: &str = include_str!("../../django_site.py");

/// What it needs; says which Django that is.
const PROBE: &str = "import django, rest_framework, psycopg, redis; print(django.__version__)";

/// What Python must have.
const PACKAGES: &str = r#""Django>=5.2" djangorestframework "psycopg[binary]" redis"#;

/// A Python that has Django.
#[derive(Debug)]
pub(super) struct Django {
    python: PathBuf,
    pub(super) version: String,
}

impl Django {
    /// The one that is asked for must be there; else what is there is taken, or nothing.
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
        Server::start("django", 0, &self.python, |python| {
            python.args(["-c", SITE]).env("DATABASE_URL", database_url).env("REDIS_URL", redis_url)
        })
        .await
    }
}

impl Experiment {
    /// Single requests, as of the proxy.
    pub(super) async fn django(&mut self, tables: Tables) -> Result<(), LabError> {
        let Some(django) = &self.django else { return Ok(()) };
        self.progress.step(&format!("{tables}: single requests to real Django {}", django.version));
        let laboratory = &self.laboratory;
        let server = django.serve(laboratory.database.url(), &laboratory.pages.url()).await?;
        let target = |path: &str| format!("http://127.0.0.1:{}{path}", server.port).parse();
        // What is slow the first time is not what is measured.
        for path in [NAIVE.path, OPTIMIZED.path] {
            load::one(&target(path)?).await;
        }
        let singles = self.singles(Site::Django, tables, &target).await?;
        self.run.singles.extend(singles);
        Ok(())
    }
}
