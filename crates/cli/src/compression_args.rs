//! The encodings that a node offers to its subscribers, and the memory that it keeps for them.

use std::str::FromStr;

use longlived_server::{Compression, Config, LogConfig};

use crate::values;

/// Of `longlived serve`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeCompressionArgs {
    /// Encodings for events of 1 KiB or more, preferred first; `off` for none. A subscriber gets one that it names
    /// in the metadata key longlived-compression and accepts. Requests may be compressed in any case.
    #[arg(
        long,
        env = "LONGLIVED_COMPRESSION",
        value_name = "ENCODINGS",
        default_value = "zstd,gzip"
    )]
    compression: Offered,

    /// Bytes of compressed events that are cached for further subscribers, all encodings together. An event that is
    /// no longer cached is compressed again when it is read.
    #[arg(
        long,
        env = "LONGLIVED_COMPRESSED_BYTES_MAX",
        value_name = "BYTES",
        value_parser = values::bytes::<usize>(LogConfig::COMPRESSED_BYTES_MIN as u64..=1 << 50),
        default_value_t = Config::default().log.compressed_bytes_max
    )]
    compressed_bytes_max: usize,
}

impl ServeCompressionArgs {
    pub(crate) fn apply(self, config: &mut Config) {
        config.compressions = self.compression.0;
        config.log.compressed_bytes_max = self.compressed_bytes_max;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Offered(Vec<Compression>);

impl FromStr for Offered {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KNOWN: [Compression; 2] = [Compression::Zstd, Compression::Gzip];

        let mut offered = Vec::new();
        if text == "off" {
            return Ok(Self(offered));
        }
        for name in text.split(',') {
            let known = KNOWN.into_iter().find(|known| known.as_str() == name);
            let Some(compression) = known else {
                return Err(format!("`{name}` is none of zstd, gzip, or `off` alone"));
            };
            if offered.contains(&compression) {
                return Err(format!("`{name}` is there twice"));
            }
            offered.push(compression);
        }
        Ok(Self(offered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_encodings_keep_their_order_and_an_unknown_one_is_named() {
        let offered = |text: &str| text.parse().map(|Offered(list)| list);
        assert_eq!(offered("off"), Ok(Vec::new()));
        assert_eq!(offered("gzip"), Ok(vec![Compression::Gzip]));
        assert_eq!(
            offered("gzip,zstd"),
            Ok(vec![Compression::Gzip, Compression::Zstd])
        );
        for (wrong, says) in [
            ("", "``"),
            ("br", "`br`"),
            ("zstd,", "``"),
            ("zstd,off", "`off`"),
            ("identity", "`identity`"),
            ("gzip,gzip", "twice"),
        ] {
            let error = offered(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
