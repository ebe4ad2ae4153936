//! Text in the width of the terminal: sentences are broken between words, and go on below where they began.
//!
//! Holds: if the width is not known, as in a pipe, a sentence is one line.

use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter};

use super::terminal::{Output, Tone};

/// Where less is left beside a lead than this, a text goes on below the lead, ...
const BESIDE_MIN: usize = 30;
/// ... so far from the edge.
const BELOW_INDENT: usize = 4;

impl Output {
    /// A sentence, or several.
    pub fn sentence(self, tone: Tone, text: &str) -> String {
        self.after(&[], tone, text)
    }

    /// A text that follows others on its first line.
    pub fn after(self, lead: &[(Tone, &str)], tone: Tone, text: &str) -> String {
        self.after_within(self.width(), lead, tone, text)
    }

    /// The same in `columns` columns, if their number is known.
    pub fn after_within(
        self,
        columns: Option<usize>,
        lead: &[(Tone, &str)],
        tone: Tone,
        text: &str,
    ) -> String {
        let width = lead.iter().map(|(_, text)| display_width(text)).sum();
        let lead = lead.iter().map(|(tone, text)| self.paint(*tone, text));
        let lead: String = lead.collect();
        let lines = lines_after(width, text, columns);
        let lines = lines.iter().map(|line| self.paint(tone, line));
        let lines: Vec<_> = lines.collect();
        format!("{lead}{}", lines.join("\n"))
    }
}

/// A text in lines of a width, if there is one.
pub fn wrapped(text: &str, width: Option<usize>) -> String {
    lines_after(0, text, width).join("\n")
}

/// The lines of a text whose first one begins `lead` columns from the edge.
fn lines_after(lead: usize, text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else {
        return vec![text.to_owned()];
    };
    let beside = width.saturating_sub(lead) >= BESIDE_MIN.min(width);
    let indent = " ".repeat(if beside { lead } else { BELOW_INDENT.min(lead) });
    let before = " ".repeat(lead.min(width));
    let options = Options::new(width)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .initial_indent(&before)
        .subsequent_indent(&indent);
    let mut lines: Vec<_> = textwrap::wrap(text, options)
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect();
    if let Some(first) = lines.first_mut() {
        *first = first.strip_prefix(&before).unwrap_or_default().to_owned();
    }
    lines
}

/// A text so far from the edge, in lines of a width.
pub fn indented(indent: usize, text: &str, width: usize) -> String {
    let lines = lines_after(indent, text, Some(width));
    format!("{:indent$}{}", "", lines.join("\n"))
}

/// Columns that the widest line of a text takes.
pub fn columns(text: &str) -> usize {
    text.lines().map(display_width).max().unwrap_or(0)
}

/// At most `width` columns of a text, with an ellipsis where something was cut.
pub fn clipped(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if display_width(&kept) >= width {
            kept.pop();
            break;
        }
    }
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sentence_is_broken_between_words_and_goes_on_below_its_beginning() {
        let text = "lost its stream (connection to the server lost), backing off 412 ms";
        assert_eq!(
            lines_after(20, text, Some(60)),
            [
                "lost its stream (connection to the",
                "                    server lost), backing off 412 ms"
            ]
        );
        // There is no room beside.
        assert_eq!(
            lines_after(20, text, Some(40)),
            [
                "lost its stream",
                "    (connection to the server lost),",
                "    backing off 412 ms"
            ]
        );
        assert_eq!(lines_after(20, text, None), [text]);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(clipped("grün", 4), "grün");
        assert_eq!(clipped("grün und blau", 6), "grün…");
        assert_eq!(clipped("abc", 0), "…");
        // Each of these takes two columns.
        assert_eq!(clipped("漢字漢字", 8), "漢字漢字");
        assert_eq!(clipped("漢字漢字", 7), "漢字漢…");
        assert_eq!(clipped("漢字漢字", 6), "漢字…");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_the_terminal_and_no_word_is_lost(
            lead in 0_usize..30,
            width in 20_usize..220,
            words in proptest::collection::vec("[a-zäß漢.:/-]{1,60}", 0..40),
        ) {
            let text = words.join(" ");
            let lines = lines_after(lead, &text, Some(width));
            for (number, line) in lines.iter().enumerate() {
                let before = if number == 0 { lead } else { 0 };
                let taken = display_width(line);
                prop_assert!(taken == 0 || before + taken <= width.max(lead + 2), "{:?}", lines);
            }
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
            prop_assert!(display_width(&clipped(&text, width)) <= width);
        }
    }
}
