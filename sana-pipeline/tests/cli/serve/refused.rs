//! What is refused, and to whom.

use super::*;

#[test]
fn requests_that_cannot_be_fulfilled() {
    let options = [
        "--max-pixels",
        "8192",
        "--max-body",
        "100kB",
        "--max-images",
        "2",
    ];
    let server = Server::start(&options);
    let fails = |fields: Value, words: &[&str]| {
        server
            .post(GENERATIONS, &with(quick("a"), fields))
            .fails(400, words);
    };
    fails(json!({ "prompt": "  " }), &["prompt"]);
    fails(
        json!({ "prompt": "a".repeat(40_000) }),
        &["prompt", "32000"],
    );
    fails(json!({ "n": 0 }), &["n:"]);
    fails(json!({ "n": 3 }), &["n:", "2"]);
    fails(json!({ "size": "97x64" }), &["32"]);
    fails(json!({ "size": "big" }), &["size"]);
    fails(json!({ "size": "128x128" }), &["size", "8192"]);
    fails(json!({ "size": "99999999999x99999999999" }), &["size"]);
    fails(json!({ "num_inference_steps": 101 }), &["steps", "100"]);
    fails(json!({ "guidance_scale": -1 }), &["guidance"]);
    fails(json!({ "solver": "euler-a" }), &["solver"]);
    fails(json!({ "solver": "scm" }), &["scm"]);
    fails(
        json!({ "output_format": "jpeg", "output_compression": 101 }),
        &["output_compression"],
    );
    fails(
        json!({ "guidance_scale": 1e39 }),
        &["guidance_scale", "1000"],
    );
    let nulls = json!({ "stream": null, "progress": null, "n": null, "output_format": "jpeg", "output_compression": 0 });
    server.post(GENERATIONS, &with(quick("a"), nulls)).ok();
    let post = |headers: &[&str], body: &[u8]| {
        Answer::read(server.send(&server.request("POST", GENERATIONS, headers, body)))
    };
    let json = "Content-Type: application/json";
    post(&[json], b"{").fails(400, &["JSON"]);
    post(&[json], b"{\"n\": 1}").fails(422, &["prompt"]);
    post(&[json], b"{\"prompt\": 3}").fails(422, &["prompt"]);
    post(&[], b"{}").fails(415, &["Content-Type"]);
    let large = with(quick("a"), json!({ "user": "a".repeat(200_000) }));
    assert_eq!(server.post(GENERATIONS, &large).status, 413);
    server.get("/v2").fails(404, &["openapi.json"]);
    assert_eq!(server.get(GENERATIONS).status, 405);
    // A page of another origin, which a browser lets send this without asking.
    post(&[json, "Origin: http://evil.example"], b"{}").fails(403, &["origin"]);
    // A name of somebody else's that resolves to this machine.
    let renamed = b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    Answer::read(server.send(renamed)).fails(403, &["another host"]);
    let own = format!("Origin: http://{}", server.address);
    assert_eq!(server.get_with("/healthz", &[&own]).status, 200);
    // And it still works.
    server.post(GENERATIONS, &quick("a")).ok();
    assert!(
        server
            .get("/metrics")
            .text()
            .contains("sana_requests_total{route=\"/v1/images/generations\",status=\"403\"} 1")
    );
}

#[test]
fn a_key_and_other_origins() {
    let options = ["--allow-origin", "https://friend.example"];
    let mut server = Server::start_with(&options, |command: &mut Command| {
        command.env("SANA_API_KEY", "secret");
    });
    assert_eq!(server.line(), "ready");
    server.get("/v1/models").fails(401, &["Authorization"]);
    let get = |header: &str| server.get_with("/v1/models", &[header]);
    get("Authorization: Bearer wrong").fails(401, &["Authorization"]);
    assert_eq!(
        get("Authorization: Bearer secret").ok()["data"][0]["id"],
        "sana"
    );
    for path in ["/", "/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let asked = [
        "Origin: https://friend.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type",
    ];
    let request = server.request("OPTIONS", GENERATIONS, &asked, b"");
    let allowed = Answer::read(server.send(&request));
    let header = "access-control-allow-origin: https://friend.example";
    assert!(allowed.head.contains(header), "{}", allowed.head);
}

#[test]
fn places_that_cannot_be_listened_on() {
    let server = Server::start_with(&[], |_| {});
    let here = Workplace::new();
    let port = server.address.port().to_string();
    here.sana(&["serve", "--port", &port])
        .fails(1, &["cannot listen", "--port"]);
    here.sana(&["serve", "--host", "0.0.0.0"])
        .fails(1, &["--api-key-file"]);
}
