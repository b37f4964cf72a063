//! What stays when everything is deleted: running Pods, and nothing else.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ExitCode, Stdio},
};

use regcred_tests::{eventually, node};

use crate::stage::{HOST, SOON, Stage, pod, puller, read};

/// The argument with which this program only starts a node, says so, and holds it until it is killed.
pub(crate) const HOLD: &str = "--hold-a-node";

pub(crate) async fn hold() -> ExitCode {
    let node = node::Node::start().await.unwrap();
    println!("{} {}", node.control_plane().folder().display(), node::cgroup(std::process::id()));
    std::future::pending().await
}

pub(crate) async fn removed_in_the_documented_order_pods_go_on_and_nothing_is_left(stage: &Stage) {
    let image = stage.new_image("acme/stays", &puller()).await;
    stage.credential("stays", HOST, &puller()).await;
    stage.namespace("stays", "stays").await;
    stage.served("stays", "stays").await;
    stage.apply(&[pod("stays", "app", &image)]).await;
    stage.runs("stays", "app", SOON).await;
    let life = "get pod app --namespace stays --output \
                jsonpath={.metadata.uid}/{.status.containerStatuses[0].containerID}/{.status.containerStatuses[0].restartCount}";
    let before = stage.kubectl(life).await;

    let readme = read("README.md");
    let readme = readme.split_once("**Uninstall**").expect("the README tells how to uninstall").1;
    let order = [
        "kubectl delete regcred --all",
        "helm uninstall regcred --namespace regcred-system",
        "kubectl delete crd registrycredentials.regcred.dev",
    ];
    let at: Vec<usize> = order.iter().map(|command| readme.find(command).expect(command)).collect();
    assert!(at.is_sorted(), "the README documents this order");
    stage.kubectl("delete regcred --all").await;
    let uninstall = ["uninstall", "regcred", "--namespace", "regcred-system", "--wait"];
    regcred_tests::chart::helm(Some(stage.node.control_plane()), &uninstall).await.unwrap();
    stage.kubectl("delete crd registrycredentials.regcred.dev").await;

    let copies = "get secrets --all-namespaces --selector app.kubernetes.io/managed-by=regcred,regcred.dev/credential --output name";
    assert_eq!(stage.kubectl(copies).await, "");
    let entries = "get serviceaccounts --all-namespaces --output jsonpath={.items[*].imagePullSecrets}";
    assert_eq!(stage.kubectl(entries).await, "");
    let kinds = "get validatingadmissionpolicies,mutatingadmissionpolicies,clusterroles,clusterrolebindings --output name";
    assert!(!stage.kubectl(kinds).await.contains("/regcred"), "{}", stage.kubectl(kinds).await);
    assert_eq!(stage.kubectl(life).await, before, "the Pod goes on");
    assert!(stage.state("stays", "app").await.starts_with("Running true"));
}

pub(crate) async fn a_killed_program_leaves_nothing_of_its_node(_: &Stage) {
    let mut child = KilledOnDrop(node::another().unwrap().arg(HOLD).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (folder, cgroup) = line.trim().split_once(' ').expect("the folder and the cgroup of its node");
    assert!(std::path::Path::new(folder).is_dir());
    assert!(!groups(cgroup).is_empty(), "the node has a cgroup");
    drop(child);
    eventually("folder, cgroups and processes of the node to be gone", SOON, async || {
        let left: Vec<String> = groups(cgroup)
            .into_iter()
            .chain(std::path::Path::new(folder).exists().then(|| folder.to_owned()))
            .chain(processes_that_name(folder))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    })
    .await;
}

/// Which of the folders are there that containerd and the kubelet make by default.
pub(crate) fn places_outside() -> Vec<&'static str> {
    let places = ["/opt/containerd", "/usr/libexec/kubernetes/kubelet-plugins/volume"];
    places.into_iter().filter(|place| std::path::Path::new(place).exists()).collect()
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn groups(name: &str) -> Vec<String> {
    let root = std::path::Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([root.to_owned()]).map(|folder| folder.join(name));
    all.filter(|path| path.is_dir()).map(|path| path.display().to_string()).collect()
}

/// Command lines of processes in which this folder occurs.
fn processes_that_name(folder: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(folder)).map(|line| line.replace('\0', " ")).collect()
}
