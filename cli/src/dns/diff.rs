//! What differs between two texts, line by line, as `diff -u` shows it.

/// Lines that are shown around a change.
const AROUND: usize = 2;
/// Pairs of lines that are compared at most; beyond that all that differs is shown as one piece.
const PAIRS: usize = 1 << 22;

/// The changed lines with what is around them; empty when nothing differs.
pub fn render(old: &str, new: &str) -> String {
    let lines = compare(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let near = |at: usize| {
        let range = at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len());
        lines[range].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    let mut shown = None;
    for (at, (mark, line)) in lines.iter().enumerate().filter(|(at, _)| near(*at)) {
        if shown.is_some_and(|last: usize| last + 1 != at) {
            text.push_str("  ...\n");
        }
        shown = Some(at);
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

/// All lines, each kept (` `), taken away (`-`) or new (`+`).
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(same).count();
    let (old_rest, end) = old_rest.split_at(old_rest.len() - tail);
    let new_rest = &new_rest[..new_rest.len() - tail];
    let kept = |lines: &[&'a str]| lines.iter().map(|line| (' ', *line)).collect::<Vec<_>>();
    [kept(&old[..head]), middle(old_rest, new_rest), kept(end)].concat()
}

/// By the longest sequence of lines that both have.
fn middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let all = |mark: char, lines: &[&'a str]| lines.iter().map(|l| (mark, *l)).collect::<Vec<_>>();
    if old.len().saturating_mul(new.len()) > PAIRS {
        return [all('-', old), all('+', new)].concat();
    }
    // In row i and column j: how many lines old[i..] and new[j..] have in common.
    let width = new.len() + 1;
    let mut common = vec![0_usize; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            out.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if common[(i + 1) * width + j] >= common[i * width + j + 1] {
            out.push(('-', old[i]));
            i += 1;
        } else {
            out.push(('+', new[j]));
            j += 1;
        }
    }
    out.extend(all('-', &old[i..]));
    out.extend(all('+', &new[j..]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_what_is_around() {
        assert_eq!(
            render("a\nb\nc\nd\ne\nf\ng\nh\ni\n", "a\nb\nc\nD\nd2\ne\nf\ng\nh\n"),
            "  b\n  c\n- d\n+ D\n+ d2\n  e\n  f\n  g\n  h\n- i\n"
        );
        assert_eq!(
            render("1\n2\n3\n4\n5\n6\n7", "0\n2\n3\n4\n5\n6\n8"),
            "- 1\n+ 0\n  2\n  3\n  ...\n  5\n  6\n- 7\n+ 8\n"
        );
        assert_eq!(render("a\n", "a\n"), "");
        assert_eq!(render("", "a"), "+ a\n");
    }
}
