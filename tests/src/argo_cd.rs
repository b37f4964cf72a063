//! Argo CD's ConfigMap with what it is to know of RegistryCredentials, made of the scripts, which lie as in Argo CD's own
//! repository.

use std::fmt::Write as _;

use crate::{chart::read, error::Result};

/// Where the ConfigMap is.
pub const CONFIG_MAP: &str = "deploy/gitops/argocd/argocd-cm.yaml";
/// Where the scripts are.
pub const SCRIPTS: &str = "deploy/gitops/argocd/resource_customizations/regcred.dev/RegistryCredential";
/// The actions that people may take.
pub const ACTIONS: [&str; 3] = ["refresh", "resume", "suspend"];

const HEAD: &str = "\
# Gives Argo CD a health for RegistryCredentials, and the actions refresh, suspend and resume. It has no health for kinds
# that it does not know: without this, an Application is Healthy as soon as the object exists, and sync waves wait for nothing.
#
# A patch of Argo CD's own ConfigMap: do not `kubectl apply` it, that may take other keys away. Either
#   kubectl -n argocd patch configmap argocd-cm --patch-file argocd-cm.yaml
# or list it under `patches` (`- path: argocd-cm.yaml`) in the kustomization that installs Argo CD. With
# the Helm chart of Argo CD, the same keys go under the value `configs.cm`. No restart is needed.
#
# Made of the scripts in resource_customizations by `just generate`.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels:
    app.kubernetes.io/name: argocd-cm
    app.kubernetes.io/part-of: argocd # Argo CD reads no ConfigMap without it
data:
";

/// The ConfigMap, from the scripts.
pub fn config_map() -> Result<String> {
    let script = |path: &str| read(&format!("{SCRIPTS}/{path}"));
    let key = |what: &str| format!("  resource.customizations.{what}.regcred.dev_RegistryCredential: |\n");
    let mut text = format!("{HEAD}{}{}", key("health"), indented(&script("health.lua")?, 4));
    let discovery = indented(&script("actions/discovery.lua")?, 6);
    // Writing to a String cannot fail.
    let _ = write!(text, "{}    discovery.lua: |\n{discovery}    definitions:\n", key("actions"));
    for action in ACTIONS {
        let script = indented(&script(&format!("actions/{action}/action.lua"))?, 8);
        let _ = write!(text, "    - name: {action}\n      action.lua: |\n{script}");
    }
    Ok(text)
}

/// The text with so many spaces before each line that holds something.
fn indented(text: &str, by: usize) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") };
    text.lines().map(line).collect()
}
