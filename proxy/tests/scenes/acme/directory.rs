//! A directory of an authority (RFC 8555) that validates names by connecting to the proxy, and signs what is ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::validation::{prove_by_http, prove_by_tls};
use crate::tunnel::{Authority, acceptor};

/// A directory, and the authority that signs for it.
pub(crate) struct Directory {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// A name that leads to no proxy.
pub(crate) const NOWHERE: &str = "0.example";

/// What it knows, and how it behaves.
#[derive(Default)]
pub(crate) struct State {
    /// Where each name leads to, over TLS and without.
    pub(crate) hosts: BTreeMap<String, (SocketAddr, SocketAddr)>,
    /// It takes no orders any more.
    pub(crate) is_closed: bool,
    /// The requests so far.
    pub(crate) asked: usize,
    pub(crate) orders: Vec<Order>,
    nonces: BTreeSet<String>,
    accounts: Vec<Value>,
}

#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) name: String,
    pub(crate) status: &'static str,
    fault: Option<String>,
    certificate: String,
}

/// A status, a header with its value, and a body.
type Answer = (u16, (&'static str, String), Value);

impl Directory {
    /// A directory whose own certificate, too, is signed by its authority.
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(Authority::new()))
    }

    /// The same at an address that is known already.
    pub(crate) fn on(listener: TcpListener, authority: Arc<Authority>) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (of_task, signing) = (state.clone(), authority.clone());
        let acceptor = acceptor(&authority.issue(&["127.0.0.1"]), None);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state, authority) = (acceptor.clone(), of_task.clone(), signing.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, address, &state, &authority));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, authority, state, task }
    }

    /// Stops listening.
    pub(crate) async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// How many accounts there are.
    pub(crate) fn accounts(&self) -> usize {
        self.accounts.len()
    }
}

async fn answer(
    request: Request<Incoming>,
    address: SocketAddr,
    state: &Mutex<State>,
    authority: &Authority,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let base = format!("https://{address}");
    let (head, body) = request.into_parts();
    let agent = head.headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("cachepage/"), "{agent}");
    let path = head.uri.path().to_owned();
    state.lock().unwrap().asked += 1;
    let (status, (name, value), body) = match (&head.method, path.as_str()) {
        (&Method::GET, "/directory") => (200, ("x-a", String::new()), urls(&base)),
        (&Method::HEAD, "/nonce") => (200, ("x-a", String::new()), Value::Null),
        _ => {
            assert_eq!(head.headers["content-type"], "application/jose+json");
            let body = body.collect().await.unwrap().to_bytes();
            match opened(&base, &path, &body, state) {
                Ok((account, payload)) => posted(&base, &path, &account, &payload, state, authority).await,
                Err(fault) => problem(400, "malformed", fault),
            }
        }
    };
    let nonce = format!("{:032x}", rand::random::<u128>());
    state.lock().unwrap().nonces.insert(nonce.clone());
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let response = Response::builder().status(status).header("replay-nonce", nonce);
    Ok(response.header("content-type", kind).header(name, value).body(Full::new(body.into())).unwrap())
}

fn urls(base: &str) -> Value {
    json!({
        "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"), "newOrder": format!("{base}/order"),
        "revokeCert": format!("{base}/revoke"), "keyChange": format!("{base}/key"),
    })
}

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let body =
        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
    (status, ("retry-after", "7200".to_owned()), body)
}

fn from_base64(text: &Value) -> Vec<u8> {
    BASE64.decode(text.as_str().unwrap()).unwrap()
}

/// The key of the account that has signed a body, and its payload, if signature, nonce and URL are right.
fn opened(base: &str, path: &str, body: &[u8], state: &Mutex<State>) -> Result<(Value, Value), &'static str> {
    let jws: Value = serde_json::from_slice(body).unwrap();
    let header: Value = serde_json::from_slice(&from_base64(&jws["protected"])).unwrap();
    let mut state = state.lock().unwrap();
    let is_known = state.nonces.remove(header["nonce"].as_str().unwrap());
    let account = match (path, header["kid"].as_str()) {
        ("/account", None) => header["jwk"].clone(),
        (_, Some(kid)) => {
            let number: usize = kid.rsplit('/').next().unwrap().parse().unwrap();
            state.accounts.get(number).cloned().ok_or("no such account")?
        }
        _ => return Err("neither key nor account"),
    };
    let key = [&[4][..], &from_base64(&account["x"]), &from_base64(&account["y"])].concat();
    let signed = format!("{}.{}", jws["protected"].as_str().unwrap(), jws["payload"].as_str().unwrap());
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
    let is_signed = key.verify(signed.as_bytes(), &from_base64(&jws["signature"])).is_ok();
    if !(is_known && is_signed && header["alg"] == "ES256" && header["url"] == format!("{base}{path}")) {
        return Err("nonce, signature or URL");
    }
    Ok((account, serde_json::from_slice(&from_base64(&jws["payload"])).unwrap_or_default()))
}

/// The token of a key, and its thumbprint (RFC 7638), as they answer the challenges of an order.
fn key_authorization(number: usize, account: &Value) -> (String, String) {
    let token = format!("token-{number}");
    let key = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, account["x"], account["y"]);
    let thumbprint = BASE64.encode(digest(&SHA256, key.as_bytes()));
    (token.clone(), format!("{token}.{thumbprint}"))
}

async fn posted(
    base: &str,
    path: &str,
    account: &Value,
    payload: &Value,
    state: &Mutex<State>,
    authority: &Authority,
) -> Answer {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let number = parts.get(1).map(|number| number.parse::<usize>().unwrap());
    match (parts[0], number) {
        ("account", None) => {
            assert_eq!(payload["termsOfServiceAgreed"], true);
            let mut state = state.lock().unwrap();
            state.accounts.push(account.clone());
            (
                201,
                ("location", format!("{base}/account/{}", state.accounts.len() - 1)),
                json!({ "status": "valid" }),
            )
        }
        ("order", None) => {
            let mut state = state.lock().unwrap();
            if state.is_closed {
                return problem(429, "rateLimited", "too many orders");
            }
            let name = payload["identifiers"][0]["value"].as_str().unwrap().to_owned();
            state.orders.push(Order { name, status: "pending", fault: None, certificate: String::new() });
            let number = state.orders.len() - 1;
            (201, ("location", format!("{base}/order/{number}")), state.orders[number].json(base, number))
        }
        ("challenge", Some(number)) => {
            let name = state.lock().unwrap().orders[number].name.clone();
            let host = host(&name, state).await;
            let (token, answer) = key_authorization(number, account);
            let proven = match (parts[2], host) {
                (_, None) => Err("the name leads nowhere".to_owned()),
                ("tls-alpn-01", Some((tls, _))) => prove_by_tls(&name, tls, &answer).await,
                (_, Some((_, plain))) => prove_by_http(&name, plain, &token, &answer).await,
            };
            let order = &mut state.lock().unwrap().orders[number];
            (order.status, order.fault) = match proven {
                Ok(()) => ("ready", None),
                Err(fault) => ("invalid", Some(fault)),
            };
            (200, ("x-a", String::new()), challenge(base, number, parts[2], "processing", None))
        }
        ("finalize", Some(number)) => {
            let order = &mut state.lock().unwrap().orders[number];
            assert_eq!(order.status, "ready");
            order.certificate = authority.sign(&order.name, &from_base64(&payload["csr"]));
            order.status = "valid";
            (200, ("x-a", String::new()), order.json(base, number))
        }
        (kind, Some(number)) => {
            let order = &state.lock().unwrap().orders[number];
            let body = match kind {
                "order" => order.json(base, number),
                "authorization" => order.authorization(base, number),
                _ => order.certificate.clone().into(),
            };
            (200, ("x-a", String::new()), body)
        }
        _ => problem(404, "malformed", "no such resource"),
    }
}

/// Where a name leads to, as soon as that is known.
async fn host(name: &str, state: &Mutex<State>) -> Option<(SocketAddr, SocketAddr)> {
    if name == NOWHERE {
        return None;
    }
    loop {
        let host = state.lock().unwrap().hosts.get(name).copied();
        if host.is_some() {
            return host;
        }
        tokio::task::yield_now().await;
    }
}

fn challenge(base: &str, number: usize, kind: &str, status: &str, fault: Option<&String>) -> Value {
    let error =
        fault.map(|fault| json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": fault }));
    json!({
        "type": kind, "url": format!("{base}/challenge/{number}/{kind}"), "token": format!("token-{number}"),
        "status": status, "error": error,
    })
}

impl Order {
    fn json(&self, base: &str, number: usize) -> Value {
        json!({
            "status": self.status,
            "identifiers": [{ "type": "dns", "value": self.name }],
            "authorizations": [format!("{base}/authorization/{number}")],
            "finalize": format!("{base}/finalize/{number}"),
            "certificate": format!("{base}/certificate/{number}"),
        })
    }

    fn authorization(&self, base: &str, number: usize) -> Value {
        let status = match self.status {
            "pending" | "invalid" => self.status,
            _ => "valid",
        };
        let challenges = ["tls-alpn-01", "http-01"];
        json!({
            "status": status,
            "identifier": { "type": "dns", "value": self.name },
            "challenges": challenges.map(|kind| challenge(base, number, kind, status, self.fault.as_ref())),
        })
    }
}
