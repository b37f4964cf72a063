# Every check that CI makes, by the name under which you run it yourself.

packages := "regcred-dockerconfig regcred-api regcred-planner regcred-sources regcred-controller regcred regcred-tests regcred-bench"

# List the recipes
default:
    @just --list

# Everything a change must pass
check: test fmt-check lint deny crates generated

# All tests, from unit to control plane; builds the control plane the first time
test:
    cargo test

# Tell the story on an embedded control plane
demo *ARGS:
    cargo demo {{ARGS}}

# Measure against the bare writer: some minutes with --quick, half an hour without
bench *ARGS:
    cargo bench-regcred {{ARGS}}

# Format
fmt:
    cargo fmt --all

# Fail on unformatted code
fmt-check:
    cargo fmt --all --check

# Fail on any warning
lint:
    cargo clippy --workspace --all-targets --quiet -- -D warnings

# Licences, origins, banned and doubled crates, and who may depend on the Kubernetes client
deny:
    cargo deny check bans licenses sources

# Each crate compiles alone: feature unification of the workspace hides a missing dependency
crates:
    for package in {{packages}}; do cargo check --quiet --package $package || exit 1; done

# Write the generated files
generate:
    cargo run --quiet --package regcred -- crd > crds/registrycredentials.regcred.dev.yaml
    cargo run --quiet --package regcred-bench --bin bench-regcred -- --render

# Fail if regenerating changes anything
generated: generate
    git diff --exit-code -- crds docs bench/results

# A static release binary in target/x86_64-unknown-linux-musl/release (needs the musl target of rustup)
build-release:
    CC_x86_64_unknown_linux_musl=gcc cargo build --release --package regcred --target x86_64-unknown-linux-musl
