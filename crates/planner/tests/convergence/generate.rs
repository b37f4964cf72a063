//! Worlds and changes from small pools, so that names meet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use regcred_api::RegistryCredentialSpec;
use serde_json::json;

use crate::fixture;
use crate::model::{
    ACCOUNTS, Change, Cluster, ENTRIES, StoredAccount, StoredCredential, StoredSecret, TARGETS,
};

fn spec() -> impl Strategy<Value = RegistryCredentialSpec> {
    let accounts = prop::sample::select(vec![
        json!({"from": "All"}),
        json!({"from": "All", "exclude": ["b*"]}),
        json!({"from": "Selected", "matchNames": ["default"]}),
        json!({"from": "Selected", "matchNames": ["de*"]}),
        json!({"from": "None"}),
    ]);
    let namespaces = prop::sample::select(vec![
        json!({"from": "All"}),
        json!({"selector": {"matchLabels": {"pull": "yes"}}}),
        json!({"selector": {"matchLabels": {"pull": "yes"}}}),
        json!({"matchNames": ["n?"]}),
        json!({"matchNames": ["elsewhere"]}),
    ]);
    let policy = prop::sample::select(vec![
        ("Delete", "Fail"),
        ("Delete", "Fail"),
        ("Retain", "Fail"),
        ("Retain", "Adopt"),
    ]);
    (prop::sample::select(&TARGETS[..]), namespaces, accounts, policy, prop::bool::weighted(0.1)).prop_map(
        |(target, namespaces, accounts, (deletion, conflict), suspend)| {
            fixture::spec(&json!({
                "suspend": suspend,
                "namespaces": namespaces,
                "serviceAccounts": accounts,
                "target": {"name": target, "conflictPolicy": conflict},
                "deletionPolicy": deletion,
            }))
        },
    )
}

fn credential() -> impl Strategy<Value = StoredCredential> {
    let content = prop_oneof![4 => Just(Some("content".to_owned())), 1 => Just(None)];
    (spec(), 0_i64..3, content, prop::bool::weighted(0.1), prop::bool::weighted(0.9)).prop_map(
        |(spec, age, content, deleting, finalized)| StoredCredential {
            name: String::new(),
            age,
            spec,
            content,
            deleting,
            finalized,
        },
    )
}

fn account() -> impl Strategy<Value = StoredAccount> {
    let entry = prop::sample::select([&ENTRIES[..], &TARGETS[..1]].concat());
    (prop::collection::vec(entry, 0..4), prop::bool::weighted(0.1), 1_u64..50).prop_map(
        |(list, excluded, version)| StoredAccount {
            uid: version,
            version,
            excluded,
            list: list.into_iter().map(Arc::from).collect(),
            marked: BTreeSet::new(),
        },
    )
}

fn secret() -> impl Strategy<Value = StoredSecret> {
    (1_u64..50, prop::bool::weighted(0.3))
        .prop_map(|(version, wrong_type)| StoredSecret::foreign(version, wrong_type))
}

/// A namespace in any state that others can leave it in.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let accounts = prop::collection::btree_map(prop::sample::select(&ACCOUNTS[..]), account(), 0..4);
    let secrets = prop::collection::btree_map(prop::sample::select(&TARGETS[..]), secret(), 0..2);
    let secrets = prop_oneof![3 => Just(BTreeMap::new()), 1 => secrets];
    (prop::bool::weighted(0.8), accounts, secrets, prop::collection::vec(credential(), 0..4)).prop_map(
        |(labelled, accounts, secrets, mut credentials)| {
            for (number, credential) in credentials.iter_mut().enumerate() {
                credential.name = format!("c{number}");
            }
            Cluster {
                labelled,
                secrets: secrets.into_iter().map(|(name, secret)| (Arc::from(name), secret)).collect(),
                accounts: accounts.into_iter().map(|(name, account)| (Arc::from(name), account)).collect(),
                credentials,
                caged: false,
                version: 100,
            }
        },
    )
}

/// Something that others do.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0_usize..2).prop_map(Change::DeleteSecret),
        (0_usize..2).prop_map(Change::EditData),
        (0_usize..2).prop_map(Change::TakeLabel),
        (0_usize..2).prop_map(Change::TakeAnnotation),
        (0_usize..2).prop_map(Change::Forge),
        (0_usize..2).prop_map(Change::Freeze),
        (0_usize..2, any::<bool>())
            .prop_map(|(target, wrong_type)| Change::CreateForeign { target, wrong_type }),
        (0_usize..3, 0_usize..6).prop_map(|(account, entry)| Change::AddEntry { account, entry }),
        (0_usize..3).prop_map(Change::OptOut),
        (0_usize..3).prop_map(Change::DeleteAccount),
        (0_usize..3).prop_map(Change::CreateAccount),
        Just(Change::FlipLabel),
        (0_usize..3).prop_map(Change::TakeMark),
        (0_usize..2).prop_map(Change::EditUid),
        (0_usize..2).prop_map(Change::Restore),
        (0_usize..3).prop_map(Change::Rename),
        (0_usize..3).prop_map(Change::SpoilSpec),
        (0_usize..3).prop_map(Change::Rotate),
        (0_usize..3).prop_map(Change::LoseSource),
        (0_usize..3).prop_map(Change::DeleteCredential),
        (0_usize..3).prop_map(Change::Suspend),
        (0_usize..3).prop_map(Change::Finalize),
    ]
}

/// The simplest world: one credential for one ServiceAccount.
pub(crate) fn one_credential() -> Cluster {
    let credential = StoredCredential {
        name: "c0".to_owned(),
        age: 0,
        spec: fixture::spec(&json!({"target": {"name": "t0"}})),
        content: Some("content".to_owned()),
        deleting: false,
        finalized: true,
    };
    let account =
        StoredAccount { uid: 1, version: 1, excluded: false, list: Vec::new(), marked: BTreeSet::new() };
    Cluster {
        labelled: false,
        secrets: BTreeMap::new(),
        accounts: BTreeMap::from([(Arc::from("default"), account)]),
        credentials: vec![credential],
        caged: false,
        version: 100,
    }
}
