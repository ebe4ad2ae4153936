//! Ranges of IP addresses, such as `10.0.0.0/8` (RFC 4632, RFC 4291).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses whose first bits are those of the network. An address of IPv4 in the form of IPv6 (`::ffff:10.0.0.1`) is one
/// of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It has another form.
    #[error("it is not an address or a range of them, such as 10.0.0.0/8 or fd00::/8")]
    Form,
    /// More bits than the address has.
    #[error("its bits are not from 0 to {0}")]
    Bits(u8),
    /// The address is one within the range.
    #[error("its address has more than those bits; the range is {0}")]
    NotTheNetwork(Cidr),
    /// No peer has such an address.
    #[error("write it as a range of IPv4: {0} in place of ::ffff:{0}")]
    Mapped(Ipv4Addr),
}

impl Cidr {
    /// Whether the address lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4()
            && first_bits(address, self.bits) == self.network
    }
}

/// The address, with zeros behind these bits of it.
fn first_bits(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// All addresses of one address alone.
impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let network = address.to_canonical();
        let bits = if network.is_ipv4() { 32 } else { 128 };
        Self { network, bits }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Form)?;
        if let (IpAddr::V6(_), IpAddr::V4(inner)) = (address, address.to_canonical()) {
            return Err(CidrError::Mapped(inner));
        }
        let one = Self::from(address);
        let Some(bits) = bits else {
            return Ok(one);
        };
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CidrError::Form);
        }
        let bits = bits.parse().ok().filter(|bits| *bits <= one.bits);
        let bits = bits.ok_or(CidrError::Bits(one.bits))?;
        let network = first_bits(address, bits);
        let cidr = Self { network, bits };
        if network != address {
            return Err(CidrError::NotTheNetwork(cidr));
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_addresses_with_its_first_bits() {
        for (range, within, outside) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["9.255.255.255", "11.0.0.0", "::10.0.0.1", "a00::"][..],
            ),
            (
                "192.0.2.128/25",
                &["192.0.2.128", "192.0.2.255"],
                &["192.0.2.127", "192.0.3.128"],
            ),
            (
                "192.0.2.7",
                &["192.0.2.7", "::ffff:192.0.2.7"],
                &["192.0.2.6"],
            ),
            ("0.0.0.0/0", &["1.2.3.4", "::ffff:1.2.3.4"], &["::1"]),
            (
                "fd00::/8",
                &["fd00::1", "fdff:ffff::"],
                &["fe00::", "fc00::", "253.0.0.1"],
            ),
            ("2001:db8::/33", &["2001:db8:7fff::"], &["2001:db8:8000::"]),
            ("::1", &["::1"], &["::2", "0.0.0.1"]),
            ("::/0", &["::", "ffff::"], &["1.2.3.4", "::ffff:1.2.3.4"]),
        ] {
            let cidr: Cidr = range.parse().unwrap();
            for address in within {
                assert!(
                    cidr.contains(address.parse().unwrap()),
                    "{address} in {range}"
                );
            }
            for address in outside {
                assert!(
                    !cidr.contains(address.parse().unwrap()),
                    "{address} in {range}"
                );
            }
        }
    }

    #[test]
    fn a_text_that_is_no_range_is_told_why() {
        for (text, error) in [
            ("", CidrError::Form),
            ("10.0.0/8", CidrError::Form),
            ("10.0.0.0/", CidrError::Form),
            ("10.0.0.0/+8", CidrError::Form),
            ("10.0.0.0/8/8", CidrError::Form),
            ("010.0.0.0/8", CidrError::Form),
            ("[fd00::]/8", CidrError::Form),
            ("fe80::1%eth0", CidrError::Form),
            ("proxy.example", CidrError::Form),
            ("10.0.0.0/33", CidrError::Bits(32)),
            ("10.0.0.0/256", CidrError::Bits(32)),
            ("fd00::/129", CidrError::Bits(128)),
            (
                "10.1.0.0/8",
                CidrError::NotTheNetwork("10.0.0.0/8".parse().unwrap()),
            ),
            (
                "fd00::1/8",
                CidrError::NotTheNetwork("fd00::/8".parse().unwrap()),
            ),
            (
                "::ffff:10.0.0.0/104",
                CidrError::Mapped(Ipv4Addr::new(10, 0, 0, 0)),
            ),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text}");
        }
        assert_eq!(
            "10.0.0.0/8".parse::<Cidr>().unwrap().to_string(),
            "10.0.0.0/8"
        );
        assert_eq!("::1".parse::<Cidr>().unwrap().to_string(), "::1/128");
    }
}
