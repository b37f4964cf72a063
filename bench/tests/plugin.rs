//! What an audit asks the API server for, exactly, and how wide its table is: neither depends on the machine.

use regcred_bench::plugin::{Size, measure};

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_reads_each_page_once_and_no_secret() {
    let size = Size { pods: 250, workloads: 125, page: Some(50), released: false };
    let cost = measure(size, &|line: &str| eprintln!("{line}")).await.unwrap();
    cost.check_counts(size).unwrap();
    cost.check_usage().unwrap();
}
