//! What a look at a whole installation finds.

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// All is as it should be.
    Ok,
    /// Worth knowing.
    Notice,
    /// Something will go wrong unless somebody acts.
    Warning,
    /// Something is wrong.
    Error,
}

impl Grade {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is.
    pub grade: Grade,
    /// Which check found it, a word.
    pub check: &'static str,
    /// What it concerns: a file, a certificate, an agent.
    pub subject: String,
    /// What is so.
    pub what: String,
    /// What mends it; empty where nothing is to be mended.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            grade: Grade::Ok,
            check,
            subject: String::new(),
            what: what.into(),
            remedy: String::new(),
        }
    }

    /// Something of this grade.
    pub fn new(
        grade: Grade,
        check: &'static str,
        subject: impl ToString,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            grade,
            check,
            subject: subject.to_string(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// Something worth knowing.
    pub fn notice(
        check: &'static str,
        subject: impl ToString,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Grade::Notice, check, subject, what, remedy)
    }

    /// Something that will go wrong.
    pub fn warning(
        check: &'static str,
        subject: impl ToString,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Grade::Warning, check, subject, what, remedy)
    }

    /// Something that is wrong.
    pub fn error(
        check: &'static str,
        subject: impl ToString,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Grade::Error, check, subject, what, remedy)
    }
}

/// The gravest of findings.
pub fn gravest<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Grade {
    let grades = findings.into_iter().map(|finding| finding.grade);
    grades.max().unwrap_or(Grade::Ok)
}
