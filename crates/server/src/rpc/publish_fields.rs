//! A `PublishRequest` read in place: its texts and payload as parts of the received bytes.
//!
//! Holds: the fields are those that the generated type would read. Anything but well-formed fields without headers is
//! left to that type, errors included. Does not: check the values of the fields; `validate` does.

/// The fields, absent ones empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PublishFields<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) key: &'a str,
    pub(super) message_id: &'a str,
    pub(super) deleted: bool,
}

// Field number and wire type, as one byte; the test below holds them against the generated type.
const TOPIC: u8 = 0x0a;
const PAYLOAD: u8 = 0x12;
const KEY: u8 = 0x1a;
const MESSAGE_ID: u8 = 0x2a;
const DELETED: u8 = 0x30;

impl<'a> PublishFields<'a> {
    /// `None` when only the generated type can read it.
    pub(super) fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Self::default();
        while let Some((&tag, rest)) = bytes.split_first() {
            bytes = rest;
            match tag {
                TOPIC => fields.topic = std::str::from_utf8(delimited(&mut bytes)?).ok()?,
                PAYLOAD => fields.payload = delimited(&mut bytes)?,
                KEY => fields.key = std::str::from_utf8(delimited(&mut bytes)?).ok()?,
                MESSAGE_ID => {
                    fields.message_id = std::str::from_utf8(delimited(&mut bytes)?).ok()?;
                }
                DELETED => fields.deleted = number(&mut bytes)? != 0,
                _ => return None,
            }
        }
        Some(fields)
    }
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(bytes)?;
    let (field, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(field)
}

/// A number of at most five bytes; a longer one is nothing that a `PublishRequest` needs.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use longlived_api::v1;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// The fields read in place are those of the generated type.
    fn agree(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let Some(fields) = PublishFields::read(bytes) else {
            return Ok(false);
        };
        let read = v1::PublishRequest {
            topic: fields.topic.to_owned(),
            payload: fields.payload.to_vec().into(),
            key: fields.key.to_owned(),
            headers: std::collections::BTreeMap::new(),
            message_id: fields.message_id.to_owned(),
            deleted: fields.deleted,
        };
        prop_assert_eq!(Ok(read), v1::PublishRequest::decode(bytes));
        Ok(true)
    }

    /// Bytes that are likely to mean something.
    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let tags = prop::sample::select(vec![0x0a, 0x12, 0x1a, 0x22, 0x2a, 0x30, 0x0b, 0x32, 0x08]);
        let byte = prop_oneof![tags, 0..6_u8, Just(0x80), Just(0xff), Just(b'a')];
        prop::collection::vec(byte, 0..24)
    }

    proptest! {
        #[test]
        fn requests_are_read_as_they_were_written(
            topic in "[a-z.]{0,200}",
            payload in prop::collection::vec(any::<u8>(), 0..300),
            key in ".{0,4}",
            message_id in ".{0,4}",
            deleted: bool,
        ) {
            let request = v1::PublishRequest {
                topic,
                payload: payload.into(),
                key,
                message_id,
                deleted,
                ..v1::PublishRequest::default()
            };
            prop_assert!(agree(&request.encode_to_vec())?, "it is read in place");
        }

        #[test]
        fn any_bytes_are_read_as_the_generated_type_reads_them_or_left_to_it(
            likely in likely(),
            any in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            agree(&likely)?;
            agree(&any)?;
        }
    }

    #[test]
    fn headers_are_left_to_the_generated_type() {
        let request = v1::PublishRequest {
            topic: "t".to_owned(),
            headers: [("a".to_owned(), "b".to_owned())].into(),
            ..v1::PublishRequest::default()
        };
        assert_eq!(PublishFields::read(&request.encode_to_vec()), None);
    }
}
