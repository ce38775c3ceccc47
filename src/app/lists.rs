//! Lists of certificates: which, in what order, from where on.

use super::{App, AppError, require, views::Counts};
use crate::{
    access::Permission,
    clock::Time,
    domain::{Certificate, EXPIRING_WITHIN, Principal, Status},
    store::{
        CERT_AGENT, CERT_COMMON_NAME, CERT_CONDITION, CERT_CREATED, CERT_ENVIRONMENT, CERT_EXPIRY,
        CERT_ISSUER, CERT_NAME, CERT_OWNER, CERT_POLICY, CERT_PROFILE, CERT_TAG, CERT_TEAM,
        CERT_UPDATED, Condition, Cursor, DEPLOYMENT_RETRY, Document, Facet, Index, Key, List,
        Listed, NEVER, OBSERVATION_WRONG, day_key, expiry_hour_key, expiry_key,
    },
};

/// The most rows that are reached by passing over those before; cursors reach all.
pub const REACH: usize = 10_000;

/// What certificates are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// When they were made.
    Created,
    /// When they were last edited.
    Updated,
    /// Their names.
    Name,
    /// Their common names.
    CommonName,
    /// Their environments.
    Environment,
    /// When the version ends that ends first; certificates without a version come last.
    Expiry,
}

/// Which certificates to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFilter {
    /// Those of which this is true. A predicate, not the status shown: a certificate that expires
    /// soon and whose last attempt failed is found by either.
    pub status: Option<Status>,
    /// Those of an environment.
    pub environment: Option<String>,
    /// Those of an owner.
    pub owner_id: Option<String>,
    /// Those of a team.
    pub team_id: Option<String>,
    /// Those of an issuer.
    pub issuer_id: Option<String>,
    /// Those of a profile.
    pub profile_id: Option<String>,
    /// Those with each of these labels: a name, and a value where one is given.
    pub tags: Vec<(String, Option<String>)>,
    /// Those of a renewal policy.
    pub policy_id: Option<String>,
    /// Those with a key on an agent.
    pub agent_id: Option<String>,
    /// Those in force whose version ends before.
    pub expires_before: Option<Time>,
    /// Those in force whose version ends after.
    pub expires_after: Option<Time>,
    /// Those made after.
    pub created_after: Option<Time>,
    /// Those last edited after.
    pub updated_after: Option<Time>,
}

/// A page of certificates to be.
#[derive(Debug, Clone)]
pub struct CertificateList {
    /// Which.
    pub filter: CertificateFilter,
    /// In what order.
    pub order: Order,
    /// The last of the order first.
    pub backward: bool,
    /// The cursor of the page before.
    pub cursor: Option<String>,
    /// So many rows are passed over, [`REACH`] at most.
    pub skip: usize,
    /// Rows in a page.
    pub limit: usize,
}

/// A page of certificates.
pub struct CertificatePage {
    /// The rows, and the total where it is known.
    pub listed: Listed<Certificate>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl App {
    /// A page of certificates.
    pub async fn list_certificates(
        &self,
        who: &Principal,
        list: &CertificateList,
    ) -> Result<CertificatePage, AppError> {
        require(who, Permission::CertRead)?;
        let question = format!("{:?} {:?} {}", list.filter, list.order, list.backward);
        let page = List {
            order: list.order.index(),
            backward: list.backward,
            facets: list.filter.facets(self.now()),
            keep: None,
            after: None,
            skip: list.skip,
            limit: list.limit,
        };
        let (listed, next) = self.page(page, list.cursor.as_deref(), &question).await?;
        Ok(CertificatePage { listed, next })
    }

    /// A page of a list, from a cursor of the same `question` on, and the next page's cursor.
    pub(super) async fn page<T: Document>(
        &self,
        list: List<'_, T>,
        cursor: Option<&str>,
        question: &str,
    ) -> Result<(Listed<T>, Option<String>), AppError> {
        let after = cursor.map(|text| Cursor::from_text(text, question));
        let after = after
            .transpose()
            .map_err(|e| AppError::invalid("cursor", e))?;
        let (skip, far, limit) = (list.skip as u64, list.skip > REACH, list.limit);
        let mut listed = self
            .store
            .list(List {
                after,
                skip: if far { 0 } else { list.skip },
                ..list
            })
            .await?;
        if far {
            if listed.total.is_none_or(|total| total > skip) {
                return Err(AppError::invalid(
                    "page",
                    format!("pages reach {REACH} rows: follow next_cursor beyond them"),
                ));
            }
            (listed.rows, listed.next) = (Vec::new(), None);
        }
        // The walk has a budget, and one that did not get this far says nothing of this page.
        if skip > 0 && listed.next.is_some() && listed.rows.len() < limit {
            return Err(AppError::invalid(
                "page",
                "so many rows are passed over for this filter that pages have no numbers: follow \
                 next_cursor from the first one",
            ));
        }
        let next = listed.next.as_ref().map(|next| next.to_text(question));
        Ok((listed, next))
    }

    /// How many certificates there are, and how many the filters by status find.
    pub async fn count_certificates(&self, who: &Principal) -> Result<Counts, AppError> {
        require(who, Permission::CertRead)?;
        self.certificate_counts().await
    }

    /// As [`count_certificates`](Self::count_certificates), for whoever may see numbers alone.
    pub(super) async fn certificate_counts(&self) -> Result<Counts, AppError> {
        let now = self.now();
        let mut by_status = Vec::with_capacity(Status::ALL.len());
        for status in Status::ALL {
            by_status.push((status, self.store.count(&with_status(status, now)).await?));
        }
        let failed = Facet::any(DEPLOYMENT_RETRY);
        Ok(Counts {
            total: self.store.count(&Facet::any(CERT_NAME)).await?,
            by_status,
            failed_deployments: self.store.count(&failed).await?,
            changed: self.store.count(&Facet::any(OBSERVATION_WRONG)).await?,
        })
    }
}

impl Order {
    fn index(self) -> Index {
        match self {
            Self::Created => CERT_CREATED,
            Self::Updated => CERT_UPDATED,
            Self::Name => CERT_NAME,
            Self::CommonName => CERT_COMMON_NAME,
            Self::Environment => CERT_ENVIRONMENT,
            Self::Expiry => CERT_EXPIRY,
        }
    }
}

impl CertificateFilter {
    fn facets(&self, now: Time) -> Vec<Facet> {
        let texts = [
            (CERT_ENVIRONMENT, &self.environment),
            (CERT_OWNER, &self.owner_id),
            (CERT_TEAM, &self.team_id),
            (CERT_ISSUER, &self.issuer_id),
            (CERT_PROFILE, &self.profile_id),
            (CERT_POLICY, &self.policy_id),
            (CERT_AGENT, &self.agent_id),
        ];
        let texts = texts.into_iter().filter_map(|(index, text)| {
            let text = text.as_deref()?;
            Some(Facet::is(index, Key::new().text(text)))
        });
        let tags = self.tags.iter().map(|(name, value)| {
            let name = Key::new().text(name);
            let key = match value {
                Some(value) => name.text(value),
                None => name,
            };
            Facet::is(CERT_TAG, key)
        });
        let status = self.status.map(|status| with_status(status, now));
        let ends = (self.expires_before.is_some() || self.expires_after.is_some()).then(|| {
            let from = self
                .expires_after
                .map_or(Time::from_micros(i64::MIN), Time::next);
            let below = self.expires_before.unwrap_or(NEVER);
            Facet::between(
                CERT_EXPIRY,
                expiry_key(false, from),
                expiry_key(false, below.max(from)),
            )
        });
        let since = |index, after: Option<Time>| {
            let from = after.map(Time::next)?;
            Some(Facet::between(index, day_key(from), day_key(NEVER)))
        };
        let times = [
            ends,
            since(CERT_CREATED, self.created_after),
            since(CERT_UPDATED, self.updated_after),
        ];
        status
            .into_iter()
            .chain(texts)
            .chain(tags)
            .chain(times.into_iter().flatten())
            .collect()
    }
}

/// The certificates of which a status is true at `now`: the one definition for lists, counts and
/// metrics.
fn with_status(status: Status, now: Time) -> Facet {
    let condition = |condition: Condition| {
        let key = Key::new().text(condition.as_str());
        Facet::is(CERT_CONDITION, key)
    };
    // Ends after one moment and up to another, that one included.
    let ends = |after: Option<Time>, upto: Time| {
        let from = after.map_or(Time::from_micros(i64::MIN), Time::next);
        Facet::between(
            CERT_EXPIRY,
            expiry_key(false, from),
            expiry_key(false, upto.next()),
        )
    };
    let soon = now.plus(EXPIRING_WITHIN);
    match status {
        Status::Archived => condition(Condition::Archived),
        Status::Revoked => condition(Condition::Revoked),
        Status::RenewalInProgress => condition(Condition::InFlight),
        Status::Failed => condition(Condition::Failing),
        Status::Expired => ends(None, now),
        Status::Expiring => ends(Some(now), soon),
        Status::Active => Facet::between(
            CERT_EXPIRY,
            expiry_key(false, soon.next()),
            expiry_key(false, NEVER),
        ),
        // No version ends in the last hour of all.
        Status::Pending => Facet::is(CERT_EXPIRY, expiry_hour_key(false, NEVER)),
    }
}
