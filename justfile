# Every check that CI makes, by the name under which you run it yourself.

packages := "regcred-dockerconfig regcred-api regcred-planner regcred-sources regcred-controller regcred regcred-tests regcred-bench regcred-image"

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

# Measure against the bare writer: some minutes with --quick, a quarter of an hour without
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
    cargo run --quiet --package regcred-tests --bin generate
    cargo run --quiet --package regcred-bench --bin bench-regcred -- --render

# Fail if regenerating changes anything
generated: generate
    git diff --exit-code -- crds deploy docs bench/results

# A static release binary for x86_64 or aarch64, with the list of its dependencies inside (cargo-auditable)
build-release arch="x86_64":
    rustup target add {{arch}}-unknown-linux-musl
    cargo install --quiet --locked cargo-auditable@0.7.7
    RUSTFLAGS="--remap-path-prefix={{justfile_directory()}}=/regcred --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    CC_x86_64_unknown_linux_musl=gcc CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc \
    CFLAGS="-ffile-prefix-map={{justfile_directory()}}=/regcred -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo auditable build --release --package regcred --target {{arch}}-unknown-linux-musl

# The image as an OCI layout in target/image, for amd64 and arm64 (needs gcc-aarch64-linux-gnu); prints its digest
image: (build-release "x86_64") (build-release "aarch64")
    rm -rf target/image
    cargo run --quiet --package regcred-image -- \
        --amd64 target/x86_64-unknown-linux-musl/release/regcred --arm64 target/aarch64-unknown-linux-musl/release/regcred

# The same for amd64 alone
image-amd64: (build-release "x86_64")
    rm -rf target/image
    cargo run --quiet --package regcred-image -- --amd64 target/x86_64-unknown-linux-musl/release/regcred

# What regcred is made of, as CycloneDX, in target/regcred.cdx.json
sbom:
    cargo install --quiet --locked cargo-cyclonedx@0.5.9
    cargo cyclonedx --quiet --manifest-path crates/operator/Cargo.toml --format json --override-filename regcred.cdx
    mv crates/operator/regcred.cdx.json target/regcred.cdx.json
