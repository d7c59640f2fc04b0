//! Requests that wait, go away or end with the server.

use super::*;

#[test]
fn a_full_queue_says_when_to_try_again() {
    let server = Server::start(&[&ENDLESS[..], &["--queue", "1"]].concat());
    let running = server.send(&server.json(GENERATIONS, &endless()));
    server.until(|server| server.get("/sdapi/v1/progress").ok()["state"]["job"] == "generation");
    let waiting = server.send(&server.json(GENERATIONS, &endless()));
    server.until(|server| server.metric("sana_queue_depth ") == 1.0);
    let refused = server.post(GENERATIONS, &quick("a"));
    refused.fails(429, &["try again"]);
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    // Whoever goes away makes room, within a step where an image is being made.
    drop(waiting);
    drop(running);
    server.until(|server| server.metric("sana_queue_depth ") == 0.0);
    server.post(GENERATIONS, &quick("a")).ok();
    assert_eq!(server.metric("sana_images_total "), 1.0);
}

#[test]
fn equal_requests_are_made_together() {
    let server = Server::start(&[&ENDLESS[..], &["--max-batch", "3"]].concat());
    let running = server.send(&server.json(GENERATIONS, &endless()));
    server.until(|server| server.get("/sdapi/v1/progress").ok()["state"]["job"] == "generation");
    let prompts = ["a", "b", "c", "d"];
    let waiting = prompts.map(|prompt| server.send(&server.json(GENERATIONS, &quick(prompt))));
    server.until(|server| server.metric("sana_queue_depth ") == 4.0);
    drop(running);
    let images = waiting.map(|stream| {
        let answer = Answer::read(stream).ok();
        image(&decoded(&answer["data"][0]["b64_json"]))
    });
    // Three and one.
    assert_eq!(
        server.metric("sana_stage_seconds_count{stage=\"decode\"} "),
        2.0
    );
    for (prompt, together) in prompts.iter().zip(&images) {
        let answer = server.post(GENERATIONS, &quick(prompt)).ok();
        let alone = image(&decoded(&answer["data"][0]["b64_json"]));
        assert!(image::psnr(together, &alone).unwrap() >= 60.0, "{prompt}");
    }
}

#[cfg(unix)]
#[test]
fn terminating_answers_what_waits() {
    let mut server = Server::start(&[]);
    let waiting = server.send(&server.json(
        GENERATIONS,
        &with(quick("a"), json!({ "n": 8, "num_inference_steps": 100 })),
    ));
    server.until(|server| server.get("/sdapi/v1/progress").ok()["state"]["job"] == "generation");
    let kill = |server: &Server| {
        let id = server.id().to_string();
        assert!(
            Command::new("sh") // has its own; the program is in a package that may be missing
                .args(["-c", "kill -TERM \"$0\"", &id])
                .status()
                .unwrap()
                .success()
        );
    };
    kill(&server);
    let answer = Answer::read(waiting).ok();
    assert_eq!(answer["data"].as_array().unwrap().len(), 8);
    assert!(server.exit().success());

    // And does not wait for what has no end, when it is asked again.
    let mut server = Server::start(&ENDLESS);
    let _waiting = server.send(&server.json(GENERATIONS, &endless()));
    server.until(|server| server.get("/sdapi/v1/progress").ok()["state"]["job"] == "generation");
    kill(&server);
    server.until(|server| std::net::TcpStream::connect(server.address).is_err());
    kill(&server);
    assert_eq!(server.exit().code(), Some(130));

    // Nor for a client that does not say what it wants.
    let mut server = Server::start(&[]);
    let _silent = server.send(b"GET /healthz HTTP/1.1\r\nHos");
    kill(&server);
    assert!(server.exit().success());
}

/// Requests that end anywhere, next to those that do not.
#[test]
fn clients_that_go_away_and_hostile_ones() {
    let server = Server::start(&[]);
    thread::scope(|scope| {
        let server = &server;
        for client in 0..8 {
            scope.spawn(move || {
                for number in 0..6 {
                    let request = with(quick("a"), json!({ "seed": 10 * client + number }));
                    let bytes = server.json(GENERATIONS, &request);
                    match (client + number) % 4 {
                        0 => drop(server.send(&bytes)),
                        1 => {
                            let stream = server.send(&bytes[..bytes.len() - 20]);
                            stream.shutdown(Shutdown::Both).unwrap();
                        }
                        2 => {
                            let mut stream =
                                server.send(b"POST /v1/images/edits HTTP/1.1\r\n\0\xff");
                            let _ = stream.write_all(&[255; 1000]);
                        }
                        _ => {
                            let answer = server.post(GENERATIONS, &request).ok();
                            assert_eq!(answer["data"][0]["seed"], 10 * client + number);
                        }
                    }
                }
            });
        }
    });
    server.until(|server| server.metric("sana_queue_depth ") == 0.0);
    server.post(GENERATIONS, &quick("a")).ok();
}
