//! The quotas in the auth file: those of everybody, and those of an issuer's callers.

use toml::Value;

use super::fields::{Fields, bad, kind};
use crate::error::AuthFileError;
use crate::quotas::Quotas;

/// The largest value of a quota: no node comes to it.
const MAX: u64 = 1 << 40;

/// The quotas of the table `quotas` in `fields`; what it does not name is as in `default`.
pub(super) fn read(fields: &mut Fields, default: Quotas) -> Result<Quotas, AuthFileError> {
    let mut quotas = default;
    let places = [
        ("streams", &mut quotas.streams, 0),
        ("filters", &mut quotas.filters, 0),
        ("publish_messages", &mut quotas.publish_messages, 0),
        ("publish_bytes", &mut quotas.publish_bytes, 0),
        // With none no message would ever go.
        ("in_flight_bytes", &mut quotas.in_flight_bytes, 1 << 10),
    ];
    let names = [0, 1, 2, 3, 4].map(|index: usize| places[index].0);
    let Some(mut fields) = fields.table("quotas", &names)? else {
        return Ok(default);
    };
    for (name, place, min) in places {
        let at = fields.at_key(name);
        match fields.value(name) {
            None => {}
            Some(Value::Integer(value)) => {
                let value = u64::try_from(value).ok();
                let value = value.filter(|value| (min..=MAX).contains(value));
                *place = value.ok_or_else(|| bad(&at, format!("must be from {min} to {MAX}")))?;
            }
            Some(other) => return Err(kind(&at, "a number", &other)),
        }
    }
    Ok(quotas)
}
