//! Programs use the API over TCP with tokens that allow so much and no more, and follow what happens without a gap. The document says
//! what there is.

use std::collections::BTreeSet;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use super::people::{Bazaar, Person, accept, until};

/// The API of a person, over TCP.
struct Api {
    http: Client,
    base: String,
    token: String,
}

impl Api {
    /// With a token that allows everything.
    async fn of(person: &Person) -> Api {
        let (base, token) = person.serve().await;
        Api { http: Client::new(), base, token }
    }

    fn with(&self, token: &str) -> Api {
        Api { http: self.http.clone(), base: self.base.clone(), token: token.into() }
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        body(self.get(path).await).await
    }
}

async fn body(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_allow_what_they_say_and_no_more() {
    let bazaar = Bazaar::open(1).await;
    let admin = Api::of(&bazaar.seller).await;
    let bare = admin.http.get(format!("{}/v1/status", admin.base)).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert!(body(bare).await["message"].as_str().unwrap().contains("souk token new"));

    let made = body(admin.post("/v1/tokens", &json!({"name": "a price board", "scope": "read"})).await).await;
    let reader = admin.with(made["token"].as_str().unwrap());
    assert_eq!(reader.get("/v1/status").await.status(), StatusCode::OK);
    let refused = reader.post("/v1/node/address", &json!(null)).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(body(refused).await["message"].as_str().unwrap().contains("--scope trade"));
    assert_eq!(reader.get("/v1/tokens").await.status(), StatusCode::FORBIDDEN);

    let trader = body(admin.post("/v1/tokens", &json!({"scope": "trade"})).await).await;
    let trader = admin.with(trader["token"].as_str().unwrap());
    // The node of the test makes no addresses, but it is asked.
    assert_eq!(trader.post("/v1/node/address", &json!(null)).await.status(), StatusCode::CONFLICT);
    let pay = json!({"payable": "lnbcrt1"});
    assert_eq!(trader.post("/v1/node/pay", &pay).await.status(), StatusCode::FORBIDDEN);

    let known = admin.json("/v1/tokens").await;
    assert_eq!(known.as_array().unwrap().len(), 3);
    assert!(!known.to_string().contains(&reader.token[14..]), "what proves a token is shown once");
    let end = format!("/v1/tokens/{}/revoke", made["id"].as_str().unwrap());
    assert_eq!(admin.post(&end, &json!(null)).await.status(), StatusCode::OK);
    assert_eq!(reader.get("/v1/status").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(admin.post(&end, &json!(null)).await.status(), StatusCode::NOT_FOUND);

    for wrong in ["", "souk_", "souk_00000000_00", &admin.token[..admin.token.len() - 1]] {
        assert_eq!(admin.with(wrong).get("/v1/status").await.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    let mut other = admin.token.clone();
    other.replace_range(other.len() - 1.., if other.ends_with('0') { "1" } else { "0" });
    assert_eq!(admin.with(&other).get("/v1/status").await.status(), StatusCode::UNAUTHORIZED);
    for bad in
        [json!({"scope": "all"}), json!({"scope": "read", "expires_in_secs": 0}), json!({"scope": "read", "x": 1})]
    {
        assert_eq!(admin.post("/v1/tokens", &bad).await.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

/// Events as they come: name and data.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn of(api: &Api, path: &str) -> Stream {
        let response = api.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream { response, text: String::new() }
    }

    /// None when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let found =
                    field("event:").zip(field("data:")).map(|(n, d)| (n.to_owned(), serde_json::from_str(d).unwrap()));
                self.text = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            self.text += std::str::from_utf8(&self.response.chunk().await.unwrap()?).unwrap();
        }
    }

    async fn until(&mut self, what: &str, mut is_it: impl FnMut(&str, &Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await.unwrap_or_else(|| panic!("{what}: the stream ended"));
            if is_it(&name, &data) {
                return data;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_told_to_those_who_follow() {
    let bazaar = Bazaar::open(1).await;
    let api = Api::of(&bazaar.seller).await;
    let mut all = Stream::of(&api, "/v1/events").await;
    assert_eq!(all.next().await.unwrap().0, "ready", "nothing is open yet");
    let trade = bazaar.bid().await;
    let begun = all.until("the bid", |name, data| name == "trade" && data["trade"] == json!(trade)).await;
    assert_eq!(begun["role"], "payee");

    let mut one = Stream::of(&api, &format!("/v1/events?trade={trade}")).await;
    assert_eq!(one.next().await.unwrap().0, "trade", "the present comes first");
    assert_eq!(one.next().await.unwrap().0, "ready");
    let talk = crate::api::types::ChatRequest { text: "hello".into(), to: crate::api::types::ChatTo::Counterparty };
    bazaar.buyer.desk().say(trade, talk).await.unwrap();
    assert_eq!(one.until("the word", |name, _| name == "chat").await["text"], "hello");
    bazaar.seller.steps(trade, accept()).await;
    one.until("what is held", |name, data| name == "trade" && data["state"] == "held").await;
    bazaar.finish_held(trade).await;
    one.until("the end", |name, data| name == "trade" && data["outcome"] == "settled").await;
    all.until("the end", |name, data| name == "trade" && data["outcome"] == "settled").await;

    let missing = api.get(&format!("/v1/events?trade={}", "00".repeat(32))).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let mut streams = Vec::new();
    until("every seat is taken", async || {
        let more = api.get("/v1/events").await;
        let refused = more.status() == StatusCode::SERVICE_UNAVAILABLE;
        streams.push(more);
        refused
    })
    .await;
    drop(streams);
    until("seats are free again", async || api.get("/v1/events").await.status() == StatusCode::OK).await;
}

/// Every `$ref` under `value`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(to)) = members.get("$ref") {
                found.insert(to.clone());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_describes_every_route() {
    let bazaar = Bazaar::open(1).await;
    let api = Api::of(&bazaar.seller).await;
    let document = api.json("/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            count += 1;
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{name} has no summary");
            assert!(operation["security"][0]["token"][0].is_string(), "{name} needs no scope");
            assert!(operation["responses"]["default"].is_object(), "{name} has no errors");
            let empty = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&empty);
            let named: BTreeSet<_> =
                parameters.iter().filter(|p| p["in"] == "path").filter_map(|p| p["name"].as_str()).collect();
            let wanted: BTreeSet<_> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(named, wanted, "{name}");
            let reads_nothing =
                ["/v1/node/address", "/v1/backup"].contains(&path.as_str()) || path.ends_with("/revoke");
            if method == "post" && !reads_nothing {
                assert!(operation["requestBody"].is_object(), "{name} reads nothing");
            }
        }
    }
    assert!(count > 30, "{count} routes");
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for to in &found {
        let pointer = to.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
    }
    // A real answer has the members that the document requires of it, and no others.
    let status = api.json("/v1/status").await;
    let schema = document.pointer("/components/schemas/Status").unwrap();
    let members: BTreeSet<_> = status.as_object().unwrap().keys().collect();
    let allowed: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert!(members.is_subset(&allowed), "{members:?} of {allowed:?}");
    for required in schema["required"].as_array().unwrap() {
        assert!(status.get(required.as_str().unwrap()).is_some(), "{required} is missing");
    }
    // Whatever goes wrong is worded alike.
    for (path, status, kind) in [
        ("/v1/nothing", StatusCode::NOT_FOUND, "not_found"),
        ("/v1/events?trade=x", StatusCode::BAD_REQUEST, "usage"),
        ("/v1/trades/x", StatusCode::BAD_REQUEST, "usage"),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(body(answer).await["kind"], kind, "{path}");
    }
}
