#!/bin/sh
# Process 1 of a node's pid namespace, in a mount namespace of its own: prepares what containerd and the kubelet insist
# on, and runs both. Everything that they start and mount goes when this process is ended.
set -eu

# A cgroup of its own in every hierarchy; the supervisor removes it (finally.sh).
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p "/sys/fs/cgroup/$CGROUP/node"
  echo $$ > "/sys/fs/cgroup/$CGROUP/node/cgroup.procs"
  for group in /sys/fs/cgroup "/sys/fs/cgroup/$CGROUP"; do
    for controller in cpu memory pids cpuset io hugetlb; do
      # A machine may lack some of them; the kubelet says which it cannot do without.
      echo "+$controller" > "$group/cgroup.subtree_control" 2> /dev/null || true
    done
  done
else
  for hierarchy in /sys/fs/cgroup/*/; do
    case $hierarchy in */unified/) continue ;; esac
    mkdir -p "$hierarchy$CGROUP/node"
    case $hierarchy in */cpuset/)
      for group in "$CGROUP" "$CGROUP/node"; do
        cat "${hierarchy}cpuset.cpus" > "$hierarchy$group/cpuset.cpus"
        cat "${hierarchy}cpuset.mems" > "$hierarchy$group/cpuset.mems"
      done ;;
    esac
    echo $$ > "$hierarchy$CGROUP/node/cgroup.procs"
  done
fi

# What the programs write to fixed places lies in the node's folder or in memory.
mount -t tmpfs -o mode=755 tmpfs /run
for place in lib log; do
  mkdir -p "$FOLDER/var-$place/upper" "$FOLDER/var-$place/work"
  mount -t overlay -o "lowerdir=/var/$place,upperdir=$FOLDER/var-$place/upper,workdir=$FOLDER/var-$place/work" \
    overlay "/var/$place"
done

# The kubelet insists on six settings of the whole machine: it is shown what it wants, and the kernel is left alone.
mkdir -p /run/sysctl
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=/run/sysctl/$(echo "${setting%=*}" | tr / _)
  echo "${setting#*=}" > "$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
mount --make-rshared /

"$CONTAINERD" --config "$FOLDER/containerd.toml" > "$FOLDER/containerd.log" 2>&1 &
tries=0
until "$CTR" --address "$SOCKET" version > /dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 300 ] || { tail -5 "$FOLDER/containerd.log" >&2; exit 1; }
  sleep 0.1
done
"$CTR" --address "$SOCKET" --namespace k8s.io images import "$FOLDER/pause.tar"
"$KUBELET" --config "$FOLDER/kubelet.json" --kubeconfig "$KUBECONFIG" --root-dir "$FOLDER/kubelet" \
  --cert-dir "$FOLDER/kubelet/pki" --hostname-override "$NODE" --node-ip "$ADDRESS" --v 2 &
kubelet=$!
# Orphans of the Pods end up here, and are reaped by the shell.
wait "$kubelet"
