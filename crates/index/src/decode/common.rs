//! What objects of several kinds are read by: the writer of a field, the labels that selectors name, bounds of length.

use std::sync::Arc;

use regcred_planner::StringMap;

use crate::interest::Interest;
use crate::intern::Interner;
use crate::metadata::{FieldSet, Metadata};

/// The longest name of a Secret.
pub(super) const LONGEST_NAME: usize = 253;

/// Says of which kind a body is, and whether the API server is asked for metadata alone.
macro_rules! body {
    ($body:ty, $kind:ty, metadata_only: $metadata_only:literal) => {
        impl Body for $body {
            type Kind = $kind;
            const METADATA_ONLY: bool = $metadata_only;

            fn metadata(&self) -> &Metadata {
                &self.metadata
            }
        }
    };
}

pub(super) use body;

/// The labels that some selector names.
pub(super) fn labels(metadata: &Metadata, kept: &Interest, interner: &mut Interner) -> StringMap {
    let kept = metadata.labels().filter(|(key, _)| kept.keeps(key));
    interner.map(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The manager, other than our own, that last wrote a field. Where none owns it, the last writer of anything took it
/// off.
pub(super) fn last_other_writer(metadata: &Metadata, owns: impl Fn(&FieldSet) -> bool) -> Option<&str> {
    let others = || {
        let all = metadata.managed_fields();
        all.filter(|entry| !entry.is_ours())
    };
    let owners = others().filter(|entry| entry.fields.as_ref().is_some_and(&owns));
    let writer = owners.max_by_key(|entry| &entry.time);
    writer.or_else(|| others().max_by_key(|entry| &entry.time))?.manager.as_deref()
}

/// A name or UID, unless it is longer than any.
pub(super) fn short(text: Option<&str>) -> Option<Arc<str>> {
    text.filter(|text| text.len() <= LONGEST_NAME).map(Arc::from)
}
