//! Columns for a terminal, as kubectl prints them.

/// Rows under a heading. The last column may be of any width.
pub struct Table {
    rows: Vec<Vec<String>>,
}

/// Spaces between columns.
const GAP: usize = 3;

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&h| h.to_owned()).collect()] }
    }

    /// Adds a row; an empty cell is shown as `-`.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let filled = cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell });
        self.rows.push(filled.into());
    }

    /// Whether there are no rows but the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The text, each line ended.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let line: String =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// How long ago, as kubectl says it: `42s`, `7m`, `3h`, `12d`.
pub fn ago(since: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_blanks() {
        let mut table = Table::new(&["NAME", "READY"]);
        table.row(["osaka".into(), String::new()]);
        assert_eq!(table.render(), "NAME    READY\nosaka   -\n");
    }

    #[test]
    fn ages_are_short() {
        let at = |s| jiff::Timestamp::from_second(s).expect("time");
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (180_000, "2d")]
        {
            assert_eq!(ago(at(1000), at(1000 + seconds)), text);
        }
        assert_eq!(ago(at(1000), at(10)), "0s");
    }
}
