//! What Amazon is sent, read by moto, which shares nothing with the product or with the doubles of these tests. It checks no
//! signature and knows no ECR Public. The token that it gives ended in 2015, so being refused for that is right.

use std::sync::Arc;

use regcred_sources::{AssumedRole, CloudSettings, Clouds, Identity, Mint as _, TokenRequest};
use regcred_tests::Moto;
use regcred_tests::moto::Asked;

use crate::{Cluster, ECR, STS, account, ecr, keys, now, role};

/// The access keys of [`Cluster::full`], and those that moto gives for a role.
const STATIC: &str = "Credential=AKIASTATIC/";
const ASSUMED: &str = "Credential=ASIA";

/// Asks moto for a token; returns the requests that it got.
async fn asked(moto: &Moto, identity: Identity, assumed: Option<AssumedRole>) -> Vec<Asked> {
    let mut settings = CloudSettings::new(Arc::new(now));
    settings.environment = Arc::new(|_| None);
    let endpoint = |host: &str| (host.to_owned(), moto.endpoint().parse().expect("an address"));
    settings.endpoints = [ECR, STS].map(endpoint).into();
    let before = moto.asked().map_or(0, |asked| asked.len());
    let request = TokenRequest { issuer: ecr(assumed), identity };
    let error = Clouds::new(&settings, Cluster::full()).mint(&request).await.err().expect("a token of 2015");
    let error = error.to_string();
    assert!(error.starts_with(ECR) && error.contains("a token that is still good"), "{error}");
    moto.asked().expect("a record").split_off(before)
}

#[tokio::test]
async fn moto_understands_what_amazon_is_sent() {
    let moto = Moto::start().await.unwrap_or_else(|error| panic!("{error}"));
    let assumed = || Some(role("external", Some("acme")));
    for (identity, assumed, way) in [
        (keys("aws"), None, vec![("{}", STATIC)]),
        (keys("aws"), assumed(), vec![("Action=AssumeRole&", STATIC), ("{}", ASSUMED)]),
        (account("puller"), None, vec![("Action=AssumeRoleWithWebIdentity&", ""), ("{}", ASSUMED)]),
        (
            account("puller"),
            assumed(),
            vec![("Action=AssumeRoleWithWebIdentity&", ""), ("Action=AssumeRole&", ASSUMED), ("{}", ASSUMED)],
        ),
    ] {
        let asked = asked(&moto, identity, assumed).await;
        assert_eq!(asked.len(), way.len(), "{asked:?}");
        for (Asked { authorization, body }, (begins, signed_by)) in asked.iter().zip(way) {
            assert!(body.starts_with(begins), "{body}");
            assert!(authorization.contains(signed_by), "{authorization}");
            assert_eq!(authorization.is_empty(), signed_by.is_empty(), "a web identity needs no signature");
        }
    }
}
