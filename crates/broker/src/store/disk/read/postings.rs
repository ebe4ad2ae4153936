//! The index by topic of a sealed file, from memory or the disk.

use std::sync::Arc;

use super::{
    super::{Shared, format::Postings, sealed::Sealed},
    Io, Miss,
};

impl Shared {
    /// `None` when it is damaged; the blocks then have to be looked at one by one.
    pub(super) fn postings_of(&self, file: &Sealed, io: Io) -> Result<Option<Arc<Postings>>, Miss> {
        if let Some(known) = self.postings.get(&file.id) {
            return Ok(Some(known));
        }
        if io == Io::MemoryOnly {
            return Err(Miss::NotInMemory);
        }
        // Readers that want the same one wait for one read.
        let load = || match file.load_postings() {
            Ok(Some(postings)) => Ok(Arc::new(postings)),
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        };
        match self.postings.get_or_insert_with(&file.id, load) {
            Ok(postings) => Ok(Some(postings)),
            Err(None) => {
                tracing::error!(file = %file.path.display(), "damaged: the index by topic; reading without it");
                Ok(None)
            }
            Err(Some(error)) => Err(error.into()),
        }
    }

    /// The same for retention, which may always ask the disk.
    pub(in super::super) fn postings_for_retention(
        &self,
        file: &Sealed,
    ) -> std::io::Result<Option<Arc<Postings>>> {
        match self.postings_of(file, Io::Disk) {
            Ok(postings) => Ok(postings),
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::NotInMemory) => Ok(None),
        }
    }
}
