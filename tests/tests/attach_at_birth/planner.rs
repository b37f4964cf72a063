//! What the planner says of a case, by planning a whole namespace.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use regcred_api::RegistryCredentialSpec;
use regcred_planner::{
    Credential, Memory, Namespace, Scope, ServiceAccount, Settings, Step, World, plan, validate,
};
use serde_json::Value;

use crate::cases::Seen;

/// A RegistryCredential of this name and spec, as the planner takes it.
pub fn credential(name: &str, spec: &Value) -> Arc<Credential> {
    let spec: RegistryCredentialSpec = serde_json::from_value(spec.clone()).unwrap();
    let validated = validate(name, &spec, &Settings::default()).unwrap();
    Arc::new(Credential {
        name: Arc::from(name),
        uid: Arc::from(name),
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
        finalized: true,
        scope: Arc::new(Scope::new(name, spec.target.name.as_deref(), Some(&spec.namespaces))),
        deletion_policy: spec.deletion_policy,
        spec: Ok(Arc::new(validated)),
        copy: None,
    })
}

/// The names that the planner puts on a ServiceAccount with an empty list.
pub fn attached(credentials: &[Arc<Credential>], namespace: &Seen, account: &Seen) -> BTreeSet<String> {
    let name: Arc<str> = Arc::from(account.name.as_str());
    let account = ServiceAccount {
        uid: Arc::from("uid"),
        resource_version: Arc::from("1"),
        labels: Arc::new(account.labels.clone()),
        excluded: account.excluded.opts_out(),
        terminating: false,
        image_pull_secrets: Vec::new(),
        marked: Vec::new(),
        oversized: false,
        list_manager: None,
    };
    let world = World {
        namespace: Namespace {
            name: Arc::from(namespace.name.as_str()),
            labels: Arc::new(namespace.labels.clone()),
            excluded: namespace.excluded.opts_out(),
            terminating: false,
            is_own: namespace.own,
        },
        secrets: BTreeMap::new(),
        service_accounts: BTreeMap::from([(name, account)]),
        credentials: Arc::from(credentials),
        memory: Memory::default(),
    };
    let plan = plan(&world, Timestamp::UNIX_EPOCH);
    let lists = plan.steps.iter().filter_map(|step| match step {
        Step::PatchServiceAccount(patch) => Some(&patch.attach),
        _ => None,
    });
    lists.flatten().map(ToString::to_string).collect()
}
