//! A board behind a proxy: limits and bans go by whom the proxy speaks for.

use std::net::SocketAddr;

use board::Proxies;
use board::admission::Rate;
use board::decisions::Decision;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::client::{Client, board, now};
use crate::events::signed;

/// A client for whom the proxy, which is the test, speaks; else the status with which it was sent away.
pub(crate) async fn through_a_proxy(address: SocketAddr, forwarded_for: &str) -> Result<Client, u16> {
    let mut request = format!("ws://{address}").into_client_request().unwrap();
    request.headers_mut().insert("X-Forwarded-For", forwarded_for.parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => {
            let mut client = Client { socket, challenge: String::new(), address };
            assert_eq!(client.next().await[0], "AUTH");
            Ok(client)
        }
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(why) => panic!("{why}"),
    }
}

async fn refused(address: SocketAddr, forwarded_for: &str) -> u16 {
    through_a_proxy(address, forwarded_for).await.err().expect("it is sent away")
}

#[tokio::test]
async fn seats_rates_and_bans_are_those_of_whom_a_proxy_speaks_for() {
    let (board, _dir) = board(|config| {
        config.proxies = Proxies::parse(&["127.0.0.1".to_owned()]).unwrap();
        config.limits.connections_per_address = 2;
        config.policy.per_address = Some(Rate { burst: 2, per_minute: 1 });
    })
    .await;
    let (operator, at) = (board.operator(), board.local_addr());
    // Two neighbours in one network of 64 bits.
    let mut first = through_a_proxy(at, "2001:db8::1").await.unwrap();
    let mut second = through_a_proxy(at, "192.0.2.9, 2001:db8::2:0:0:1").await.unwrap();
    assert_eq!(refused(at, "2001:db8::3").await, 429);
    let addresses: Vec<_> = operator.clients().await.iter().map(|client| client.address.to_string()).collect();
    assert_eq!(addresses, ["2001:db8::1", "2001:db8::2:0:0:1"]);
    first.stored(&signed(1, 1, now(), &[], "1")).await;
    second.stored(&signed(1, 1, now(), &[], "2")).await;
    let third = signed(1, 1, now(), &[], "3");
    assert!(first.publish(&third).await.1.starts_with("rate-limited: "));
    let mut another = through_a_proxy(at, "192.0.2.9").await.unwrap();
    another.stored(&third).await;
    drop(another);

    let address = "192.0.2.9".parse().unwrap();
    operator.decide(Decision::BanAddress { address, reason: "spam".into() }).await.unwrap();
    assert_eq!(refused(at, "192.0.2.9").await, 403);
    assert_eq!(refused(at, "who knows").await, 400);
    // The proxy itself, and whoever comes without one, is at home.
    Client::connect(at).await.stored(&signed(1, 1, now(), &[], "4")).await;
    board.shutdown().await;
}

#[tokio::test]
async fn who_is_no_proxy_speaks_for_nobody() {
    let (board, _dir) = board(|config| config.limits.connections_per_address = 1).await;
    let _first = through_a_proxy(board.local_addr(), "192.0.2.9").await.unwrap();
    let _second = through_a_proxy(board.local_addr(), "192.0.2.9").await.unwrap();
    assert!(board.operator().clients().await.iter().all(|client| client.address.is_loopback()));
    board.shutdown().await;
}
