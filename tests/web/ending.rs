//! Revoking and archiving, without a script: the page asks, does, and shows.

use super::Desk;
use certctl::access::Role;
use certctl::crypt::{Crypto, RingCrypto};
use certctl::pki::{KeyAlgorithm, csr};
use http::StatusCode;
use serde_json::json;

async fn issued(desk: &Desk, id: &str) {
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let csr = csr::build(key.pkcs8_der(), None, &[]).unwrap();
    let body = json!({"id": id, "name": id, "common_name": "shop.example", "csr_pem": csr});
    desk.make("/certificates", body).await;
}

#[tokio::test]
async fn a_certificate_is_revoked_by_a_form_that_asks_why() {
    let desk = Desk::open().await;
    issued(&desk, "shop").await;
    let session = desk.admin().await;
    let shown = desk.get("/certificates/shop", Some(&session)).await.page();
    let links = shown.all("a").into_iter();
    let links: Vec<_> = links.filter_map(|a| a.attr("href")).collect();
    assert!(
        links.contains(&"/certificates/shop/end".to_owned()),
        "{links:?}"
    );

    let asks = desk
        .get("/certificates/shop/end", Some(&session))
        .await
        .page();
    let forms: Vec<_> = asks
        .all("form")
        .into_iter()
        .filter_map(|f| f.attr("action"))
        .collect();
    assert!(
        forms.contains(&"/certificates/shop/revoke".to_owned()),
        "{forms:?}"
    );
    assert!(
        forms.contains(&"/certificates/shop/archive".to_owned()),
        "{forms:?}"
    );
    assert!(asks.text().contains("This cannot be undone"));
    let reasons = asks.one("select").all("option").into_iter();
    let reasons: Vec<_> = reasons.filter_map(|o| o.attr("value")).collect();
    assert_eq!(reasons.len(), 8);

    // A form without a reason, or with one that is none, does nothing.
    for form in ["", "reason=", "reason=dislike"] {
        let answer = desk
            .post("/certificates/shop/revoke", Some(&session), form)
            .await;
        assert!(answer.status.is_client_error(), "{form}: {}", answer.status);
    }
    let still = desk.get("/certificates/shop", Some(&session)).await.page();
    assert!(!still.text().contains("Revoked"), "{}", still.text());

    let form = "reason=keyCompromise";
    let answer = desk
        .post("/certificates/shop/revoke", Some(&session), form)
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/certificates/shop");
    let shown = desk.get("/certificates/shop", Some(&session)).await.page();
    for part in ["Revoked", "keyCompromise"] {
        assert!(shown.text().contains(part), "{part}: {}", shown.text());
    }
    // Asked again, the page has no such form, and the call is refused.
    let asks = desk
        .get("/certificates/shop/end", Some(&session))
        .await
        .page();
    assert!(asks.text().contains("This certificate is revoked"));
    assert!(asks.all("select").is_empty());
    let answer = desk
        .post("/certificates/shop/revoke", Some(&session), form)
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_certificate_is_archived_by_a_form() {
    let desk = Desk::open().await;
    issued(&desk, "shop").await;
    let session = desk.admin().await;
    let answer = desk
        .post("/certificates/shop/archive", Some(&session), "")
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let shown = desk.get("/certificates/shop", Some(&session)).await.page();
    assert!(shown.text().contains("Archived"), "{}", shown.text());
    let asks = desk
        .get("/certificates/shop/end", Some(&session))
        .await
        .page();
    assert!(asks.text().contains("This certificate is archived"));
}

#[tokio::test]
async fn who_may_not_revoke_is_not_asked_and_is_refused() {
    let desk = Desk::open().await;
    issued(&desk, "shop").await;
    let viewer = desk.sign_in(&desk.key(Role::Viewer).await).await;
    let page = desk
        .get("/certificates/shop/end", Some(&viewer))
        .await
        .page();
    assert!(page.all("select").is_empty());
    for verb in ["revoke", "archive"] {
        let path = format!("/certificates/shop/{verb}");
        let answer = desk.post(&path, Some(&viewer), "reason=unspecified").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{verb}");
    }
    let answer = desk.get("/certificates/shop/end", None).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}
