//! Charts, drawn by the server as SVG. Colours are those of the page's style, light and dark; the
//! numbers stand in a sentence below the chart.

/// A bar of a chart.
pub struct Bar {
    /// What is below it.
    pub label: String,
    /// What is above it.
    pub value: String,
    /// Its left edge.
    pub x: u64,
    /// Its upper edge.
    pub y: u64,
    /// Its height.
    pub height: u64,
}

/// Bars beside each other.
pub struct Bars {
    /// The bars.
    pub bars: Vec<Bar>,
    /// Where a limit is, when it is within the chart.
    pub limit: Option<u64>,
    /// All of it in a sentence.
    pub says: String,
}

/// The upper end of the highest bar.
const TOP: u64 = 30;
/// Where bars stand.
pub const GROUND: u64 = 180;
/// From one bar to the next.
const STEP: u64 = 90;

impl Bars {
    /// Of numbers with their labels; a limit is drawn when it is no more than twice the largest.
    pub fn of(numbers: &[(String, u64)], limit: Option<u64>, shown: fn(u64) -> String) -> Self {
        let largest = numbers.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
        let limit = limit.filter(|limit| *limit > 0 && *limit <= 2 * largest);
        let scale = u128::from(largest.max(limit.unwrap_or(0)));
        let height = |n: u64| {
            let height = u128::from(n) * u128::from(GROUND - TOP) / scale;
            u64::try_from(height).unwrap_or(0).max(1)
        };
        let bars = numbers.iter().zip(0..).map(|((label, n), place)| Bar {
            label: label.clone(),
            value: shown(*n),
            x: 20 + place * STEP,
            y: GROUND - height(*n),
            height: height(*n),
        });
        let says = numbers.iter().map(|(l, n)| format!("{l}: {}", shown(*n)));
        Self {
            bars: bars.collect(),
            limit: limit.map(|limit| GROUND - height(limit)),
            says: says.collect::<Vec<_>>().join(", "),
        }
    }
}
