//! Hundreds of requests at once: some are cut off, some are hostile, and none may cost another anything.

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Requests of each round.
const REQUESTS: usize = 200;
/// Threads that send them.
const CLIENTS: usize = 8;
/// How much more memory a round may leave in use than the one before it. A leak of as little as an image
/// with its JSON in each request would be more.
const MOST_GROWTH: f64 = 12e6;

/// What becomes of the requests of a round.
#[derive(Default)]
struct Counts {
    made: AtomicUsize,
    refused: AtomicUsize,
}

fn small(seed: usize) -> Value {
    json!({ "prompt": "a", "size": "32x32", "num_inference_steps": 1, "seed": seed })
}

/// Sends one request of one of ten kinds, and checks what is answered where somebody reads it.
fn send(server: &Server, number: usize, counts: &Counts) {
    let request = small(number);
    let bytes = server.json(GENERATIONS, &request);
    let refused = |bytes: &[u8], status: &[u16]| {
        let answer = Answer::read(server.send(bytes));
        assert!(
            status.contains(&answer.status),
            "{}: {}",
            answer.status,
            answer.text()
        );
        counts.refused.fetch_add(1, Ordering::Relaxed);
    };
    match number % 10 {
        // Goes away at once, within the body, and within the events.
        0 => drop(server.send(&bytes)),
        1 => server
            .send(&bytes[..bytes.len() - 9])
            .shutdown(Shutdown::Both)
            .unwrap(),
        2 => {
            let events = json!({ "stream": true, "partial_images": 3, "num_inference_steps": 5, "progress": true });
            let mut stream = server.send(&server.json(GENERATIONS, &with(request, events)));
            let _ = std::io::Read::read(&mut stream, &mut [0; 64]);
        }
        3 => refused(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", &[400]),
        4 => {
            let deep = [&b"{\"prompt\":"[..], &[b'['; 100_000]].concat();
            let header = "Content-Type: application/json";
            refused(
                &server.request("POST", GENERATIONS, &[header], &deep),
                &[400, 422],
            );
        }
        5 => {
            let huge =
                json!({ "prompt": "a".repeat(40_000), "n": u64::MAX, "size": "9999999x9999999" });
            refused(&server.json(GENERATIONS, &huge), &[400, 422]);
        }
        6 => refused(
            &server.request("GET", "/images/..%2f..%2fetc%2fpasswd", &[], b""),
            &[404],
        ),
        7 => {
            let start = json!({ "prompt": "a", "init_images": ["iVBORw0KGgo" ], "steps": 1 });
            refused(&server.json("/sdapi/v1/img2img", &start), &[400]);
        }
        _ => {
            let answer = server.post(GENERATIONS, &request).ok();
            assert_eq!(answer["data"][0]["seed"], number);
            assert_eq!(
                image(&decoded(&answer["data"][0]["b64_json"])).dimensions(),
                (32, 32)
            );
            counts.made.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends the requests of a round from all clients; the memory in use afterwards.
fn round(server: &Server) -> f64 {
    let (next, counts) = (Mutex::new(0..REQUESTS), Counts::default());
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.lock().unwrap().next();
                    let Some(number) = number else { break };
                    send(server, number, &counts);
                }
            });
        }
    });
    assert_eq!(counts.made.into_inner(), REQUESTS / 5);
    assert_eq!(counts.refused.into_inner(), REQUESTS / 2);
    server.until(|server| {
        let idle = server.get("/sdapi/v1/progress").ok()["state"]["job"] == "";
        idle && server.metric("sana_queue_depth ") == 0.0
    });
    server.metric("sana_resident_memory_bytes ")
}

#[test]
fn hundreds_of_requests_leave_nothing_behind() {
    let here = Workplace::new();
    let said = here.path("stderr");
    let stderr = File::create(&said).unwrap();
    let options = ["--queue", "64"];
    let mut server = Server::start_with(&options, |command| {
        command.stderr(stderr);
    });
    assert_eq!(server.line(), "ready");
    // The first fills caches and threads' own memory.
    let rounds = [round(&server), round(&server), round(&server)];
    // What the kernel took back from an idle server in one round is no growth in the next.
    let growth = rounds[2] - rounds[0].max(rounds[1]);
    assert!(growth < MOST_GROWTH, "memory in use: {rounds:?}");
    assert!(server.metric("sana_images_total ") >= 3.0 * (REQUESTS / 5) as f64);
    assert_eq!(server.get("/healthz").status, 200);
    server.post(GENERATIONS, &quick("a")).ok();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "");
}
