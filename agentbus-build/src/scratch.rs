//! A directory of `.proto` files for tests.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::{Builder, Contract, Error};

pub(crate) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// Writes `files` to a new directory, which goes when the value does.
    pub(crate) fn with<const N: usize>(files: [(&str, &str); N]) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        fs::create_dir(dir.path().join("out")).expect("a directory can be made");
        let scratch = Self { dir };
        for (name, source) in files {
            let path = scratch.path(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, source).expect("a file can be written");
        }
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("proto").join(name)
    }

    pub(crate) fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn contract(&self, files: &[&str]) -> Result<Contract, Error> {
        Contract::from_protos(files.iter().map(|name| self.path(name)), [self.path("")])
    }

    /// Returns a builder that writes beside the sources.
    pub(crate) fn builder(&self) -> Builder {
        let out = self.dir.path().join("out");
        Builder::new().includes([self.path("")]).out_dir(out).emit_rerun_if_changed(false)
    }

    /// Returns what a builder wrote.
    pub(crate) fn written(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join("out").join(name)).expect("it was written")
    }

    /// Returns the text of the problems found, a line each, with paths relative to the sources.
    pub(crate) fn problems(&self, files: &[&str]) -> String {
        let error = self.contract(files).expect_err("something is wrong");
        error.to_string().replace(&self.shown(""), "")
    }
}
