//! When a process dies: by what it was heard to do, not by a clock.

use super::dice::Dice;

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The clients, together: they are heard when something new is acknowledged.
    Clients,
    Server,
    Agent(usize),
}

/// Something that was heard.
#[derive(Debug)]
pub struct Heard {
    pub who: Who,
    /// A line of the process.
    pub line: String,
}

/// The n-th time that somebody is heard to do something.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    who: Who,
    part: &'static str,
    nth: usize,
}

/// What the server is heard to do, and up to how often it is waited for.
const OF_SERVER: [(&str, usize); 5] = [
    ("issued", 20),
    ("/csr", 20),
    ("/report", 20),
    ("/work", 20),
    ("request", 120),
];
/// What an agent is heard to do.
const OF_AGENT: [(&str, usize); 6] = [
    ("key ready", 16),
    ("deployment begun", 16),
    ("seen served", 16),
    ("removed a superseded", 12),
    ("job ended", 20),
    ("", 60),
];

impl Moment {
    /// One of those that come while all run.
    pub fn drawn(dice: &mut Dice, agents: usize) -> Self {
        let (who, (part, most)) = match dice.roll(4) {
            0 => (Who::Clients, ("", 20)),
            1 => (Who::Server, dice.pick(&OF_SERVER)),
            _ => (Who::Agent(dice.roll(agents)), dice.pick(&OF_AGENT)),
        };
        let nth = 1 + dice.roll(most);
        Self { who, part, nth }
    }

    /// Soon after the start of a process, while it decides what its last end left open.
    pub fn in_recovery(who: Who, dice: &mut Dice) -> Self {
        let nth = 1 + dice.roll(6);
        Self { who, part: "", nth }
    }

    /// Whether this is one of the times that count.
    pub fn counts(&self, heard: &Heard) -> bool {
        self.who == heard.who && heard.line.contains(self.part)
    }

    /// How many times there are to come.
    pub fn nth(&self) -> usize {
        self.nth
    }
}
