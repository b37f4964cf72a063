//! The folder of one control plane: keys, audit policy, ports, and each program's command line. Nothing is
//! started here.

use std::{
    collections::hash_map::RandomState,
    fmt::Display,
    hash::BuildHasher as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use crate::{
    binaries::Binaries,
    error::{Context as _, Error, Result},
    identity::{Identity, Proof},
    pki::{self, Authority},
    process::Launch,
};

/// One line per request, once it is answered; without the bodies, which hold credentials.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
 "omitStages": ["RequestReceived", "ResponseStarted"], "rules": [{"level": "Metadata"}]}"#;

/// What the API server answers to; 10.0.0.1 is its address inside the cluster.
const SERVER_NAMES: [&str; 4] = ["127.0.0.1", "localhost", "10.0.0.1", "kubernetes.default.svc"];

/// All that the kube-controller-manager does here: what namespaces, ServiceAccounts and owners need.
const CONTROLLERS: &str = "namespace-controller,serviceaccount-controller,serviceaccount-token-controller,\
                           garbage-collector-controller,root-ca-certificate-publisher-controller";

/// Below the range from which the kernel takes ports for outgoing connections: a client that keeps dialling a
/// stopped API server on a port of that range can end up connected to itself, and the port is gone.
const PORTS: std::ops::Range<u64> = 12_000..32_000;

/// The files and ports of one control plane.
pub struct Site {
    /// Everything lies in here; the supervisor removes it.
    pub folder: PathBuf,
    /// Signs every certificate.
    pub authority: Authority,
    /// The cluster administrator.
    pub admin: Identity,
    /// Where the API server listens.
    pub api_server: SocketAddr,
    /// Where etcd listens for clients.
    pub etcd: SocketAddr,
    etcd_peer: SocketAddr,
    controller_manager: Identity,
}

impl Site {
    /// Makes keys, kubeconfigs and the audit policy in `folder`, and picks free ports.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let authority = Authority::new()?;
        let [api_server, etcd, etcd_peer] = free_addresses()?;
        let member = |user: &str| {
            let proof = Proof::Certificate(authority.client(user, &["system:masters"])?);
            let file = folder.join(format!("{}.kubeconfig", user.rsplit(':').next().unwrap_or(user)));
            Identity::write(user, &file, &url(api_server), authority.certificate(), &proof)
        };
        let (admin, controller_manager) = (member("admin")?, member("system:kube-controller-manager")?);
        let server = authority.server(&SERVER_NAMES)?;
        let (token_key, token_public_key) = pki::token_keys()?;
        let files = [
            ("ca.crt", authority.certificate()),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("service-account.key", &token_key),
            ("service-account.pub", &token_public_key),
            ("audit-policy.json", AUDIT_POLICY),
        ];
        for (name, content) in files {
            std::fs::write(folder.join(name), content).context(format!("write {name}"))?;
        }
        let folder = folder.to_owned();
        Ok(Self { folder, authority, admin, api_server, etcd, etcd_peer, controller_manager })
    }

    /// The API server's URL.
    pub fn api_url(&self) -> String {
        url(self.api_server)
    }

    /// The audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// How etcd is started.
    pub fn launch_etcd(&self, binaries: &Binaries) -> Launch {
        let (client, peer) = (format!("http://{}", self.etcd), format!("http://{}", self.etcd_peer));
        let arguments = vec![
            flag("listen-client-urls", &client),
            flag("advertise-client-urls", &client),
            flag("listen-peer-urls", &peer),
            flag("initial-advertise-peer-urls", &peer),
            flag("initial-cluster", format!("default={peer}")),
            flag("data-dir", self.path("etcd")),
            flag("unsafe-no-fsync", true),
            // Thirty thousand large Secrets and their history are more than the default of two gigabytes.
            flag("quota-backend-bytes", 8_u64 << 30),
        ];
        launch("etcd", &binaries.etcd, arguments)
    }

    /// How kube-apiserver is started. The ServiceAccount admission plugin stays on: Pods really get the list.
    pub fn launch_api_server(&self, binaries: &Binaries, extra: &[String]) -> Launch {
        let mut arguments = vec![
            flag("etcd-servers", format!("http://{}", self.etcd)),
            flag("bind-address", self.api_server.ip()),
            flag("secure-port", self.api_server.port()),
            flag("tls-cert-file", self.path("server.crt")),
            flag("tls-private-key-file", self.path("server.key")),
            flag("client-ca-file", self.path("ca.crt")),
            flag("authorization-mode", "RBAC"),
            flag("allow-privileged", true),
            flag("service-cluster-ip-range", "10.0.0.0/24"),
            flag("endpoint-reconciler-type", "none"),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", self.path("service-account.pub")),
            flag("service-account-signing-key-file", self.path("service-account.key")),
            flag("audit-policy-file", self.path("audit-policy.json")),
            flag("audit-log-path", self.audit_log().display()),
            // An entry is in the file before its reply is out, so counts are exact the moment a reply arrives.
            flag("audit-log-mode", "blocking"),
            // In megabytes; a rotated file would hide what came before.
            flag("audit-log-maxsize", 100_000),
        ];
        arguments.extend_from_slice(extra);
        launch("kube-apiserver", &binaries.kube_apiserver, arguments)
    }

    /// How kube-controller-manager is started; with limits so high that it is never what a test waits for.
    pub fn launch_controller_manager(&self, binaries: &Binaries, extra: &[String]) -> Launch {
        let mut arguments = vec![
            flag("kubeconfig", self.controller_manager.kubeconfig.display()),
            flag("leader-elect", false),
            flag("secure-port", 0),
            flag("service-account-private-key-file", self.path("service-account.key")),
            flag("root-ca-file", self.path("ca.crt")),
            flag("kube-api-qps", 2000),
            flag("kube-api-burst", 4000),
            flag("controllers", CONTROLLERS),
        ];
        arguments.extend_from_slice(extra);
        launch("kube-controller-manager", &binaries.kube_controller_manager, arguments)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn flag(name: &str, value: impl Display) -> String {
    format!("--{name}={value}")
}

fn launch(name: &str, program: &Path, arguments: Vec<String>) -> Launch {
    Launch { name: name.to_owned(), program: program.to_owned(), arguments, environment: Vec::new() }
}

fn url(address: SocketAddr) -> String {
    format!("https://{address}")
}

/// Different addresses, each free at this moment: all are held until all are found.
pub fn free_addresses<const COUNT: usize>() -> Result<[SocketAddr; COUNT]> {
    let offset = RandomState::new().hash_one(std::process::id());
    let span = PORTS.end - PORTS.start;
    let candidates = (0..span).filter_map(|step| {
        let port = PORTS.start + (offset.wrapping_add(step)) % span;
        TcpListener::bind((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?)).ok()
    });
    let listeners: Vec<TcpListener> = candidates.take(COUNT).collect();
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    addresses.try_into().map_err(|_| Error::Unexpected("no free loopback ports".to_owned()))
}
