//! All migrations, in order. One that was released is never changed: its checksum is in stores.

use super::{FIRST_FORMAT, Migration};
use std::borrow::Cow;

/// The migrations of this program. The first format needed none.
///
/// `ApiKey` is read from two shapes that both have the first format: programs before roles could be
/// granted wrote one `role`, those after it `grants`. That is no migration, for its inverse would
/// have to give some rows the shape that today's programs cannot read; `domain/key.rs` reads both.
#[cfg(not(feature = "next-format"))]
pub const MIGRATIONS: &[Migration] = &[];

/// What a program after this one could do: for the tests of the way there and back.
#[cfg(feature = "next-format")]
pub const MIGRATIONS: &[Migration] = &[
    Migration::additive(
        2,
        "teams have a channel",
        "team",
        super::Class::AddField,
        const { &[super::Edit::add("channel", "\"\"")] },
    ),
    Migration::breaking(
        3,
        "an owner's e-mail is an address",
        "owner",
        super::Class::Rename,
        const { &[super::Edit::rename("email", "address")] },
    ),
];

/// The format of this program: the number of its newest migration.
pub const PROGRAM_FORMAT: u16 = match MIGRATIONS.last() {
    Some(migration) => migration.number,
    None => FIRST_FORMAT,
};

/// The format of a collection's rows, by a list of migrations.
pub const fn format_of(collection: &str, migrations: &[Migration]) -> u16 {
    let mut n = migrations.len();
    while n > 0 {
        n -= 1;
        if let Cow::Borrowed(name) = &migrations[n].collection
            && same(name.as_bytes(), collection.as_bytes())
        {
            return migrations[n].number;
        }
    }
    FIRST_FORMAT
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut n = a.len();
    while n > 0 {
        n -= 1;
        if a[n] != b[n] {
            return false;
        }
    }
    true
}
