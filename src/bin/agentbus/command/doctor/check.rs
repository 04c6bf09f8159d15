//! One check, and what came of it.

use std::fmt;

use serde::Serialize;

use crate::output::printable;

/// A check that was made, or could not be.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    check: String,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What came of a check.
#[derive(Debug, Serialize)]
#[serde(tag = "status", content = "detail")]
pub(super) enum Verdict {
    /// Nothing is wrong.
    #[serde(rename = "ok")]
    Ok(String),
    /// Something is, or soon will be.
    #[serde(rename = "warning")]
    Warning(String),
    /// Nobody can tell, and why.
    #[serde(rename = "cannot be checked")]
    CannotBeChecked(String),
}

impl Verdict {
    pub(super) fn ok(detail: impl Into<String>) -> Self {
        Self::Ok(detail.into())
    }

    pub(super) fn warning(detail: impl Into<String>) -> Self {
        Self::Warning(detail.into())
    }

    pub(super) fn cannot(why: impl Into<String>) -> Self {
        Self::CannotBeChecked(why.into())
    }
}

impl Check {
    pub(super) fn new(check: impl Into<String>, verdict: Verdict) -> Self {
        Self { check: check.into(), verdict }
    }

    pub(super) fn is_warning(&self) -> bool {
        matches!(self.verdict, Verdict::Warning(_))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, detail) = match &self.verdict {
            Verdict::Ok(detail) => ("ok", detail),
            Verdict::Warning(detail) => ("warning", detail),
            Verdict::CannotBeChecked(why) => ("cannot be checked", why),
        };
        write!(f, "{}: {status}: {}", printable(&self.check), printable(detail))
    }
}
