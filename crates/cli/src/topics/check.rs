//! The check: whether a position can still be resumed, in words and as the exit code.

use std::process::ExitCode;

use anyhow::Context as _;
use longlived_client::{Client, GapReason, Position, PositionCheck};
use serde::Serialize;

use super::Args;
use crate::show::{self, Record};

/// The exit status when something would be missed: another one than that of an error.
const SOMETHING_IS_MISSING: u8 = 3;

/// The line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Check {
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        gap: Option<Record<'a>>,
        earliest: Place,
        checked: Place,
        head: Place,
    },
}

#[derive(Debug, Serialize)]
struct Place {
    epoch: u64,
    sequence: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            sequence: position.sequence,
        }
    }
}

pub(super) async fn run(
    client: &Client,
    args: Args,
    position: Position,
) -> anyhow::Result<ExitCode> {
    let answer = client.check_position(args.subscriber_id(), &args.filters, position);
    let answer = answer.await.with_context(|| client.url().to_owned())?;
    let text = if args.json {
        let line = Line::Check {
            state: state(&answer),
            gap: answer.gap.as_ref().map(|gap| Record::gap(gap, None)),
            earliest: answer.earliest.into(),
            checked: answer.checked.into(),
            head: answer.head.into(),
        };
        serde_json::to_string(&line).expect("keys are strings")
    } else {
        sentence(position, &answer)
    };
    show::print_line(text).context("printing the answer")?;
    Ok(if answer.is_resumable() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOMETHING_IS_MISSING)
    })
}

fn state(answer: &PositionCheck) -> &'static str {
    match answer.gap.map(|gap| gap.reason) {
        None => "resumable",
        Some(GapReason::EpochChanged) => "epoch_changed",
        Some(GapReason::Future) => "future",
        Some(
            GapReason::Trimmed | GapReason::Damaged | GapReason::TooLarge | GapReason::Other(_),
        ) => "missing",
    }
}

fn sentence(position: Position, answer: &PositionCheck) -> String {
    let PositionCheck {
        gap,
        earliest,
        checked,
        head,
    } = answer;
    match gap {
        None if checked == head => {
            format!("{position} can be resumed: nothing is missing up to {head}")
        }
        None => format!(
            "{position} can be resumed: nothing is missing up to {checked}, and retention has removed nothing up \
             to {head}"
        ),
        Some(gap) => format!(
            "{position} cannot be resumed without a gap: {gap}; everything that is kept follows {earliest}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use longlived_client::Gap;

    use super::*;

    #[test]
    fn the_sentence_names_the_missing_events_and_where_to_begin_instead() {
        let at = |sequence| Position::new(7, sequence);
        let resumable = PositionCheck {
            gap: None,
            earliest: at(3),
            checked: at(9),
            head: at(9),
        };
        assert_eq!(
            sentence(at(5), &resumable),
            "7/5 can be resumed: nothing is missing up to 7/9"
        );
        let partly = PositionCheck {
            checked: at(8),
            ..resumable
        };
        assert!(sentence(at(5), &partly).contains("up to 7/8, and retention"));
        let missing = PositionCheck {
            gap: Some(Gap {
                reason: GapReason::Trimmed,
                after: Some(at(1)),
                through: at(3),
                events: None,
            }),
            ..resumable
        };
        assert_eq!(
            sentence(at(1), &missing),
            "7/1 cannot be resumed without a gap: removed by retention: after 7/1 through 7/3, an unknown number \
             of events; everything that is kept follows 7/3"
        );
    }
}
