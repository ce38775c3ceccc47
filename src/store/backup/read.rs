//! Reads a bundle, and with that sees that it is whole.

use super::{
    BackupError, Ending, Header, Line, MAX_LINE,
    lock::{Keys, Unlocked},
};
use crate::{
    id::Id,
    store::{Entry, Row},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::bufread::ZlibDecoder;
use ring::digest::{Context, SHA256};
use std::io::{BufRead, BufReader, Read};

/// A bundle on its way in.
pub struct Reader<R: Read> {
    from: BufReader<ZlibDecoder<BufReader<Unlocked<R>>>>,
    header: Header,
    sum: Context,
    seen: Ending,
    line: Vec<u8>,
    name: String,
}

/// A thing that a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A row of a collection.
    Row(String, Row),
    /// A row that is not there any more.
    Gone(String, Id),
    /// A counter.
    Counter(Vec<u8>, i64),
    /// An entry of a stream.
    Entry(String, Entry),
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is no bundle, no key opens it, or a later program wrote it.
    pub fn new(from: R, keys: &Keys) -> Result<Self, BackupError> {
        let unlocked = BufReader::new(Unlocked::new(keys, from)?);
        let mut from = BufReader::with_capacity(64 << 10, ZlibDecoder::new(unlocked));
        let mut line = Vec::new();
        let mut sum = Context::new(&SHA256);
        next(&mut from, &mut line)?;
        sum.update(&line);
        let Line::Header(header) = parse(&line)? else {
            return Err(BackupError::NoBackup);
        };
        header.check()?;
        Ok(Self {
            from,
            header: *header,
            sum,
            seen: Ending::default(),
            line,
            name: String::new(),
        })
    }

    /// The same, with what it is called where it is one of several.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// What it is called; nothing where nobody said.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next thing; the ending once there is none, and then the bundle was whole.
    ///
    /// # Errors
    /// When the bundle is damaged.
    pub fn next_item(&mut self) -> Result<Result<Item, Ending>, BackupError> {
        next(&mut self.from, &mut self.line)?;
        let line = parse(&self.line)?;
        self.seen.count(&line);
        let damaged = |what: &str| BackupError::Damaged(format!("{what} cannot be read"));
        let id = |id: &str| id.parse::<Id>().map_err(|_| damaged("an id"));
        let item = match line {
            Line::Row(coll, row, version, doc) => {
                let row = Row {
                    id: id(&row)?,
                    version,
                    doc: Bytes::copy_from_slice(doc.get().as_bytes()),
                };
                Item::Row(coll.into_owned(), row)
            }
            Line::Gone(coll, row) => Item::Gone(coll.into_owned(), id(&row)?),
            Line::Counter(name, value) => {
                let name = HEXLOWER.decode(name.as_bytes());
                Item::Counter(name.map_err(|_| damaged("a counter"))?, value)
            }
            Line::Entry(stream, number, link, doc) => {
                let link = HEXLOWER.decode(link.as_bytes()).unwrap_or_default();
                let entry = Entry {
                    number,
                    doc: Bytes::copy_from_slice(doc.get().as_bytes()),
                    link: link.try_into().map_err(|_| damaged("a link"))?,
                };
                Item::Entry(stream.into_owned(), entry)
            }
            Line::Header(_) => return Err(damaged("a second header")),
            Line::End(ending) => {
                self.end(&ending)?;
                return Ok(Err(ending));
            }
        };
        self.sum.update(&self.line);
        Ok(Ok(item))
    }

    /// Reads to the end: with this, every byte was seen.
    ///
    /// # Errors
    /// When the bundle is damaged.
    pub fn verify(mut self, mut seen: impl FnMut(u64)) -> Result<(Header, Ending), BackupError> {
        let mut things = 0;
        loop {
            match self.next_item()? {
                Ok(_) => things += 1,
                Err(ending) => return Ok((self.header, ending)),
            }
            seen(things);
        }
    }

    fn end(&mut self, ending: &Ending) -> Result<(), BackupError> {
        self.seen.sha256 = HEXLOWER.encode(self.sum.clone().finish().as_ref());
        if self.seen != *ending {
            let what = "it does not hold what its ending says";
            return Err(BackupError::Damaged(what.to_owned()));
        }
        // What was compressed, and what was encrypted, must end here too: only then are their own
        // sums looked at.
        let after = |found: usize| match found {
            0 => Ok(()),
            _ => Err(BackupError::Damaged("more follows its end".to_owned())),
        };
        after(self.from.read(&mut [0])?)?;
        after(self.from.get_mut().get_mut().read(&mut [0])?)
    }
}

fn next(from: &mut impl BufRead, line: &mut Vec<u8>) -> Result<(), BackupError> {
    line.clear();
    from.take(MAX_LINE).read_until(b'\n', line)?;
    if line.ends_with(b"\n") {
        Ok(())
    } else {
        let what = "it ends too early, or a line is too long";
        Err(BackupError::Damaged(what.to_owned()))
    }
}

fn parse(line: &[u8]) -> Result<Line<'_>, BackupError> {
    serde_json::from_slice(line).map_err(|e| BackupError::Damaged(format!("a line is none: {e}")))
}
