//! What the operator takes beside hundreds of objects of the largest size that the API server stores, and after they are gone:
//! measured, held to a bound, and written into `docs/hostile-memory.md`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use regcred_tests::binaries::kubernetes_version;
use regcred_tests::install::{self, OPERATOR_NAMESPACE};
use regcred_tests::wait::try_eventually;
use regcred_tests::{
    ControlPlane, Operator, OperatorOptions, Options, Proxy, SECRET_KEY, SECRET_TYPE, hostile, image,
};
use serde_json::{Map, Value, json};

use crate::{
    Error, Result,
    goals::mebibytes,
    usage::{Usage, settled},
};

/// Servers in the source of these credentials, which make 0.93 MB.
const SERVERS: usize = 3_000;
/// How much more memory than at rest before is still good: at most, and after they are gone, when open
/// connections keep their buffers, the allocator keeps some of what was in use, and code that ran is mapped.
const MOST: u64 = 64 * 1024 * 1024;
const LEFT: u64 = 12 * 1024 * 1024;
/// Namespaces to which one of the credentials goes, as many as are worked on at once.
const WIDE: usize = 32;
const REST: Duration = Duration::from_mins(5);
const READY: Duration = Duration::from_mins(10);
const SERVED: &str = "served";
const TENANT: &str = "tenant";

/// How many objects of each kind.
#[derive(Clone, Copy, Debug)]
struct Counts {
    service_accounts: usize,
    secrets: usize,
    credentials: usize,
}

impl Counts {
    fn of(objects: usize) -> Self {
        let (service_accounts, secrets) = (objects * 40 / 100, objects * 37 / 100);
        Self { service_accounts, secrets, credentials: objects - service_accounts - secrets }
    }
}

/// What the operator holds in one situation.
#[derive(Debug)]
pub struct Situation {
    name: &'static str,
    usage: Usage,
}

/// Measures beside this many objects, and returns the page. An error if a bound does not hold.
pub async fn measure(objects: usize, say: &impl Fn(&str)) -> Result<String> {
    let counts = Counts::of(objects);
    // It blocks, and nothing else runs yet.
    let program = image::operator()?;
    let control_plane = ControlPlane::start(Options::default()).await?;
    install::install(&control_plane).await?;
    let rig = Rig { client: control_plane.admin().await?, control_plane, counts, program };
    let situations = rig.situations(say).await?;
    check(&situations)?;
    Ok(page(counts, &situations))
}

struct Rig {
    client: Client,
    control_plane: ControlPlane,
    counts: Counts,
    program: PathBuf,
}

impl Rig {
    async fn situations(&self, say: &impl Fn(&str)) -> Result<Vec<Situation>> {
        let mut situations = Vec::new();
        let mut note = async |name, operator: &Operator| -> Result<()> {
            let usage = settled(operator.id(), REST).await?;
            say(&format!("{name}: {} MiB, at most {}", whole(usage.resident), whole(usage.peak)));
            situations.push(Situation { name, usage });
            Ok(())
        };
        self.prepare().await?;
        let operator = self.operator(None).await?;
        self.in_place(SERVED, "pull").await?;
        note("one credential in one namespace", &operator).await?;

        say("making large objects");
        self.make_large().await?;
        note("beside large objects", &operator).await?;
        operator.kill();
        let operator = self.operator(None).await?;
        self.repaired().await?;
        note("restarted beside them", &operator).await?;
        operator.kill();
        let proxy = Proxy::start(&self.control_plane)?;
        proxy.refuse_streaming_lists();
        let operator = self.operator(Some(&proxy)).await?;
        self.repaired().await?;
        note("the same, where lists come in pages", &operator).await?;

        say("removing them");
        self.remove_large().await?;
        note("after they are gone", &operator).await?;
        Ok(situations)
    }

    /// What is there in the first situation.
    async fn prepare(&self) -> Result<()> {
        self.namespace(SERVED, SERVED).await?;
        self.namespace(TENANT, TENANT).await?;
        for number in 0..WIDE {
            self.namespace(&wide(number), "wide").await?;
        }
        self.source("small", 1).await?;
        self.source("large", SERVERS).await?;
        self.credential("pull", "small", SERVED).await
    }

    async fn make_large(&self) -> Result<()> {
        hostile::make_service_accounts(&self.client, TENANT, self.counts.service_accounts).await?;
        hostile::apply_secrets(&self.client, TENANT, self.counts.secrets).await?;
        for number in 1..self.counts.credentials {
            self.credential(&large(number), "large", SERVED).await?;
        }
        self.credential(&large(0), "large", "wide").await?;
        for number in 1..self.counts.credentials {
            self.in_place(SERVED, &large(number)).await?;
        }
        for number in 0..WIDE {
            self.in_place(&wide(number), &large(0)).await?;
        }
        Ok(())
    }

    async fn remove_large(&self) -> Result<()> {
        hostile::remove(&self.client, TENANT).await?;
        for number in 0..self.counts.credentials {
            self.credentials().delete(&large(number), &DeleteParams::default()).await?;
        }
        for number in 0..self.counts.credentials {
            self.gone(&large(number)).await?;
        }
        self.repaired().await
    }

    async fn operator(&self, proxy: Option<&Proxy>) -> Result<Operator> {
        let options = OperatorOptions {
            binary: Some(self.program.clone()),
            api_url: proxy.map(Proxy::url),
            log_level: "warn".to_owned(),
            ..OperatorOptions::default()
        };
        let operator = Operator::start(&self.control_plane, options).await?;
        let ready = async || match operator.readyz().await {
            Ok(reply) if reply.status == 200 => Ok(()),
            reply => Err(format!("{reply:?}")),
        };
        try_eventually("the operator to be ready", READY, ready).await?;
        Ok(operator)
    }

    async fn namespace(&self, name: &str, label: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"pull": label}},
        });
        apply(&Api::<Namespace>::all(self.client.clone()), name, &object).await
    }

    async fn source(&self, name: &str, servers: usize) -> Result<()> {
        let login = json!({"username": "bot", "password": "x".repeat(96), "auth": auth()});
        let auths = (0..servers).map(|number| (format!("r{number}.example.com"), login.clone()));
        let config = json!({"auths": Value::Object(auths.collect::<Map<_, _>>())}).to_string();
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": {"name": name},
            "stringData": {SECRET_KEY: config},
        });
        apply(&Api::<Secret>::namespaced(self.client.clone(), OPERATOR_NAMESPACE), name, &object).await
    }

    async fn credential(&self, name: &str, source: &str, label: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": {"name": name},
            "spec": {
                "dockerConfigSecretRefs": [{"name": source}],
                "namespaces": {"selector": {"matchLabels": {"pull": label}}},
                "serviceAccounts": {"from": "None"},
            },
        });
        apply(&self.credentials(), name, &object).await
    }

    fn credentials(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("regcred.dev", "v1alpha1", "RegistryCredential");
        let resource = ApiResource::from_gvk_with_plural(&kind, "registrycredentials");
        Api::all_with(self.client.clone(), &resource)
    }

    fn copies(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn in_place(&self, namespace: &str, name: &str) -> Result<()> {
        try_eventually(&format!("Secret {namespace}/{name}"), READY, async || {
            let found = self.copies(namespace).get_metadata_opt(name).await;
            found.map_err(|error| error.to_string())?.map(drop).ok_or_else(|| "not there".to_owned())
        })
        .await?;
        Ok(())
    }

    /// A RegistryCredential ends when its copies are removed.
    async fn gone(&self, name: &str) -> Result<()> {
        try_eventually(&format!("the end of {name}"), READY, async || {
            let found = self.credentials().get_metadata_opt(name).await;
            found.map_err(|error| error.to_string())?.map_or(Ok(()), |_| Err("still there".to_owned()))
        })
        .await?;
        Ok(())
    }

    /// The credential of somebody else is still kept right.
    async fn repaired(&self) -> Result<()> {
        self.copies(SERVED).delete("pull", &DeleteParams::default()).await?;
        self.in_place(SERVED, "pull").await
    }
}

fn large(number: usize) -> String {
    format!("large-{number}")
}

fn wide(number: usize) -> String {
    format!("wide-{number}")
}

fn auth() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("bot:{}", "x".repeat(96)))
}

async fn apply<K>(api: &Api<K>, name: &str, object: &Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::apply("hostile-memory").force(), &Patch::Apply(object)).await?;
    Ok(())
}

fn check(situations: &[Situation]) -> Result<()> {
    let Some((before, others)) = situations.split_first() else { return Ok(()) };
    let last = others.len().saturating_sub(1);
    for (number, Situation { name, usage }) in others.iter().enumerate() {
        let (what, is, allowed) =
            if number == last { ("resident", usage.resident, LEFT) } else { ("at most", usage.peak, MOST) };
        if is > before.usage.resident + allowed {
            return Err(Error::Undone {
                subject: "regcred".to_owned(),
                workload: (*name).to_owned(),
                reason: format!("{what} {} MiB, {} before", whole(is), whole(before.usage.resident)),
            });
        }
    }
    Ok(())
}

/// In whole mebibytes.
fn whole(bytes: u64) -> String {
    format!("{:.0}", mebibytes(bytes))
}

fn page(counts: Counts, situations: &[Situation]) -> String {
    let Counts { service_accounts, secrets, credentials } = counts;
    let mut page = format!(
        "# Memory beside a hostile tenant\n\n\
         Made by `just hostile-memory`, which fails where a bound below does not hold; Kubernetes {}, the\n\
         static binary that images ship.\n\n\
         The tenant may edit one namespace that nothing selects, and fills it with {service_accounts} ServiceAccounts of \
         30,000\nlabels and {secrets} Secrets with a mark of regcred and 36,000 annotations, applied as `fieldManager=regcred`. \
         An author\nmakes {credentials} RegistryCredentials on one source of 0.93 MB, one of which goes to {WIDE} namespaces at once. Each \
         object is about as\nlarge as the API server stores.\n\n\
         | | resident, MiB | most ever, MiB | processor seconds since start |\n|---|---:|---:|---:|\n",
        kubernetes_version()
    );
    for Situation { name, usage } in situations {
        let (resident, peak) = (whole(usage.resident), whole(usage.peak));
        let _infallible = writeln!(page, "| {name} | {resident} | {peak} | {:.1} |", usage.cpu_seconds);
    }
    let _infallible = write!(
        page,
        "\nBounds: at most {} MiB more than in the first row at any time, {} MiB more at rest once they are gone: open\n\
         connections keep buffers as large as they needed, the allocator keeps some of what was in use, and code that ran\n\
         stays mapped. It hardly grows with their number.\n\n\
         {KEPT}",
        whole(MOST),
        whole(LEFT)
    );
    page
}

const KEPT: &str = "\
What is kept of an object is bounded, whatever is in it:

| of | is kept |
|---|---|
| a namespace, a ServiceAccount | the labels that some RegistryCredential's selector names; a new one lists that kind again, and until then the former spec is in force |
| the list of a ServiceAccount | up to 64 entries; a longer one is nobody's but its writer's, and regcred does not write it |
| a Secret | regcred's own marks, and the keys of `target.metadata`, with values up to 4 KiB |
| a Secret of the operator's namespace | its data, if some RegistryCredential names it; otherwise nothing |
| a credential | its content once, however many RegistryCredentials give the same |
| what was done in a namespace | 4,096 writes |

So is what is in flight: of copies of more than 32 KiB as many are written at once as hold 4 MiB together, and where the API
server does not stream lists, one list at a time comes in pages of ten objects, of which one is read at a time.
";
