//! Which backups may go.

use super::sink::Stored;
use crate::clock::Time;
use std::collections::BTreeSet;

/// How many backups are kept: the last of each of so many days, weeks and months that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Days.
    pub daily: usize,
    /// Weeks, which begin on Monday.
    pub weekly: usize,
    /// Months.
    pub monthly: usize,
}

const DAY: i64 = 86_400;
/// Increments whose base is not to be seen stay for so many seconds.
const BASELESS: i64 = 7 * DAY;

/// The backups of a sink that are kept no longer, looked at for each store that has some there.
/// Neither the newest full one of each life of the store (a restore begins another) ever goes nor
/// the newest that was proven, each with the increments that follow it. Those that were proven are
/// counted by themselves, so that no others take their places; the others go as they would if all
/// were like them. An increment goes with the backup that it follows, but none that follows the newest
/// proven one: others between them may not come back. What is only called as a backup is counts for
/// nothing, and is left.
pub fn expired(all: &[Stored], keep: Keep) -> Vec<&Stored> {
    let counted = || all.iter().filter(|stored| stored.counts());
    let stores: BTreeSet<&str> = counted().map(|stored| stored.store.as_str()).collect();
    let of = |store| counted().filter(move |s: &&Stored| s.store == store);
    let gone = stores.into_iter().flat_map(|store| {
        let own: Vec<&Stored> = of(store).collect();
        expired_of_one(&own, keep)
    });
    gone.collect()
}

fn expired_of_one<'a>(all: &[&'a Stored], keep: Keep) -> Vec<&'a Stored> {
    let full = all.iter().copied().filter(|s| !s.increment);
    let mut newest_first: Vec<&Stored> = full.collect();
    newest_first.sort_by_key(|stored| std::cmp::Reverse((stored.created_at, stored.seq)));
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    // A restore begins another life; the newest of the one before may be what it should have taken.
    let mut lives = BTreeSet::new();
    let newest = newest_first.iter().filter(|s| lives.insert(s.seq >> 40));
    kept.extend(newest.map(|s| s.name.as_str()));
    // One that was restored is better known than one that was read.
    let proven = |restored: bool| {
        let mut proven = newest_first.iter();
        proven.find(|s| s.proven.as_ref().is_some_and(|p| p.restored >= restored))
    };
    kept.extend(proven(true).map(|s| s.name.as_str()));
    kept.extend(proven(false).map(|s| s.name.as_str()));
    type Period = (usize, fn(Time) -> i64);
    let periods: [Period; 3] = [
        (keep.daily, |at| at.seconds().div_euclid(DAY)),
        // The epoch was a Thursday.
        (keep.weekly, |at| {
            (at.seconds() + 3 * DAY).div_euclid(7 * DAY)
        }),
        (keep.monthly, month),
    ];
    for (n, period) in periods {
        let (mut all, mut proven) = (BTreeSet::new(), BTreeSet::new());
        for stored in &newest_first {
            let period = period(stored.created_at);
            let last = all.len() < n && all.insert(period);
            let last_proven = stored.proven.is_some() && proven.len() < n && proven.insert(period);
            if last || last_proven {
                kept.insert(&stored.name);
            }
        }
    }
    let is_kept = |stored: &Stored| kept.contains(stored.name.as_str());
    let full_of_life = |increment: &Stored| {
        let life = increment.seq >> 40;
        let full = newest_first.iter().copied();
        full.filter(move |s| s.seq >> 40 == life)
    };
    // Where that is not there, it is elsewhere, and it is not for this to say.
    let has_lost_base = |increment: &Stored| {
        let mut full = full_of_life(increment);
        let base = full.find(|s| s.seq <= increment.seq && s.created_at <= increment.created_at);
        base.is_some_and(|base| !is_kept(base))
    };
    let follows_proven = |increment: &Stored| {
        let full = full_of_life(increment).filter(|s| is_kept(s));
        let mut proven = full.filter_map(|s| Some((s, s.proven.as_ref()?.restored)));
        let restored = proven.clone().find(|(_, restored)| *restored);
        let newest = restored.or_else(|| proven.next());
        newest.is_some_and(|(newest, _)| newest.seq <= increment.seq)
    };
    let goes = |stored: &&Stored| match stored.increment {
        true => has_lost_base(stored) && !follows_proven(stored),
        false => !is_kept(stored),
    };
    all.iter().copied().filter(goes).collect()
}

/// The increments of a journal that a new backup holds all of: of the same life of the same store. One
/// whose base is not beside the new backup stays for a week: the disk of the others may be away, and
/// the new one with it once that is back.
pub fn covered<'a>(journal: &'a [Stored], new: &Stored, beside: &[Stored]) -> Vec<&'a Stored> {
    let of_life = |stored: &&Stored| {
        let same_life = stored.seq >> 40 == new.seq >> 40;
        stored.counts() && same_life && stored.is_beside(new)
    };
    let bases = || beside.iter().filter(of_life).filter(|s| !s.increment);
    let has_base = |increment: &Stored| {
        let before = |base: &Stored| base.seq < new.seq && base.seq <= increment.seq;
        bases().any(before)
    };
    let is_old = |increment: &Stored| {
        let age = new.created_at.seconds() - increment.created_at.seconds();
        age >= BASELESS
    };
    let increments = journal.iter().filter(of_life).filter(|s| s.increment);
    let covered = increments.filter(|s| s.seq <= new.seq && (has_base(s) || is_old(s)));
    covered.collect()
}

/// Months since the epoch.
fn month(at: Time) -> i64 {
    match jiff::Timestamp::from_second(at.seconds()) {
        Ok(at) => {
            let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
            i64::from(date.year()) * 12 + i64::from(date.month())
        }
        Err(_) => 0,
    }
}
