//! Every limit has a name, and a sentence that says why it is that number.

use crate::source;

/// How the name of a constant ends that limits something.
const ENDINGS: &[&str] = &["_MAX", "_MIN", "_TIMEOUT", "_INTERVAL"];

/// The name in a line that defines a constant.
fn constant(line: &str) -> Option<&str> {
    let (before, after) = match line.trim_start().strip_prefix("const ") {
        Some(after) => ("", after),
        None => line.trim_start().split_once(" const ")?,
    };
    let name = after.split(':').next()?;
    (before.is_empty() || before.starts_with("pub")).then_some(name)
}

#[test]
fn every_limit_says_why_it_is_that_number() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let of_product =
            ["crates/server/src/", "crates/broker/src/"].map(|of| file.path.starts_with(of));
        if !of_product.contains(&true) || file.is_test() {
            continue;
        }
        let lines: Vec<&str> = file.product().lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let limits = constant(line).filter(|it| ENDINGS.iter().any(|end| it.ends_with(end)));
            let Some(name) = limits else { continue };
            // Constants that stand together share what is said of the first.
            let said = lines[..at]
                .iter()
                .rev()
                .find(|line| constant(line).is_none() && !line.trim_start().starts_with('#'));
            if !said.is_some_and(|line| line.trim_start().starts_with("//")) {
                wrong.push(format!("{}:{}: {name}", file.path, at + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "limits without a reason above them:\n{}",
        wrong.join("\n")
    );
}
