//! The page in the documentation: what people wrote stays, what is measured is written anew between
//! two marks.

use std::path::Path;

use anyhow::Context as _;

use crate::report::{Report, markdown, targets};

const BEGIN: &str = "<!-- figures: begin, written by cargo bench-tunnel --page -->\n";
const END: &str = "<!-- figures: end -->\n";

/// The page's name, and that of its picture.
const PAGE: &str = "benchmarks.md";
const PICTURE: &str = "benchmarks.svg";

/// Writes a report into the page in `folder`, and its picture beside it.
///
/// # Errors
/// When there is no page with both marks, or it can't be written.
pub(super) fn write(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(PAGE);
    let page =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let page = replaced(&page, &figures(report))
        .with_context(|| format!("{} lacks the marks of its figures", path.display()))?;
    for (path, text) in [(path, page), (folder.join(PICTURE), report.picture())] {
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn replaced(page: &str, figures: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

fn figures(report: &Report) -> String {
    format!(
        "{}\n\n![Userspace WireGuard gateways side by side]({PICTURE})\n\n{}",
        targets::table(report).trim_end(),
        markdown::sections(report).trim_end()
    ) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn what_people_wrote_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(PAGE);
        std::fs::write(&path, format!("# Before\n{BEGIN}old\n{END}After\n")).expect("written");
        for _ in 0..2 {
            write(&report(), folder.path()).expect("written");
            let page = std::fs::read_to_string(&path).expect("read");
            assert!(page.starts_with("# Before\n") && page.ends_with("After\n"), "{page}");
            assert!(page.contains("TCP ×1 against wireguard-go") && !page.contains("old"));
            assert_eq!(page.matches("## Underlay `segmentation`").count(), 1);
        }
        let picture = std::fs::read_to_string(folder.path().join(PICTURE)).expect("read");
        assert!(picture.starts_with("<svg"));
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(PAGE);
        std::fs::write(&path, "# Mine\n").expect("written");
        assert!(
            write(&report(), folder.path()).expect_err("no marks").to_string().contains("marks")
        );
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "# Mine\n");
    }
}
