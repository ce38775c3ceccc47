//! Rows by id, read for many at once.
//!
//! A statement costs the database many times what a row does. So those who ask for a few rows while
//! others are being answered are asked for together, by one statement. It is sent after all of them
//! asked: what was committed before somebody asked is seen.

use super::{read::Wanted, reader::Reader, session::silent};
use crate::{
    id::Id,
    store::engine::{Coll, EngineError, Row},
    sys::Tasks,
};
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::oneshot, time::timeout};

/// Who asks for more is answered alone.
pub const FEW: usize = 16;
/// Statements under way at once. A third would only make the others smaller.
const LANES: usize = 2;
/// Of a statement.
const MOST_ROWS: usize = 256;

/// Rows, each as asked for.
type Rows = Vec<Option<Row>>;

/// Readers of a few rows.
#[derive(Clone)]
pub struct Gather {
    reader: Arc<Reader>,
    tasks: Tasks,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    lanes: usize,
}

/// One that waits to be asked for.
struct Waiting {
    coll: Coll,
    ids: Vec<Id>,
    answer: oneshot::Sender<Result<Rows, EngineError>>,
}

impl Waiting {
    fn wanted(&self) -> Wanted<'_> {
        let (coll, ids) = (self.coll, &*self.ids);
        Wanted { coll, ids }
    }
}

impl Gather {
    pub fn new(reader: Arc<Reader>, tasks: Tasks) -> Self {
        Self {
            reader,
            tasks,
            queue: Arc::default(),
        }
    }

    /// Rows of a collection, all from one moment.
    pub async fn get(&self, coll: Coll, ids: Vec<Id>) -> Result<Rows, EngineError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { coll, ids, answer };
        if let Some(lane) = self.join(waiting) {
            self.tasks.spawn("database reads", lane.run());
        }
        let patience = self.reader.patience();
        let answered = timeout(patience, answered).await;
        let answered = answered.map_err(|_| silent(patience))?;
        let failed = |_| EngineError::Away("the read failed by a fault in the program".to_owned());
        answered.map_err(failed)?
    }

    /// Puts one in the queue, and opens a lane where there is room for one more.
    fn join(&self, waiting: Waiting) -> Option<Lane> {
        let mut queue = self.queue();
        queue.waiting.push(waiting);
        if queue.lanes == LANES {
            return None;
        }
        queue.lanes += 1;
        Some(Lane {
            gather: self.clone(),
            open: true,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for all of them together.
    async fn ask(&self, group: &[Waiting]) -> Result<Vec<Rows>, EngineError> {
        let wanted: Vec<Wanted> = group.iter().map(Waiting::wanted).collect();
        self.reader.read(&*wanted).await
    }

    /// Whoever went away meanwhile wants no answer.
    async fn answer(&self, group: Vec<Waiting>) {
        match self.ask(&group).await {
            Ok(all) => {
                for (one, rows) in group.into_iter().zip(all) {
                    let _ = one.answer.send(Ok(rows));
                }
            }
            Err(e) if e.is_away() || group.len() == 1 => {
                for one in group {
                    let _ = one.answer.send(Err(e.clone()));
                }
            }
            // Only whoever wants a row that is damaged is told so.
            Err(_) => {
                for one in group {
                    let rows = self.ask(std::slice::from_ref(&one)).await;
                    let rows = rows.map(|mut all| all.pop().unwrap_or_default());
                    let _ = one.answer.send(rows);
                }
            }
        }
    }
}

/// A statement after the other, as long as somebody waits.
struct Lane {
    gather: Gather,
    open: bool,
}

impl Lane {
    async fn run(mut self) {
        while let Some(group) = self.next() {
            self.gather.answer(group).await;
        }
    }

    /// Those who wait, up to as many as one statement is for. Where there are none the lane is
    /// closed before anybody can join the queue: whoever comes next opens another.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.gather.queue();
        queue.waiting.retain(|one| !one.answer.is_closed());
        let mut rows = 0;
        let fit = queue.waiting.iter().take_while(|one| {
            rows += one.ids.len();
            rows <= MOST_ROWS
        });
        let fit = fit.count();
        if fit == 0 {
            queue.lanes -= 1;
            self.open = false;
            return None;
        }
        let rest = queue.waiting.split_off(fit);
        Some(mem::replace(&mut queue.waiting, rest))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.open {
            let mut queue = self.gather.queue();
            queue.lanes -= 1;
            // Nobody else would serve them.
            if queue.lanes == 0 {
                queue.waiting.clear();
            }
        }
    }
}
