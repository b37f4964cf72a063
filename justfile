# Every check that CI makes, by the name under which you run it yourself.

packages := "regcred-dockerconfig regcred-api regcred-planner regcred-https regcred-registry regcred-sources regcred-index regcred-controller regcred regcred-plugin regcred-tests regcred-bench regcred-image regcred-simulation"

# List the recipes
default:
    @just --list

# Everything a change must pass
check: test checks

# Everything but the tests
checks: fmt-check lint deny crates generated reproducible image sbom

# All tests, from unit to control plane; builds the control plane the first time
test:
    cargo test

# Tell the story on an embedded control plane
demo *ARGS:
    cargo demo {{ARGS}}

# Run the operator in simulated clusters: --seeds N tries many, --seed N shows one
simulate *ARGS:
    cargo run --quiet --profile simulate --package regcred-simulation -- {{ARGS}}

# Ask the kubelet's own code what it finds with a source and with its copy, for many generated ones: about a minute
keyring CASES="100000":
    REGCRED_KEYRING_CASES={{CASES}} cargo test --quiet --package regcred-tests --test keyring -- --nocapture

# Start Pods on a node, one every three seconds, from a registry whose tokens live a minute; needs root: ten minutes
rolling-node PODS="200":
    REGCRED_ROLLING_PODS={{PODS}} REGCRED_NODE_TESTS=required cargo test --quiet --package regcred-tests --test node -- no_pull_fails

# Try the chart, the main job, the contract and the cage on another Kubernetes: `just matrix 1.30.14` builds that one's programs once (some minutes), `just matrix 1.33` has the usual one emulate it
matrix VERSION *ARGS="--test main_job --test contract --test security --test sources --test versions":
    REGCRED_KUBERNETES={{VERSION}} cargo test {{ARGS}}

# Measure against the bare writer: some minutes with --quick, a quarter of an hour without
bench *ARGS:
    cargo bench-regcred {{ARGS}}

# Measure memory and processor time beside a hostile tenant, and write docs/hostile-memory.md: twenty minutes; with fewer (--objects N) target/hostile-memory.md
hostile-memory *ARGS:
    cargo run --quiet --package regcred-bench --bin hostile-memory -- {{ARGS}}

# Format
fmt:
    cargo fmt --all

# Fail on unformatted code
fmt-check:
    cargo fmt --all --check

# Fail on any warning, and on a dependency that nothing uses
lint:
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    cargo machete --with-metadata

# Licences, origins, banned and doubled crates, and who may depend on the Kubernetes client
deny:
    cargo deny check bans licenses sources

# Known vulnerabilities of dependencies; needs the network, so a scheduled job runs it and no other check does
advisories:
    cargo deny check advisories

# Each crate compiles alone, and the operator without single clouds: feature unification of the workspace hides a missing dependency
crates:
    for package in {{packages}}; do cargo check --quiet --package $package || exit 1; done
    cargo check --quiet --package regcred --no-default-features

# Write the generated files
generate:
    cargo run --quiet --package regcred -- crd > crds/registrycredentials.regcred.dev.yaml
    cargo run --quiet --package regcred-tests --bin generate
    cargo run --quiet --package regcred-bench --bin bench-regcred -- --render
    UPDATE_PICTURES=1 cargo test --quiet --package regcred-plugin pictures

# Fail if regenerating changes anything
generated: generate
    git diff --exit-code -- crds deploy docs bench/results README.md

# The image as an OCI layout in target/image, for amd64 and arm64 (needs gcc-aarch64-linux-gnu); prints its digest
image *ARGS:
    cargo run --quiet --package regcred-image -- {{ARGS}}

# The files of a release in target/dist, for which it needs Helm: `just release --dry-run` before there is a tag, which takes of the plugin for other systems what is in target/plugins. Prints the image's digest
release *ARGS: sbom
    cargo run --quiet --package regcred-image --bin regcred-release -- --add target/regcred.cdx.json {{ARGS}}

# Type-check the plugin for macOS and Windows, whose linkers are not here; the C code of ring is not compiled for them
plugin-systems:
    #!/usr/bin/env bash
    set -euo pipefail
    # Checking links nothing, so that an empty file will do for each object and archive.
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    printf '#!/bin/sh\nwhile [ "$#" -gt 0 ]; do [ "$1" != -o ] || : > "$2"; shift; done\n' > "$tools/compile"
    printf '#!/bin/sh\nfor word; do case "$word" in *.a) : > "$word" ;; esac; done\n' > "$tools/archive"
    chmod +x "$tools/compile" "$tools/archive"
    for target in aarch64-apple-darwin x86_64-apple-darwin x86_64-pc-windows-gnu; do
        rustup --quiet target add "$target"
        env "CC_${target//-/_}=$tools/compile" "AR_${target//-/_}=$tools/archive" \
            cargo check --quiet --locked --package regcred-plugin --target "$target"
        echo "$target: checked"
    done

# Audit ten thousand Pods with the plugin, hold it to its bounds, and write the numbers into docs/kubectl-regcred.md: some minutes
plugin-cost *ARGS:
    cargo run --quiet --package regcred-bench --bin plugin-cost -- {{ARGS}}

# Fail unless the image built in another folder has the same digest
reproducible:
    #!/usr/bin/env bash
    set -euo pipefail
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    git ls-files -z | tar --null --files-from - --create | tar --extract --directory "$copy"
    architecture=$(uname -m | sed "s/x86_64/amd64/; s/aarch64/arm64/")
    here=$(just image --architecture "$architecture" --output target/image-here | cut -d' ' -f2)
    there=$(cd "$copy" && just image --architecture "$architecture" --output target/image-there | cut -d' ' -f2)
    echo "here $here, there $there"
    test "$here" = "$there"

# What regcred is made of, as CycloneDX, in target/regcred.cdx.json
sbom:
    cargo install --quiet --locked cargo-cyclonedx@0.5.9
    cargo cyclonedx --quiet --manifest-path crates/operator/Cargo.toml --target x86_64-unknown-linux-musl \
        --format json --override-filename regcred.cdx
    mkdir -p target
    mv crates/operator/regcred.cdx.json target/regcred.cdx.json
    # It writes one for every member of the workspace.
    git ls-files --others -- '*regcred.cdx.json' ':!target' | xargs --no-run-if-empty rm
