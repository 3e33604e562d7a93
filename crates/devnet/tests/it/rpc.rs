//! JSON-RPC over a real socket: authentication, forms of answers and errors, and what clients of bitcoind ask for.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, Transaction};
use devnet::{Config, Devnet};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use units::Sat;

use crate::kit::{Key, Spend, anchor, coin};

/// One kept-alive connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    pub(crate) authorization: String,
}

impl Client {
    pub(crate) async fn connect(net: &Devnet) -> Client {
        let stream = BufReader::new(TcpStream::connect(net.rpc_addr()).await.unwrap());
        Client { stream, authorization: "Basic ZGV2bmV0OmRldm5ldA==".into() }
    }

    /// Status and body of a POST.
    pub(crate) async fn post(&mut self, body: &str) -> (u16, String) {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: devnet\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n",
            self.authorization,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await.unwrap();
        self.stream.write_all(body.as_bytes()).await.unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await.unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    async fn raw(&mut self, body: &str) -> (u16, Value) {
        let (status, body) = self.post(body).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The result, or the error's code and message.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let request = json!({ "method": method, "params": params, "id": method });
        let (status, mut answer) = self.raw(&request.to_string()).await;
        assert_eq!(answer["id"], method);
        if answer["error"].is_null() {
            assert_eq!(status, 200);
            return Ok(answer["result"].take());
        }
        assert_ne!(status, 200);
        assert!(answer["result"].is_null());
        Err((answer["error"]["code"].as_i64().unwrap(), answer["error"]["message"].as_str().unwrap().to_owned()))
    }
}

async fn start() -> (Devnet, Client) {
    let net = Devnet::start(Config::default()).await.unwrap();
    let client = Client::connect(&net).await;
    (net, client)
}

/// A confirmed coin of `sat` for `key`, paid by the faucet over RPC.
async fn coin_for(rpc: &mut Client, key: &Key, btc: f64) -> crate::kit::Coin {
    let txid = rpc.call("sendtoaddress", json!([key.address().to_string(), btc])).await.unwrap();
    let hex = rpc.call("getrawtransaction", json!([txid])).await.unwrap();
    let tx: Transaction = deserialize_hex(hex.as_str().unwrap()).unwrap();
    rpc.call("generatetoaddress", json!([1, Key::new(9).address().to_string()])).await.unwrap();
    let vout = tx.output.iter().position(|out| out.script_pubkey == key.script()).unwrap();
    coin(&tx, vout as u32)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_password_gets_an_answer() {
    let (_net, mut rpc) = start().await;
    let request = r#"{"method":"getblockcount","params":[],"id":1}"#;
    assert_eq!(rpc.raw(request).await, (200, json!({ "result": 130, "error": null, "id": 1 })));
    for wrong in ["Basic ZGV2bmV0OmRldm5ldQ==", "Basic ", "Bearer ZGV2bmV0OmRldm5ldA==", ""] {
        rpc.authorization = wrong.into();
        assert_eq!(rpc.post(request).await, (401, String::new()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_bitcoinds_form_and_codes() {
    let (_net, mut rpc) = start().await;
    let (status, answer) = rpc.raw(r#"{"method":"nonsense","params":[],"id":"x"}"#).await;
    assert_eq!(status, 404);
    assert_eq!(
        answer,
        json!({ "result": null, "error": { "code": -32601, "message": "Method not found" }, "id": "x" })
    );
    let (status, answer) = rpc.raw("{nonsense").await;
    assert_eq!((status, &answer["error"]["code"], &answer["id"]), (500, &json!(-32700), &Value::Null));
    let (status, answer) = rpc.raw(r#"{"params":[],"id":2}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32600)));

    let unknown = "00".repeat(32);
    let cases = [
        ("getblock", json!([unknown]), -5),
        ("getblockheader", json!([unknown]), -5),
        ("getrawtransaction", json!([unknown]), -5),
        ("getmempoolentry", json!([unknown]), -5),
        ("generatetoaddress", json!([1, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]), -5),
        ("sendtoaddress", json!(["tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", 1]), -5),
        ("sendtoaddress", json!([Key::new(1).address().to_string(), 1_000_000]), -6),
        ("getblockhash", json!([131]), -8),
        ("getblockhash", json!([-1]), -8),
        ("getblock", json!(["00"]), -8),
        ("getblock", json!({ "hash": unknown }), -8),
        ("estimatesmartfee", json!([0]), -8),
        ("sendrawtransaction", json!(["00"]), -22),
        ("submitblock", json!(["00"]), -22),
        ("getblockhash", json!(["1"]), -3),
        ("getblockhash", json!([]), -1),
        ("getblockcount", json!([1]), -1),
    ];
    for (method, params, code) in cases {
        let outcome = rpc.call(method, params.clone()).await;
        assert_eq!(outcome.clone().map_err(|(code, _)| code), Err(code), "{method} {params}: {outcome:?}");
    }
    assert_eq!(rpc.call("getblock", json!([unknown])).await.unwrap_err().1, "Block not found");
    assert_eq!(rpc.call("getblockhash", json!([131])).await.unwrap_err().1, "Block height out of range");
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_have_eight_decimals_as_text() {
    let (_net, mut rpc) = start().await;
    let (_, info) = rpc.post(r#"{"method":"getmempoolinfo"}"#).await;
    assert!(info.contains(r#""mempoolminfee":0.00001000"#), "{info}");
    let (_, info) = rpc.post(r#"{"method":"getblockchaininfo"}"#).await;
    assert!(info.contains(r#""difficulty":4.65"#) && info.contains("e-10"), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_with_its_errors_inside() {
    let (_net, mut rpc) = start().await;
    let batch = json!([
        { "method": "getblockcount", "id": 1 },
        { "method": "getblockhash", "params": [9_999], "id": 2 },
        { "jsonrpc": "2.0", "method": "getblockcount", "params": {}, "id": 3 },
        { "jsonrpc": "2.0", "method": "nonsense", "id": 4 },
        7,
    ]);
    let (status, answers) = rpc.raw(&batch.to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(answers[0], json!({ "result": 130, "error": null, "id": 1 }));
    assert_eq!(answers[1]["error"]["code"], -8);
    assert_eq!(answers[2], json!({ "jsonrpc": "2.0", "result": 130, "id": 3 }));
    let error = json!({ "code": -32601, "message": "Method not found" });
    assert_eq!(answers[3], json!({ "jsonrpc": "2.0", "error": error, "id": 4 }));
    assert_eq!(answers[4]["error"]["code"], -32600);
    let (status, answers) = rpc.raw("[]").await;
    assert_eq!((status, answers), (200, json!([])));
    let many = Value::Array(vec![json!({ "method": "getblockcount" }); 1_001]);
    assert_eq!(rpc.raw(&many.to_string()).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_not_read() {
    let (net, _) = start().await;
    let mut stream = TcpStream::connect(net.rpc_addr()).await.unwrap();
    let length = 40 * 1024 * 1024;
    stream
        .write_all(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let chunk = vec![b' '; 1024 * 1024];
    let (mut answers, mut requests) = stream.into_split();
    let flood = async {
        for _ in 0..40 {
            if requests.write_all(&chunk).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut head = [0; 12];
    tokio::select! {
        read = answers.read_exact(&mut head) => { read.unwrap(); }
        () = flood => {}
    }
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_blocks_read_as_ldk_and_lnd_expect_them() {
    let (net, mut rpc) = start().await;
    let info = rpc.call("getblockchaininfo", json!([])).await.unwrap();
    assert_eq!(
        (&info["chain"], &info["blocks"], &info["initialblockdownload"]),
        (&json!("regtest"), &json!(130), &json!(false))
    );
    assert_eq!(info["bestblockhash"], rpc.call("getbestblockhash", json!([])).await.unwrap());

    let hash = rpc.call("getblockhash", json!([100])).await.unwrap();
    let header = rpc.call("getblockheader", json!([hash, true])).await.unwrap();
    assert_eq!(header["bits"], "207fffff");
    // 101 blocks with a work of two each.
    assert_eq!(header["chainwork"], format!("{:064x}", 202));
    assert_eq!(header["confirmations"], 31);
    assert_eq!(header["nextblockhash"], rpc.call("getblockhash", json!([101])).await.unwrap());
    assert_eq!(header["previousblockhash"], rpc.call("getblockhash", json!([99])).await.unwrap());
    let genesis = rpc.call("getblockhash", json!([0])).await.unwrap();
    assert_eq!(genesis, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");
    let genesis = rpc.call("getblockheader", json!([genesis])).await.unwrap();
    assert!(genesis.get("previousblockhash").is_none());
    let raw = rpc.call("getblockheader", json!([hash, false])).await.unwrap();
    assert_eq!(raw.as_str().unwrap().len(), 160);

    let block = rpc.call("getblock", json!([hash, 0])).await.unwrap();
    let block: Block = deserialize_hex(block.as_str().unwrap()).unwrap();
    assert_eq!(json!(block.block_hash().to_string()), hash);
    let brief = rpc.call("getblock", json!({ "blockhash": hash })).await.unwrap();
    assert_eq!(brief["tx"], json!([block.txdata[0].compute_txid().to_string()]));
    let whole = rpc.call("getblock", json!([hash, 2])).await.unwrap();
    assert_eq!(whole["tx"][0]["vout"][0]["value"], json!(50.0));

    let tip = rpc.call("getbestblockhash", json!([])).await.unwrap();
    net.reorg(1).await.unwrap();
    let stale = rpc.call("getblockheader", json!([tip])).await.unwrap();
    assert_eq!(stale["confirmations"], -1);
    assert!(stale.get("nextblockhash").is_none());
    let tips = rpc.call("getchaintips", json!([])).await.unwrap();
    assert_eq!(tips.as_array().unwrap().len(), 2);
    assert_eq!((&tips[1]["hash"], &tips[1]["branchlen"]), (&tip, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_tested_sent_seen_and_confirmed() {
    let (_net, mut rpc) = start().await;
    let key = Key::new(1);
    let coin = coin_for(&mut rpc, &key, 0.01).await;
    let tx = Spend::of(&[&coin]).rest(&key.script(), 1_000).sign(&key);
    let (hex, txid) = (serialize_hex(&tx), tx.compute_txid().to_string());

    let tested = rpc.call("testmempoolaccept", json!([[hex]])).await.unwrap();
    assert_eq!((&tested[0]["allowed"], &tested[0]["fees"]["base"]), (&json!(true), &json!(0.00001)));
    assert_eq!(rpc.call("getrawmempool", json!([])).await.unwrap(), json!([]), "a test takes nothing in");
    assert_eq!(rpc.call("sendrawtransaction", json!([hex])).await.unwrap(), json!(txid));
    assert_eq!(rpc.call("sendrawtransaction", json!([hex])).await.unwrap(), json!(txid), "sending again is no error");
    let again = rpc.call("testmempoolaccept", json!([[hex]])).await.unwrap();
    assert_eq!(again[0]["reject-reason"], "txn-already-in-mempool");

    assert_eq!(rpc.call("getrawmempool", json!([false])).await.unwrap(), json!([txid]));
    let entry = rpc.call("getmempoolentry", json!([txid])).await.unwrap();
    assert_eq!((&entry["height"], &entry["ancestorcount"]), (&json!(131), &json!(1)));
    assert_eq!(rpc.call("getrawmempool", json!([true])).await.unwrap()[&txid], entry);
    let outpoint = json!({ "txid": coin.at.txid.to_string(), "vout": coin.at.vout });
    let spending = rpc.call("gettxspendingprevout", json!([[outpoint]])).await.unwrap();
    assert_eq!(spending[0]["spendingtxid"], json!(txid));
    let spent = json!([coin.at.txid.to_string(), coin.at.vout]);
    assert_eq!(rpc.call("gettxout", spent).await.unwrap(), Value::Null);
    let unspent = rpc.call("gettxout", json!([coin.at.txid.to_string(), coin.at.vout, false])).await.unwrap();
    assert_eq!((&unspent["value"], &unspent["confirmations"]), (&json!(0.01), &json!(1)));
    assert_eq!(unspent["scriptPubKey"]["hex"], json!(key.script().to_hex_string()));
    assert_eq!(unspent["scriptPubKey"]["address"], json!(key.address().to_string()));

    let mined = rpc.call("generatetoaddress", json!([2, key.address().to_string()])).await.unwrap();
    let verbose = rpc.call("getrawtransaction", json!([txid, true])).await.unwrap();
    assert_eq!((&verbose["blockhash"], &verbose["confirmations"]), (&mined[0], &json!(2)));
    assert_eq!(rpc.call("getrawtransaction", json!([txid, 0, mined[0]])).await.unwrap(), json!(hex));
    assert_eq!(rpc.call("getrawtransaction", json!([txid, 0, mined[1]])).await.unwrap_err().0, -5);
    assert_eq!(rpc.call("sendrawtransaction", json!([hex])).await.unwrap_err().0, -27);
    let rival = Spend::of(&[&coin]).rest(&key.taproot(), 2_000).sign(&key);
    let missing = rpc.call("sendrawtransaction", json!([serialize_hex(&rival)])).await.unwrap_err();
    assert_eq!(missing, (-25, "bad-txns-inputs-missingorspent".into()));
    let tested = rpc.call("testmempoolaccept", json!([[serialize_hex(&rival)]])).await.unwrap();
    assert_eq!(tested[0]["reject-reason"], "missing-inputs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poor_or_a_careless_fee_is_refused() {
    let (_net, mut rpc) = start().await;
    let key = Key::new(1);
    let coin = coin_for(&mut rpc, &key, 0.5).await;
    let poor = serialize_hex(&Spend::of(&[&coin]).rest(&key.script(), 10).sign(&key));
    let (code, message) = rpc.call("sendrawtransaction", json!([poor])).await.unwrap_err();
    assert_eq!(code, -26);
    assert!(message.starts_with("min relay fee not met, 10 < 1"), "{message}");
    let tested = rpc.call("testmempoolaccept", json!([[poor]])).await.unwrap();
    assert_eq!(tested[0]["reject-reason"], "min relay fee not met");
    let careless = serialize_hex(&Spend::of(&[&coin]).rest(&key.script(), 40_000_000).sign(&key));
    assert_eq!(rpc.call("sendrawtransaction", json!([careless])).await.unwrap_err().0, -25);
    let tested = rpc.call("testmempoolaccept", json!([[careless]])).await.unwrap();
    assert_eq!(tested[0]["reject-reason"], "max-fee-exceeded");
    rpc.call("sendrawtransaction", json!([careless, 0])).await.expect("zero lifts the limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_reported_by_wtxid() {
    let (_net, mut rpc) = start().await;
    let key = Key::new(1);
    let (funding, wallet) = (coin_for(&mut rpc, &key, 0.01).await, coin_for(&mut rpc, &key, 0.005).await);
    let parent = Spend::of(&[&funding]).pay(&anchor(), 240).rest(&key.script(), 0).version(3).sign(&key);
    let child = Spend::of(&[&coin(&parent, 0), &wallet]).rest(&key.script(), 2_000).version(3).sign(&key);
    let poor = Spend::of(&[&coin(&parent, 0), &wallet]).rest(&key.script(), 20).version(3).sign(&key);
    let failed = rpc.call("submitpackage", json!([[serialize_hex(&parent), serialize_hex(&poor)]])).await.unwrap();
    assert_eq!(failed["package_msg"], "transaction failed");
    let error = failed["tx-results"][poor.compute_wtxid().to_string()]["error"].as_str().unwrap();
    assert!(error.starts_with("min relay fee not met"), "{error}");

    let package = json!([[serialize_hex(&parent), serialize_hex(&child)]]);
    let done = rpc.call("submitpackage", package).await.unwrap();
    assert_eq!(done["package_msg"], "success");
    let result = &done["tx-results"][parent.compute_wtxid().to_string()];
    assert_eq!((&result["txid"], &result["fees"]["base"]), (&json!(parent.compute_txid().to_string()), &json!(0.0)));
    assert_eq!(result["fees"]["effective-includes"].as_array().unwrap().len(), 2);
    let backwards = json!([[serialize_hex(&child), serialize_hex(&parent)]]);
    assert_eq!(rpc.call("submitpackage", backwards).await.unwrap_err(), (-25, "package-not-sorted".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_made_submitted_invalidated_and_reconsidered() {
    let (net, mut rpc) = start().await;
    let address = Key::new(1).address().to_string();
    let made = rpc.call("generateblock", json!([address, [], false])).await.unwrap();
    assert_eq!(net.height().0, 130);
    assert_eq!(rpc.call("submitblock", json!([made["hex"]])).await.unwrap(), Value::Null);
    assert_eq!(rpc.call("submitblock", json!([made["hex"]])).await.unwrap(), "duplicate");
    assert_eq!(rpc.call("getbestblockhash", json!([])).await.unwrap(), made["hash"]);
    rpc.call("invalidateblock", json!([made["hash"]])).await.unwrap();
    assert_eq!(rpc.call("getblockcount", json!([])).await.unwrap(), 130);
    assert_eq!(rpc.call("submitblock", json!([made["hex"]])).await.unwrap(), "duplicate-invalid");
    let tips = rpc.call("getchaintips", json!([])).await.unwrap();
    assert_eq!((&tips[0]["status"], &tips[1]["status"]), (&json!("active"), &json!("invalid")));
    rpc.call("reconsiderblock", json!([made["hash"]])).await.unwrap();
    assert_eq!(net.tip().hash.to_string(), made["hash"].as_str().unwrap());

    let txid = net.fund(&Key::new(1).address(), Sat(50_000)).await.unwrap();
    rpc.call("generateblock", json!([address, [txid.to_string()]])).await.unwrap();
    assert_eq!(rpc.call("getrawmempool", json!([])).await.unwrap(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_describes_itself() {
    let (_net, mut rpc) = start().await;
    let network = rpc.call("getnetworkinfo", json!([])).await.unwrap();
    assert!(network["subversion"].as_str().unwrap().starts_with("/Satoshi:"));
    assert_eq!(network["relayfee"], json!(0.00001));
    for method in ["getpeerinfo", "getzmqnotifications"] {
        assert_eq!(rpc.call(method, json!([])).await.unwrap(), json!([]));
    }
    let deployments = rpc.call("getdeploymentinfo", json!([])).await.unwrap();
    assert_eq!(deployments["deployments"]["taproot"]["active"], true);
    assert_eq!(rpc.call("getindexinfo", json!([])).await.unwrap()["txindex"]["best_block_height"], 130);
    assert_eq!(rpc.call("estimatesmartfee", json!([6, "CONSERVATIVE"])).await.unwrap()["feerate"], json!(0.00002));
    assert_eq!(rpc.call("getmempoolinfo", json!([])).await.unwrap()["mempoolminfee"], json!(0.00001));
    assert!(rpc.call("uptime", json!([])).await.unwrap().is_u64());
    assert!(rpc.call("help", json!([])).await.unwrap().as_str().unwrap().contains("getblockheader blockhash verbose"));
}
