//! An event as a line for a person.

use longlived_client::Event;
use longlived_console::{Output, Tone};

use super::text::{clock, one_line, payload};

/// `time  topic #sequence  [key]  payload  {header=value}`
pub(crate) fn event_line(event: &Event, output: Output) -> String {
    let mut line = String::new();
    if let Some(time) = event.publish_time.and_then(clock) {
        line.push_str(&output.paint(Tone::Dim, time));
        line.push_str("  ");
    }
    let place = format!("{} #{}", event.topic, event.position.sequence);
    line.push_str(&output.paint(Tone::Strong, place));
    line.push_str("  ");
    if !event.key.is_empty() {
        line.push_str(&output.paint(Tone::Dim, format!("[{}]  ", one_line(&event.key))));
    }
    if event.deleted {
        line.push_str("(deleted) ");
    }
    line.push_str(&payload(&event.payload));
    if !event.headers.is_empty() {
        let headers: Vec<String> = event
            .headers
            .iter()
            .map(|(name, value)| one_line(&format!("{name}={value}")))
            .collect();
        let headers = format!("  {{{}}}", headers.join(", "));
        line.push_str(&output.paint(Tone::Dim, headers));
    }
    line
}
