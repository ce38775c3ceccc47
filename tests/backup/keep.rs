//! Which backups go.

use certctl::{
    app::backup::{Doubt, Keep, Proven, Stored, covered, expired},
    clock::Time,
    store::backup::Header,
};
use std::collections::BTreeMap;

const DAY: i64 = 86_400;
/// 2026-11-28, a Saturday.
const TODAY: i64 = 1_795_824_000;

fn stored(days_ago: i64, since: Option<u64>) -> Stored {
    stored_of("", days_ago, since)
}

fn stored_of(store: &str, days_ago: i64, since: Option<u64>) -> Stored {
    let seq = u64::try_from(10_000 - days_ago).unwrap();
    let header = Header {
        format: 1,
        product: String::new(),
        created_at: Time::from_seconds(TODAY - days_ago * DAY + 3_600),
        store: store.to_owned(),
        seq,
        since,
        audit_entries: 7,
        audit_head: String::new(),
        formats: BTreeMap::new(),
        machine_key: None,
    };
    Stored::of(&header)
}

fn gone(all: &[Stored], daily: usize, weekly: usize, monthly: usize) -> Vec<String> {
    let keep = Keep {
        daily,
        weekly,
        monthly,
    };
    let gone = expired(all, keep);
    gone.into_iter().map(|s| s.name.clone()).collect()
}

fn kept(all: &[Stored], daily: usize, weekly: usize, monthly: usize) -> Vec<i64> {
    let gone = gone(all, daily, weekly, monthly);
    let kept = all.iter().filter(|s| !gone.contains(&s.name));
    kept.map(|s| (TODAY + 3_600 - s.created_at.seconds()) / DAY)
        .collect()
}

#[test]
fn names_say_what_a_backup_is() {
    for stored in [stored(0, None), stored(3, Some(4))] {
        assert_eq!(Stored::parse(&stored.name), Some(stored));
    }
    let name = stored(0, None).name;
    assert_eq!(name, "certctl-20261128T010000Z-10000-7.backup");
    let link = "3f9a0c1d27b4".repeat(5);
    let named = stored_of(&link, 0, None);
    assert_eq!(
        named.name,
        "certctl-20261128T010000Z-10000-7-3f9a0c1d27b4.backup"
    );
    assert_eq!(Stored::parse(&named.name), Some(named));
    for other in [
        "certctl-20261128T010000Z-10000-7-3f9a-0c1d27b4.backup",
        "certctl-20261128T010000Z-10000-7-../../etc.backup",
        "",
        "certctl-.backup",
        "x",
        &format!("{name}.proven"),
        &format!("a{name}"),
    ] {
        assert_eq!(Stored::parse(other), None, "{other}");
    }
}

#[test]
fn the_last_of_each_period_stays() {
    let all: Vec<_> = (0..100).rev().map(|days| stored(days, None)).collect();
    assert_eq!(kept(&all, 3, 0, 0), [2, 1, 0]);
    // Saturday itself, then Sundays.
    assert_eq!(kept(&all, 0, 3, 0), [13, 6, 0]);
    // 28 November; then the last days of October and September.
    assert_eq!(kept(&all, 0, 0, 3), [59, 28, 0]);
    assert_eq!(kept(&all, 2, 2, 2), [28, 6, 1, 0]);
    assert_eq!(kept(&all, 0, 0, 0), [0], "the newest");
    assert!(gone(&[], 0, 0, 0).is_empty());
}

#[test]
fn the_newest_that_was_proven_never_goes() {
    let mut all: Vec<_> = (0..20).rev().map(|days| stored(days, None)).collect();
    let prove = |stored: &mut Stored, restored| {
        let at = stored.created_at;
        stored.proven = Some(Proven { at, restored });
    };
    prove(&mut all[2], true);
    prove(&mut all[5], true);
    prove(&mut all[9], false);
    assert_eq!(kept(&all, 1, 0, 0), [14, 10, 0]);
}

#[test]
fn those_that_were_not_proven_go_and_push_out_none_that_was() {
    let mut all: Vec<_> = (0..20).rev().map(|days| stored(days, None)).collect();
    for stored in &mut all[..10] {
        let at = stored.created_at;
        stored.proven = Some(Proven { at, restored: true });
    }
    assert_eq!(kept(&all, 3, 0, 0), [12, 11, 10, 2, 1, 0]);
}

#[test]
fn what_is_only_called_a_backup_counts_for_nothing_and_is_left() {
    let mut all: Vec<_> = (0..9).rev().map(|days| stored(days, None)).collect();
    all[8].doubt = Some(Doubt::NoBackup);
    all[7].doubt = Some(Doubt::OfLater);
    assert_eq!(kept(&all, 2, 0, 0), [3, 2, 1, 0]);
}

#[test]
fn increments_go_with_their_base() {
    let all = [
        stored(20, None),
        stored(19, Some(9_980)),
        stored(18, Some(9_981)),
        stored(1, None),
        stored(0, Some(9_999)),
    ];
    assert_eq!(kept(&all, 1, 0, 0), [1, 0]);
    assert_eq!(
        kept(&all[1..3], 1, 0, 0),
        [19, 18],
        "their base is elsewhere"
    );
}

#[test]
fn increments_after_the_newest_proven_one_stay() {
    let mut all = vec![stored(31, None), stored(30, None)];
    for day in (0..30).rev() {
        let seq = u64::try_from(9_999 - day).unwrap();
        all.extend([stored(day, Some(seq)), stored(day, None)]);
    }
    // Kept as well, with what follows it: it was only read.
    let read = stored(10, None).name;
    for stored in &mut all {
        let restored = stored.seq == 9_970;
        if restored || stored.name == read {
            let at = stored.created_at;
            stored.proven = Some(Proven { at, restored });
        }
    }
    let gone = gone(&all, 1, 0, 0);
    assert!(gone.contains(&stored(31, None).name), "{gone:?}");
    assert!(gone.contains(&stored(20, None).name), "{gone:?}");
    assert!(
        !gone.iter().any(|name| name.ends_with(".increment")),
        "{gone:?}"
    );
    // Another life's are not for this one.
    let mut other = stored(5, Some(1));
    other.seq += 1 << 40;
    let mut base = stored(6, None);
    base.seq += 1 << 40;
    let mut newest = stored(4, None);
    newest.seq += 2 << 40;
    let name = other.name.clone();
    all.extend([base, other, newest]);
    let keep = Keep {
        daily: 0,
        weekly: 0,
        monthly: 0,
    };
    assert!(
        !expired(&all, keep).iter().any(|s| s.name == name),
        "its base stays"
    );
}

#[test]
fn each_store_has_its_own_in_a_shared_sink() {
    let (one, other) = ("1".repeat(64), "2".repeat(64));
    let of = |store: &str| {
        (0..9)
            .map(|days| stored_of(store, days, None))
            .collect::<Vec<_>>()
    };
    let mut all = of(&one);
    all.extend(of(&other));
    let gone = gone(&all, 2, 0, 0);
    for store in [&one, &other] {
        let own = all.iter().filter(|s| s.is_of(store));
        let kept: Vec<_> = own.filter(|s| !gone.contains(&s.name)).collect();
        assert_eq!(kept.len(), 2, "{store}: {kept:?}");
    }
}

/// What a new backup holds all of leaves a journal; but where what it follows is not beside the new
/// one, the disk with the others may be away, and it waits a week for them.
#[test]
fn a_journal_keeps_what_follows_backups_that_are_not_to_be_seen() {
    let (base, new) = (stored(2, None), stored(0, None));
    let journal = [stored(9, Some(9_990)), stored(1, Some(9_998))];
    let leave = |new: &Stored, beside: &[&Stored]| -> Vec<u64> {
        let beside: Vec<Stored> = beside.iter().map(|s| (*s).clone()).collect();
        let gone = covered(&journal, new, &beside);
        gone.iter().map(|s| s.seq).collect()
    };
    assert_eq!(leave(&new, &[&new, &base]), [9_991, 9_999]);
    assert_eq!(leave(&new, &[&new]), [9_991]);
    // What came after it, it does not hold; and what is of another life is not its own.
    assert_eq!(leave(&base, &[&base, &stored(20, None)]), [9_991]);
    let mut restored = new.clone();
    restored.seq += 1 << 40;
    assert!(leave(&restored, &[&restored, &base]).is_empty());
}
