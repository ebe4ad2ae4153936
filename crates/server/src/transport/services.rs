//! Which of a node's services a listener has.
//!
//! Does not: know a service; the code that answers a call asks whether its listener has it.

/// The services of a listener. Health and reflection are at each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Services {
    /// All.
    #[default]
    All,
    /// All but those for administrators.
    Public,
    /// Those for administrators alone.
    Admin,
}

impl Services {
    /// Whether a service is among them that is for administrators, or not.
    pub(crate) fn have(self, is_for_admins: bool) -> bool {
        match self {
            Self::All => true,
            Self::Public => !is_for_admins,
            Self::Admin => is_for_admins,
        }
    }
}
