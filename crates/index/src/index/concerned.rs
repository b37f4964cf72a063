//! Which namespaces a RegistryCredential concerns.

use std::sync::Arc;

use regcred_planner::{Credential, Namespace, Secret};

use super::state::Index;

impl Index {
    /// Namespaces that one of these versions of a RegistryCredential selects, or that hold a copy or an entry.
    pub fn concerned(&self, versions: &[Option<&Credential>]) -> Vec<Arc<str>> {
        let names = self.namespaces.iter().map(|((_, name), _)| name);
        let concerned =
            names.filter(|name| self.is_selected(name, versions) || self.holds_work(name, versions));
        concerned.cloned().collect()
    }

    fn is_selected(&self, name: &Arc<str>, versions: &[Option<&Credential>]) -> bool {
        let selects = |version: &Credential, namespace: &Namespace| match &version.spec {
            Ok(spec) => spec.namespaces.selects(namespace),
            // It keeps its claim.
            Err(_) => version.scope.covers(namespace),
        };
        let namespace = self.namespace(name);
        namespace.is_some_and(|namespace| versions.iter().flatten().any(|own| selects(own, &namespace)))
    }

    fn holds_work(&self, name: &Arc<str>, versions: &[Option<&Credential>]) -> bool {
        let mut versions = versions.iter().flatten();
        versions.any(|version| self.holds_copy(name, version) || self.holds_entry(name, version))
    }

    fn holds_copy(&self, name: &Arc<str>, version: &Credential) -> bool {
        self.copies(name, version).next().is_some()
    }

    /// The names of the copies in a namespace.
    pub(super) fn copies<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        version: &'a Credential,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let is_copy = |secret: &Secret| {
            let uids = secret.marks.iter().flat_map(|marks| [&marks.credential_uid, &marks.owner_uid]);
            uids.flatten().any(|uid| *uid == version.uid)
        };
        let secrets = self.secrets.iter().flat_map(|(_, shelf)| shelf.in_namespace(namespace));
        secrets.filter(move |(_, secret)| is_copy(secret)).map(|(name, _)| name)
    }

    fn holds_entry(&self, name: &Arc<str>, version: &Credential) -> bool {
        let mut accounts = self.service_accounts.in_namespace(name);
        // While one is idle, marked entries that are nobody's stay.
        accounts.any(|(_, account)| {
            account.marks(&version.scope.target_name) || (version.is_idle() && !account.marked.is_empty())
        })
    }
}
