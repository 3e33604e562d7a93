//! Kinds of markets as clients publish them: what is kept, what replaces what, and what stays to be had by id.

use crate::client::{Client, board, ids, now};
use crate::events::{hex, signed};

#[tokio::test]
async fn messages_of_domp_are_kept_and_orders_replace_each_other() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let listing = |content: &str| signed(1, 300, now(), &[&["d", "lamp"]], content);
    let (first, second) = (listing("{\"product_name\":\"a\"}"), listing("{\"product_name\":\"b\"}"));
    client.stored(&first).await;
    client.stored(&second).await;
    assert_eq!(client.ask("{\"kinds\":[300]}").await.len(), 2, "a listing of DOMP is no addressable event");
    // CivKit's order has no `d` tag: one for each author then.
    for (kind, tags) in [(32_500, &[][..]), (32_500, &[&["d", "one"][..]][..]), (38_383, &[&["d", "two"][..]][..])] {
        let (old, new) = (signed(2, kind, now() - 1, tags, "old"), signed(2, kind, now(), tags, "new"));
        client.stored(&old).await;
        client.stored(&new).await;
        let (accepted, why) = client.publish(&old).await;
        assert!(!accepted && why.starts_with("duplicate: "), "{why}");
        let found = client.ask(&format!("{{\"kinds\":[{kind}]}}")).await;
        assert!(found.contains(&hex(&new.id)) && !found.contains(&hex(&old.id)));
        assert_eq!(
            client.ask(&format!("{{\"ids\":[\"{}\"]}}", hex(&old.id))).await,
            ids(&[&old]),
            "every version stays"
        );
    }
    assert_eq!(client.ask("{\"kinds\":[32500]}").await.len(), 2);
    board.shutdown().await;
}

#[tokio::test]
async fn an_order_that_cannot_be_paid_is_refused_with_the_reason() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    // From the examples of BOLT#11: it expired in 2017.
    let old = "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq67gye39hfg3zd8rgc80k32tvy9xk2xunwm5lzexnvpx6fd77en8qaq424dxgt56cag2dpt359k3ssyhetktkpqh24jqnjyw6uqd08sgptq44qu";
    let refused = client.publish(&signed(1, 32_500, now(), &[], old)).await;
    assert_eq!(refused, (false, "invalid: the invoice has expired".into()));
    client.stored(&signed(1, 1, now(), &[], old)).await;
    board.shutdown().await;
}

#[tokio::test]
async fn where_to_send_messages_is_public_and_direct_messages_are_not() {
    let (board, _dir) = board(|_| ()).await;
    let mut client = Client::connect(board.local_addr()).await;
    let inbox = signed(1, 10_050, now(), &[&["relay", "wss://board.example"]], "");
    let message = signed(1, 4, now(), &[&["p", &hex(&crate::events::pubkey(2))]], "?iv=");
    client.stored(&inbox).await;
    client.stored(&message).await;
    let mut nobody = Client::connect(board.local_addr()).await;
    assert_eq!(nobody.ask("{}").await, ids(&[&inbox]));
    for reader in [1, 2] {
        let mut party = Client::connect(board.local_addr()).await;
        party.authenticate(reader).await;
        assert_eq!(party.ask("{\"kinds\":[4]}").await, ids(&[&message]));
    }
    board.shutdown().await;
}
