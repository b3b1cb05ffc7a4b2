//! How answers, inputs and evidence are stored, and who can read them.

use speedcoding::db::query;

use super::{app, pending};

#[tokio::test]
async fn of_an_answer_nothing_but_a_salted_digest_is_kept() {
    let app = app().await;
    let rows = app
        .sql()
        .await
        .query(
            "select v::text, salt, digest from private.answer_variants as v",
            &[],
        )
        .await
        .expect("variants");
    let mut salts = std::collections::BTreeSet::new();
    for row in &rows {
        assert!(!row.get::<_, &str>(0).contains("Señor"));
        assert_eq!(row.get::<_, &[u8]>(2).len(), 32);
        salts.insert(row.get::<_, Vec<u8>>(1));
    }
    assert_eq!(salts.len(), 40, "each has a salt of its own");
}

/// The service cannot read the right answers. It can only compare.
#[tokio::test]
async fn nobody_but_the_owner_reads_answers_inputs_and_evidence() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let session = pending(&alice).await;
    vera.attest(&session, 2, "error").await.ok(200);
    assert!(
        query::ALL
            .iter()
            .all(|query| !query.sql.contains("answer_variants"))
    );
    for role in ["anon", "authenticated", "service_role", "speedcoding_api"] {
        let client = app.database.role(role, None).await;
        for table in ["answer_variants", "session_inputs", "attestations"] {
            let refused = client
                .query(&format!("select * from private.{table}"), &[])
                .await
                .expect_err(table);
            assert_eq!(
                refused.code().map(|code| code.code()),
                Some("42501"),
                "{role}: {table}"
            );
        }
    }
    let seen = alice.session(&session).await.ok(200).to_string();
    assert!(!seen.contains("log of 2026") && !seen.contains(&vera.id));
}
