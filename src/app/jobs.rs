//! Jobs, as people see them: lists, one of them, and the end of one that nobody wants.

use super::{App, AppError, audit, need, require, work::executor_key};
use crate::{
    access::Permission,
    domain::{
        AuditEvent, Category, Ending, Executor, Job, JobKind, JobState, Principal,
        job::{WIRE_STATUSES, WIRE_TYPES},
    },
    id::Id,
    store::{
        Facet, JOB_CERT, JOB_CREATED, JOB_EXECUTOR, JOB_STATUS, JOB_TARGET, JOB_TYPE, Key, List,
        Loaded,
    },
};
use std::collections::BTreeMap;

/// A job, and what it waits for.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The job.
    pub job: Job,
    /// What it waits for, a sentence; `None` of one that is being run or has ended.
    pub waits_for: Option<String>,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// A status on the wire.
    pub status: Option<&'static str>,
    /// A type on the wire.
    pub kind: Option<&'static str>,
    /// Those for a certificate.
    pub certificate: Option<Id>,
    /// Those that an agent runs.
    pub agent: Option<Id>,
    /// Those on a target.
    pub target: Option<Id>,
}

/// A page of jobs to be.
#[derive(Debug, Clone, Default)]
pub struct JobList {
    /// Which.
    pub filter: JobFilter,
    /// The cursor of the page before.
    pub cursor: Option<String>,
    /// So many rows are passed over, [`REACH`](super::lists::REACH) at most.
    pub skip: usize,
    /// Rows in a page.
    pub limit: usize,
}

/// A page of jobs.
pub struct JobPage {
    /// The rows.
    pub rows: Vec<JobView>,
    /// How many there are on all pages, where it is known.
    pub total: Option<u64>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl JobView {
    /// Of a deployment: `pending`, `success` or `failed`, as the last attempt says.
    pub fn verification(&self) -> Option<&'static str> {
        let JobKind::Deploy { .. } = self.job.kind else {
            return None;
        };
        let ending = self.job.last.as_ref().map(|attempt| attempt.ending);
        Some(match ending {
            Some(Ending::Changed | Ending::Unchanged) => "success",
            None if self.job.is_open() => "pending",
            _ => "failed",
        })
    }
}

impl JobFilter {
    /// The status of a word, whatever its case.
    ///
    /// # Errors
    /// The words there are.
    pub fn status_of(word: &str) -> Result<&'static str, AppError> {
        one_of("status", &WIRE_STATUSES, word)
    }

    /// The type of a word, whatever its case.
    ///
    /// # Errors
    /// The words there are.
    pub fn kind_of(word: &str) -> Result<&'static str, AppError> {
        one_of("type", &WIRE_TYPES, word)
    }

    fn facets(&self) -> Vec<Facet> {
        let text = |index, text: &str| Facet::is(index, Key::new().text(text));
        let id = |index, id: &Id| text(index, id.as_str());
        let mut facets = Vec::new();
        facets.extend(self.status.map(|status| text(JOB_STATUS, status)));
        facets.extend(self.kind.map(|kind| text(JOB_TYPE, kind)));
        facets.extend(self.certificate.as_ref().map(|c| id(JOB_CERT, c)));
        facets.extend(self.target.as_ref().map(|t| id(JOB_TARGET, t)));
        let executor = |agent| Facet::is(JOB_EXECUTOR, executor_key(agent));
        facets.extend(self.agent.as_ref().map(executor));
        facets
    }
}

fn one_of(
    field: &'static str,
    words: &[&'static str],
    word: &str,
) -> Result<&'static str, AppError> {
    let mut all = words.iter().copied();
    all.find(|w| w.eq_ignore_ascii_case(word)).ok_or_else(|| {
        let word: String = word.chars().take(64).collect();
        AppError::invalid(field, format!("{word:?} is none of {}", words.join(", ")))
    })
}

impl App {
    /// A page of jobs, newest first.
    pub async fn list_jobs(&self, who: &Principal, list: &JobList) -> Result<JobPage, AppError> {
        require(who, Permission::JobRead)?;
        let question = format!("jobs {:?}", list.filter);
        let page = List::<Job> {
            order: JOB_CREATED,
            backward: true,
            facets: list.filter.facets(),
            keep: None,
            after: None,
            skip: list.skip,
            limit: list.limit,
        };
        let (listed, next) = self.page(page, list.cursor.as_deref(), &question).await?;
        let jobs = listed.rows.into_iter().map(Loaded::into_value).collect();
        Ok(JobPage {
            rows: self.job_views(jobs).await?,
            total: listed.total,
            next,
        })
    }

    /// One job.
    pub async fn job(&self, who: &Principal, id: &Id) -> Result<JobView, AppError> {
        require(who, Permission::JobRead)?;
        let job = self.store.get::<Job>(id).await?;
        let job = job.ok_or_else(|| AppError::not_found("job", id))?;
        self.job_view(job.into_value()).await
    }

    /// Ends a job that nobody wants. One that is being run is stopped first: its agent undoes what
    /// it did and says so. What the job was for is tried again later, as after a failure.
    pub async fn cancel_job(&self, who: &Principal, id: &Id) -> Result<JobView, AppError> {
        require(who, Permission::JobCancel)?;
        let job = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut job: Loaded<Job> = need(&mut unit, "job", id).await?;
                if !job.is_open() {
                    return Err(AppError::Conflict(format!(
                        "job {id} has ended already: it is {}",
                        job.wire_status()
                    )));
                }
                if job.is_stopping() {
                    return Ok((unit, job.into_value()));
                }
                let why = format!("cancelled by {}", who.name);
                if job.cancel(why.clone(), now) {
                    self.job_over(&mut unit, who, &job, why, now).await?;
                }
                let resource = ("job", id.as_str());
                let event =
                    AuditEvent::new(who, Category::CertLifecycle, "job_cancelled", resource, now)
                        .with("type", job.kind.wire_type())
                        .with("state", job.wire_state());
                audit(&mut unit, &event);
                let shown = Job::clone(&job);
                unit.put(job);
                Ok((unit, shown))
            })
            .await?;
        let Executor::Agent(agent) = &job.executor;
        self.doorbell.ring(agent);
        self.job_view(job).await
    }

    pub(super) async fn job_view(&self, job: Job) -> Result<JobView, AppError> {
        let waits_for = self.waits_for(&job, &mut BTreeMap::new()).await?;
        Ok(JobView { job, waits_for })
    }

    pub(super) async fn job_views(&self, jobs: Vec<Job>) -> Result<Vec<JobView>, AppError> {
        let mut agents = BTreeMap::new();
        let mut views = Vec::with_capacity(jobs.len());
        for job in jobs {
            let waits_for = self.waits_for(&job, &mut agents).await?;
            views.push(JobView { job, waits_for });
        }
        Ok(views)
    }

    /// What a job waits for; `agents` are those that were looked at before.
    async fn waits_for(
        &self,
        job: &Job,
        agents: &mut BTreeMap<Id, String>,
    ) -> Result<Option<String>, AppError> {
        let now = self.now();
        if let JobState::Backoff { at } = job.state
            && at > now
        {
            return Ok(Some(format!("is tried again at {}", at.whole_seconds())));
        }
        if job.ready_at().is_none() {
            return Ok(None);
        }
        let Executor::Agent(agent) = &job.executor;
        if let Some(told) = agents.get(agent) {
            return Ok(Some(told.clone()));
        }
        let name = self.agent_name(agent).await?;
        let says = if self.is_online(agent).await? {
            format!("waits for agent {name}")
        } else {
            match self.last_heard(agent).await? {
                Some(at) => {
                    let at = at.whole_seconds();
                    format!("waits for agent {name}, which was last heard at {at}")
                }
                None => format!("waits for agent {name}, which was never heard"),
            }
        };
        agents.insert(agent.clone(), says.clone());
        Ok(Some(says))
    }
}
