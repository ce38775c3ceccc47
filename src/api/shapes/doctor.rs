//! What the doctor is asked and says.

use crate::{
    app::doctor::{DoctorState, Report},
    domain::{Finding, finding},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How to look.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Look)]
pub struct LookShape {
    /// Leave out what takes long: reading every row and the whole audit log.
    #[serde(default)]
    pub quick: bool,
}

/// One thing that was found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingShape {
    /// `ok`, `notice`, `warning` or `error`.
    pub severity: String,
    /// Which check found it.
    pub check: String,
    /// What it concerns; may be empty.
    pub subject: String,
    /// What is so.
    pub what: String,
    /// What mends it; empty where nothing is to be mended.
    pub remedy: String,
}

impl From<Finding> for FindingShape {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.grade.as_str().to_owned(),
            check: finding.check.to_owned(),
            subject: finding.subject,
            what: finding.what,
            remedy: finding.remedy,
        }
    }
}

/// All that was found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = DoctorReport)]
pub struct ReportShape {
    /// The gravest: `ok`, `notice`, `warning` or `error`.
    pub severity: String,
    /// When the look began.
    #[schema(format = DateTime)]
    pub began_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended_at: String,
    /// Without what takes long.
    pub quick: bool,
    /// What was found, in the order of the checks.
    pub findings: Vec<FindingShape>,
}

impl From<Report> for ReportShape {
    fn from(report: Report) -> Self {
        Self {
            severity: finding::gravest(&report.findings).as_str().to_owned(),
            began_at: report.began.to_string(),
            ended_at: report.ended.to_string(),
            quick: report.quick,
            findings: report.findings.into_iter().map(Into::into).collect(),
        }
    }
}

/// How the doctor stands.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DoctorState)]
pub struct DoctorStateShape {
    /// It looks.
    pub running: bool,
    /// So many rows were read.
    pub done: u64,
    /// What it found last, since the server was started.
    pub report: Option<ReportShape>,
}

impl From<DoctorState> for DoctorStateShape {
    fn from(state: DoctorState) -> Self {
        Self {
            running: state.running.is_some(),
            done: state.running.unwrap_or(0),
            report: state.last.map(Into::into),
        }
    }
}
