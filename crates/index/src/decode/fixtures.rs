//! Objects and interests that the tests of several kinds read.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::interest::{Asked, Interests};
use crate::received::{Body, Received};

pub(super) fn read<T: Body>(object: &Value) -> T {
    let received: Received<T> = serde_json::from_str(&object.to_string()).expect("an object with a name");
    received.into_body().expect("one that fits its type")
}

pub(super) fn managed(manager: &str, operation: &str, time: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// Of credentials that select by `pull`, and whose copies carry `team`.
pub(super) fn interests() -> Interests {
    let names = |name: &str| [Arc::from(name)].into();
    let mut interests = Interests::default();
    interests.add(&Asked {
        namespace_labels: names("pull"),
        account_labels: names("pull"),
        copy_labels: names("team"),
        ..Asked::default()
    });
    interests
}
