//! Writes a bundle.

use super::{
    BackupError, Ending, Header, Line,
    lock::{Lock, Locked},
};
use crate::{
    id::Id,
    store::{Entry, Row},
};
use data_encoding::HEXLOWER;
use flate2::{Compression, write::ZlibEncoder};
use ring::digest::{Context, SHA256};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use std::io::Write;

/// A bundle on its way out; what is written is none before [`finish`](Self::finish).
pub struct Writer<W: Write> {
    out: ZlibEncoder<Locked<W>>,
    sum: Context,
    ending: Ending,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    ///
    /// # Errors
    /// When nothing can be written, or not be encrypted like that.
    pub fn new(out: W, lock: &Lock, header: Header) -> Result<Self, BackupError> {
        let mut writer = Self {
            out: ZlibEncoder::new(Locked::new(lock, out)?, Compression::fast()),
            sum: Context::new(&SHA256),
            ending: Ending::default(),
            line: Vec::new(),
        };
        writer.line(&Line::Header(Box::new(header)))?;
        Ok(writer)
    }

    /// A row of a collection. Its document is written in one form whatever engine it is of: a
    /// state has the same lines from each.
    ///
    /// # Errors
    /// When it cannot be written, or the row is no JSON.
    pub fn row(&mut self, coll: &str, row: &Row) -> Result<(), BackupError> {
        let doc = serde_json::from_slice::<Value>(&row.doc);
        let doc = doc.and_then(|doc| to_raw_value(&doc));
        let doc = doc.map_err(|_| no_json(coll, row.id.as_str()))?;
        self.line(&Line::Row(
            coll.into(),
            row.id.as_str().into(),
            row.version,
            &doc,
        ))
    }

    /// A row that is not there any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gone(&mut self, coll: &str, id: &Id) -> Result<(), BackupError> {
        self.line(&Line::Gone(coll.into(), id.as_str().into()))
    }

    /// A counter.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn counter(&mut self, name: &[u8], value: i64) -> Result<(), BackupError> {
        self.line(&Line::Counter(HEXLOWER.encode(name), value))
    }

    /// An entry of a stream.
    ///
    /// # Errors
    /// When it cannot be written, or the entry is no JSON of one line.
    pub fn entry(&mut self, stream: &str, entry: &Entry) -> Result<(), BackupError> {
        let doc = raw(stream, &entry.number.to_string(), &entry.doc)?;
        let link = HEXLOWER.encode(&entry.link);
        self.line(&Line::Entry(stream.into(), entry.number, link, doc))
    }

    /// Ends the bundle; gives back where it was written to, and what it holds.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(W, Ending), BackupError> {
        let mut ending = std::mem::take(&mut self.ending);
        ending.sha256 = HEXLOWER.encode(self.sum.clone().finish().as_ref());
        self.line(&Line::End(ending.clone()))?;
        let out = self.out.finish()?.finish()?;
        Ok((out, ending))
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), BackupError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)
            .map_err(|e| BackupError::Io(std::io::Error::other(e)))?;
        self.line.push(b'\n');
        self.sum.update(&self.line);
        self.ending.count(line);
        Ok(self.out.write_all(&self.line)?)
    }
}

/// A document as it is.
fn raw<'a>(of: &str, id: &str, doc: &'a [u8]) -> Result<&'a RawValue, BackupError> {
    let raw = serde_json::from_slice::<&RawValue>(doc).ok();
    raw.filter(|raw| raw.get().len() == doc.len() && !doc.contains(&b'\n'))
        .ok_or_else(|| no_json(of, id))
}

fn no_json(of: &str, id: &str) -> BackupError {
    BackupError::Damaged(format!("{of}/{id} in the store is no JSON"))
}
