//! The audit log: looked through, taken out, and its links followed.
//!
//! Entries are numbered in the order of their commits, which is that of their times but for what
//! was decided at the same moment. A question about a time is narrowed down by number first.

use super::{App, AppError, audit, require, views::Event};
use crate::{
    access::Permission,
    clock::Time,
    domain::{AuditEvent, Category, Principal},
    store::{AUDIT, StoreError},
};
use std::time::Duration;

/// Entries read at a time.
const PAGE: usize = 500;
/// One question looks at so many entries at most; the next one goes on from there.
const BUDGET: usize = 50_000;
/// Entries stand in the order of their times to within this: clocks are set, decisions overlap.
const DISORDER: Duration = Duration::from_secs(600);
/// The longest time that one export may span.
const LONGEST_EXPORT: Duration = Duration::from_secs(90 * 86_400);

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this part of the product.
    pub category: Option<Category>,
    /// Not before this moment.
    pub since: Option<Time>,
    /// Not after this moment.
    pub until: Option<Time>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Done to this kind of thing.
    pub resource_type: Option<String>,
    /// Done to this thing.
    pub resource_id: Option<String>,
}

/// A page of events, newest first.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// How many there are on all pages; `None` where the log is too long to say.
    pub total: Option<u64>,
    /// Events below this number come next, where there may be more.
    pub next: Option<u64>,
}

/// What is to be exported, as entries of the log.
#[derive(Debug, Clone)]
pub struct EventExport {
    filter: EventFilter,
    /// The last number that was given.
    last: u64,
    /// Up to this number.
    upto: u64,
    /// So many more events.
    left: usize,
}

/// What following the links of the log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chained {
    /// All of so many entries follow from one another.
    Whole(u64),
    /// The first entry that does not.
    BrokenAt(u64),
}

impl EventFilter {
    fn has(&self, event: &AuditEvent) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        self.category
            .is_none_or(|category| category == event.category)
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at <= until)
            && is(&self.actor, &event.actor)
            && is(&self.action, &event.action)
            && is(&self.resource_type, &event.resource_type)
            && is(&self.resource_id, &event.resource_id)
    }
}

impl App {
    /// A page of events, newest first: `limit` of them after the first `skip`, of those numbered
    /// below `before`.
    pub async fn list_events(
        &self,
        who: &Principal,
        filter: &EventFilter,
        before: u64,
        skip: usize,
        limit: usize,
    ) -> Result<EventPage, AppError> {
        require(who, Permission::AuditRead)?;
        if let (Some(since), Some(until)) = (filter.since, filter.until)
            && until < since
        {
            let message = format!("it lies before `since`, {since}");
            return Err(AppError::invalid("until", message));
        }
        let newest = self.newest_event().await?;
        let until = before.min(newest + 1);
        if *filter == EventFilter::default() {
            let first = until.saturating_sub(skip as u64);
            let events = self.events(who, first, limit).await?;
            let next = events.last().map(|e| e.number).filter(|n| *n > 1);
            return Ok(EventPage {
                events,
                total: Some(newest),
                next,
            });
        }
        let (from, below) = self.stretch(filter, newest).await?;
        let (mut events, mut total, mut looked_at) = (Vec::new(), 0, 0);
        let (mut before, mut next) = (until.min(below), None);
        while before > from {
            if looked_at >= BUDGET {
                next = Some(before);
                break;
            }
            let page = self.events(who, before, PAGE).await?;
            looked_at += page.len();
            before = page.last().map_or(from, |event| event.number);
            for event in page {
                if event.number < from || !filter.has(&event.event) {
                    continue;
                }
                total += 1;
                if total > skip as u64 && events.len() < limit {
                    events.push(event);
                }
            }
        }
        // Where all were counted, the page's last event tells where the next one begins.
        let whole = next.is_none() && until > newest;
        let more = total > (skip + events.len()) as u64;
        let last = events.last().map(|e: &Event| e.number);
        Ok(EventPage {
            total: whole.then_some(total),
            next: last.filter(|_| more).or(next),
            events,
        })
    }

    /// One event.
    pub async fn event(&self, who: &Principal, number: u64) -> Result<Event, AppError> {
        let mut found = self.events(who, number.saturating_add(1), 1).await?;
        let found = found.pop().filter(|event| event.number == number);
        found.ok_or_else(|| AppError::not_found("event", format!("audit-{number}")))
    }

    /// Begins to take events of a time out of the log, oldest first; that is an event too.
    pub async fn export_events(
        &self,
        who: &Principal,
        (from, to): (Time, Time),
        category: Option<Category>,
        limit: usize,
    ) -> Result<EventExport, AppError> {
        require(who, Permission::AuditExport)?;
        if to <= from {
            return Err(AppError::invalid(
                "to",
                format!("it lies not after `from`, {from}"),
            ));
        }
        if to.since(from) > LONGEST_EXPORT {
            return Err(AppError::invalid("to", "90 days after `from` at most"));
        }
        let filter = EventFilter {
            category,
            since: Some(from),
            until: Some(to),
            ..EventFilter::default()
        };
        let (first, below) = self.stretch(&filter, self.newest_event().await?).await?;
        self.decide(|mut unit| async move {
            let resource = ("audit", "log");
            let event =
                AuditEvent::new(who, Category::Config, "audit.export", resource, self.now())
                    .with("from", from)
                    .with("to", to)
                    .with("limit", limit);
            audit(&mut unit, &event);
            Ok((unit, ()))
        })
        .await?;
        Ok(EventExport {
            filter,
            last: first - 1,
            upto: below - 1,
            left: limit,
        })
    }

    /// The next events of an export; none at its end.
    pub async fn exported_events(&self, export: &mut EventExport) -> Result<Vec<Event>, AppError> {
        let mut events = Vec::new();
        while events.is_empty() && export.left > 0 && export.last < export.upto {
            let upto = export.upto.min(export.last + PAGE as u64);
            let size = usize::try_from(upto - export.last).unwrap_or(PAGE);
            let mut page = self.entries(upto + 1, size).await?;
            page.reverse();
            page.retain(|event| export.filter.has(&event.event));
            page.truncate(export.left);
            export.left -= page.len();
            export.last = upto;
            events = page;
        }
        Ok(events)
    }

    /// Follows the links of the log from end to end.
    pub async fn verify_events(&self, who: &Principal) -> Result<Chained, AppError> {
        require(who, Permission::AuditExport)?;
        match self.store.verify_stream(AUDIT).await {
            Ok(entries) => Ok(Chained::Whole(entries)),
            Err(StoreError::BrokenChain { number, .. }) => {
                tracing::error!(number, "the audit log was changed: its links do not hold");
                Ok(Chained::BrokenAt(number))
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn newest_event(&self) -> Result<u64, AppError> {
        let newest = self.entries(u64::MAX, 1).await?;
        Ok(newest.first().map_or(0, |event| event.number))
    }

    /// From which number on, and below which, all events of a filter's time are.
    async fn stretch(&self, filter: &EventFilter, newest: u64) -> Result<(u64, u64), AppError> {
        let from = match filter.since {
            Some(since) => self.first_from(since.minus(DISORDER), newest).await?,
            None => 1,
        };
        let below = match filter.until {
            Some(until) => self.first_from(until.plus(DISORDER), newest).await?,
            None => newest + 1,
        };
        Ok((from, below.max(from)))
    }

    /// The number of the first entry that is not before `time`.
    async fn first_from(&self, time: Time, newest: u64) -> Result<u64, AppError> {
        let (mut low, mut high) = (1, newest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entries(middle + 1, 1).await?;
            match entry.first() {
                Some(entry) if entry.event.at < time => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}
