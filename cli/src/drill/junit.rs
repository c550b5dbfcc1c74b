//! A drill as a JUnit test suite, one case a bound.

use carrick_crds::FailoverDrill;
use carrick_crds::drill::Verdict;
use kube::ResourceExt as _;

use super::html::{Outcome, escape, outcomes};

/// The suite.
pub fn render(drill: &FailoverDrill) -> String {
    let status = drill.status.clone().unwrap_or_default();
    let cases = outcomes(drill);
    let reasons = status.reasons.join("; ");
    let judged = matches!(status.verdict, Some(Verdict::Passed | Verdict::Failed));
    let failed = cases.iter().filter(|case| !case.kept).count();
    let unexplained = judged && failed == 0 && status.verdict == Some(Verdict::Failed);
    let (tests, failures, errors) = if judged {
        (cases.len() + usize::from(unexplained), failed + usize::from(unexplained), 0)
    } else {
        (1, 0, 1)
    };
    let name = escape(&drill.name_any());
    let seconds = drill.spec.duration_seconds;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"carrick drill {name}\" \
         tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds}\">\n"
    );
    if judged {
        cases.iter().for_each(|outcome| text.push_str(&case(outcome)));
    }
    if unexplained || !judged {
        let kind = if judged { "failure" } else { "error" };
        let verdict = status.verdict.map_or("no verdict", Verdict::as_str);
        text.push_str(&format!(
            "  <testcase classname=\"drill\" name=\"verdict\"><{kind} message=\"{verdict}: \
             {}\"/></testcase>\n",
            escape(&reasons)
        ));
    }
    text.push_str("</testsuite>\n");
    text
}

fn case(outcome: &Outcome) -> String {
    let (name, found) = (escape(&outcome.bound), escape(&outcome.found));
    let body = if outcome.kept {
        format!("<system-out>{found}</system-out>")
    } else {
        format!("<failure message=\"{found}\"/>")
    };
    format!("  <testcase classname=\"drill\" name=\"{name}\">{body}</testcase>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn bounds_are_cases_and_other_ends_are_errors() {
        let mut drill = sample::drill();
        let text = render(&drill);
        assert!(text.contains("tests=\"3\" failures=\"0\" errors=\"0\""), "{text}");
        let status = drill.status.as_mut().expect("status");
        (status.recovery_milliseconds, status.verdict) = (Some(900), Some(Verdict::Failed));
        let text = render(&drill);
        assert!(text.contains("failures=\"1\"") && text.contains("900 ms"), "{text}");
        let status = drill.status.as_mut().expect("status");
        (status.verdict, status.reasons) = (Some(Verdict::Refused), vec!["a < b".to_owned()]);
        let text = render(&drill);
        assert!(text.contains("errors=\"1\"") && text.contains("Refused: a &lt; b"), "{text}");
    }
}
