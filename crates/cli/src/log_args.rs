//! The flags of the log of `longlived serve`.

use crate::logging::LogFormat;
use crate::values;

/// How the log is written.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Format of the log on standard error. RUST_LOG sets the filter (info,h2=warn unless set).
    #[arg(
        id = "log_format",
        long = "log-format",
        env = "LONGLIVED_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub(crate) format: LogFormat,

    /// Bytes of the log that are written at once, and again each second. Further lines are dropped and counted.
    #[arg(
        id = "log_rate_max",
        long = "log-rate-max",
        env = "LONGLIVED_LOG_RATE_MAX",
        value_name = "BYTES",
        value_parser = values::bytes::<u64>(4 << 10..=1 << 40),
        default_value = "512KiB"
    )]
    pub(crate) rate_max: u64,
}
