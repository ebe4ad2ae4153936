use super::*;
use crate::history::{
    Digest, Durability, Event, FilterChange, GapReason, PublishBegun, PublishEnded, StreamOpened,
    WelcomeOutcome, Writer,
};

const HEADER: &str = r#"{"format":"longlived-history","version":1}"#;
const OPENED: &str =
    r#"{"kind":"stream_opened","at":1,"subscriber":"s","stream":1,"filters":[">"]}"#;
const EVENT: &str = r#"{"kind":"event","at":2,"stream":1,"topic":"a","sequence":3,"previous_sequence":0,"digest":"00000000000000ff","applied":true}"#;

fn complaint(lines: &[&str]) -> String {
    let text = lines.join("\n") + "\n";
    read_from(text.as_bytes())
        .expect_err("it is wrong")
        .to_string()
}

#[test]
fn a_written_history_is_read_as_it_was() {
    let records = [
        Record::PublishBegun(PublishBegun {
            at: 1,
            publisher: "p".into(),
            publish: 1,
            principal: "me".into(),
            topic: "a.b".into(),
            digest: Digest(7),
            bytes: 20,
            message_id: Some("id".into()),
        }),
        Record::PublishEnded(PublishEnded {
            at: 5,
            publisher: "p".into(),
            publish: 1,
            outcome: PublishOutcome::Acknowledged {
                epoch: 9,
                sequence: 1,
                durability: Durability::Disk,
                duplicate: false,
            },
        }),
        Record::StreamOpened(StreamOpened {
            at: 2,
            subscriber: "s".into(),
            stream: 4,
            filters: vec!["a.*".into()],
            resume_after: Some(Position {
                epoch: 8,
                sequence: 3,
            }),
            start: None,
            gap_policy: crate::history::GapPolicy::Latest,
            max_event_bytes: Some(100),
        }),
        Record::Welcome(crate::history::Welcome {
            at: 3,
            stream: 4,
            outcome: WelcomeOutcome::Reset,
            epoch: 9,
            sequence: 3,
            position_epoch: Some(8),
        }),
        Record::Gap(crate::history::Gap {
            at: 3,
            stream: 4,
            reason: GapReason::EpochChanged,
            after_sequence: 3,
            through_sequence: 0,
            events: 0,
            through_epoch: Some(9),
        }),
        Record::Event(Event {
            at: 6,
            stream: 4,
            topic: "a.b".into(),
            sequence: 1,
            previous_sequence: 0,
            digest: Digest(7),
            applied: true,
        }),
        Record::FilterAdded(FilterChange {
            at: 7,
            stream: 4,
            filter: "c".into(),
            after: 1,
        }),
        Record::Trimmed(crate::history::Trimmed {
            epoch: 9,
            topic: "a.b".into(),
            through: 0,
        }),
    ];
    let mut writer = Writer::new(Vec::new(), &Header::new(["$sys.>"])).unwrap();
    for record in &records {
        writer.append(record).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    for (line, record) in text.lines().skip(1).zip(&records) {
        assert_eq!(&serde_json::from_str::<Record>(line).unwrap(), record);
    }
    let history = read_from(&*bytes).unwrap();
    assert_eq!(history.lines, 9);
    assert_eq!(history.truncated, None);
    assert_eq!(history.header.unwrap().foreign, ["$sys.>"]);
    assert_eq!(history.publishes[0].ended_at, 5);
    assert_eq!(history.streams[0].steps.len(), 4);
    assert_eq!(history.trimmed.len(), 1);
    assert_eq!(history.last_at, 7);
}

#[test]
fn a_wrong_line_is_named_with_its_field() {
    let cases: &[(&[&str], &str)] = &[
        (
            &[r#"{"format":"other","version":1}"#],
            "line 1, field `format`",
        ),
        (
            &[r#"{"format":"longlived-history","version":2}"#],
            "line 1, field `version`",
        ),
        (&[HEADER, "hello"], "line 2: no JSON object"),
        (&[HEADER, r#"{"kind":"even"}"#], "line 2, field `kind`"),
        (&[HEADER, r#"{"at":1}"#], "line 2, field `kind`"),
        (
            &[
                HEADER,
                OPENED,
                &EVENT.replace("\"sequence\":3", "\"sequence\":\"3\""),
            ],
            "line 3, field `sequence`",
        ),
        (
            &[HEADER, OPENED, &EVENT.replace("00000000000000ff", "ff")],
            "line 3, field `digest`",
        ),
        (
            &[HEADER, OPENED, &EVENT.replace("\"topic\":\"a\",", "")],
            "line 3, field `topic`",
        ),
        (
            &[
                HEADER,
                OPENED,
                &EVENT.replace("\"at\":2", "\"at\":2,\"color\":1"),
            ],
            "line 3, field `color`",
        ),
        (
            &[
                HEADER,
                OPENED,
                &EVENT.replace("\"stream\":1", "\"stream\":2"),
            ],
            "line 3, field `stream`",
        ),
        (&[HEADER, OPENED, OPENED], "line 3, field `stream`"),
        (
            &[
                HEADER,
                r#"{"kind":"publish_ended","at":1,"publisher":"p","publish":1,"outcome":"unknown"}"#,
            ],
            "line 2, field `publish`",
        ),
        (
            &[
                HEADER,
                r#"{"kind":"publish_ended","at":1,"publisher":"p","publish":1,"outcome":"perhaps"}"#,
            ],
            "line 2, field `outcome`",
        ),
        (
            &[HEADER, OPENED, &EVENT[..40], EVENT],
            "line 3: no JSON object",
        ),
    ];
    for (lines, named) in cases {
        let said = complaint(lines);
        assert!(said.starts_with(named), "{said}");
    }
}

#[test]
fn only_the_last_line_may_be_cut_off() {
    let whole = [HEADER, OPENED, EVENT].join("\n");
    let begin = whole.len() - EVENT.len();
    for cut in begin + 1..whole.len() {
        let history = read_from(&whole.as_bytes()[..cut]).unwrap();
        assert_eq!((history.truncated, history.lines), (Some(3), 2));
    }
    let history = read_from(whole.as_bytes()).unwrap();
    assert_eq!((history.truncated, history.lines), (None, 3));
    let ended = whole[..begin + 30].to_owned() + "\n";
    assert!(
        read_from(ended.as_bytes()).is_err(),
        "a line that has ended is not cut off"
    );
    let garbage = whole[..begin].to_owned() + "hello";
    assert!(
        read_from(garbage.as_bytes()).is_err(),
        "garbage is not cut off"
    );
    assert!(read_from(&b""[..]).is_err(), "nothing at all is no history");
    assert!(
        read_from(&HEADER.as_bytes()[..20]).is_err(),
        "a header is needed"
    );
}
