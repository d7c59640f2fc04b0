//! `sana serve`, over its socket.

mod server;

use std::io::Write;
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sana_pipeline::image::{self, GrayImage, RgbImage};
use serde_json::{Value, json};

use self::server::{Answer, Server};
use crate::support::Workplace;

const GENERATIONS: &str = "/v1/images/generations";

fn decoded(text: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn image(bytes: &[u8]) -> RgbImage {
    image::decode(Path::new("answer"), bytes).unwrap()
}

/// A request that two steps are enough for.
fn quick(prompt: &str) -> Value {
    json!({ "prompt": prompt, "size": "96x64", "num_inference_steps": 2, "seed": 3 })
}

fn with(mut request: Value, fields: Value) -> Value {
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    request
}

/// A request that runs until it is cancelled.
fn endless() -> Value {
    with(
        quick("a red circle"),
        json!({ "num_inference_steps": 10_000 }),
    )
}

const ENDLESS: [&str; 2] = ["--max-steps", "10000"];

/// PNGs of 96x64 pixels: an image, and one that is transparent in its left half.
fn uploads() -> (RgbImage, Vec<u8>, Vec<u8>) {
    let pixels = RgbImage::from_fn(96, 64, |x, y| ::image::Rgb([2 * x as u8, 3 * y as u8, 90]));
    let mask = ::image::RgbaImage::from_fn(96, 64, |x, _| {
        ::image::Rgba([0, 0, 0, if x < 48 { 0 } else { 255 }])
    });
    let png = |image: ::image::DynamicImage| {
        let mut file = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut file, ::image::ImageFormat::Png)
            .unwrap();
        file.into_inner()
    };
    (pixels.clone(), png(pixels.into()), png(mask.into()))
}

#[test]
fn images_equal_those_of_the_command() {
    let server = Server::start(&[]);
    let answer = server
        .post(GENERATIONS, &with(quick("a red circle"), json!({ "n": 2 })))
        .ok();
    assert_eq!(answer["size"], "96x64");
    let here = Workplace::new();
    here.generate(&["--seed", "3", "--out", "a.png"])
        .quiet_success();
    let files: Vec<Vec<u8>> = (0..2)
        .map(|i| decoded(&answer["data"][i]["b64_json"]))
        .collect();
    assert_eq!(answer["data"][1]["seed"], 4);
    // Two images at a time may round otherwise than one.
    assert!(image::psnr(&image(&files[0]), &here.image("a.png")).unwrap() > 50.0);
    assert_ne!(image(&files[0]), image(&files[1]));
    let alone = server.post(GENERATIONS, &quick("a red circle")).ok();
    let file = decoded(&alone["data"][0]["b64_json"]);
    assert_eq!(image(&file), here.image("a.png"));
    // And it says how it is made again.
    std::fs::write(here.path("b.png"), file).unwrap();
    for key in [
        "prompt", "seed", "steps", "guidance", "solver", "size", "model",
    ] {
        assert_eq!(here.text("b.png", key), here.text("a.png", key), "{key}");
    }
}

#[test]
fn images_by_their_address() {
    let server = Server::start(&[]);
    let wanted = json!({ "response_format": "url", "output_format": "webp" });
    let answer = server.post(GENERATIONS, &with(quick("a"), wanted)).ok();
    let url = answer["data"][0]["url"].as_str().unwrap();
    let path = url
        .strip_prefix(&format!("http://{}", server.address))
        .unwrap();
    let file = server.get(path);
    assert_eq!(file.status, 200);
    assert!(
        file.head.contains("content-type: image/webp"),
        "{}",
        file.head
    );
    assert_eq!(image(&file.body).dimensions(), (96, 64));
    for path in [
        "/images/../../etc/passwd",
        "/images/%2e%2e%2fCargo.toml",
        "/images/a.png",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn streams_show_steps_previews_and_images() {
    let server = Server::start(&[]);
    let wanted =
        json!({ "stream": true, "partial_images": 2, "num_inference_steps": 4, "progress": true });
    let events = server.post(GENERATIONS, &with(quick("a"), wanted)).events();
    let types: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let (step, preview) = (
        "image_generation.progress",
        "image_generation.partial_image",
    );
    let done = "image_generation.completed";
    assert_eq!(types, [step, preview, step, preview, step, step, done]);
    assert_eq!(
        (&events[0]["step"], &events[0]["steps"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(events[3]["partial_image_index"], 1);
    let last = image(&decoded(&events[6]["b64_json"]));
    assert_eq!(
        image(&decoded(&events[3]["b64_json"])).dimensions(),
        last.dimensions()
    );

    // As the OpenAI API has it, unless more is asked for.
    let events = server
        .post(GENERATIONS, &with(quick("a"), json!({ "stream": true })))
        .events();
    assert_eq!(events.len(), 1);
    let alone = server.post(GENERATIONS, &quick("a")).ok();
    assert_eq!(events[0]["b64_json"], alone["data"][0]["b64_json"]);
}

#[test]
fn edits_keep_what_the_mask_keeps() {
    let server = Server::start(&[]);
    let (pixels, file, mask) = uploads();
    let fields = [
        ("prompt", "a red circle"),
        ("num_inference_steps", "2"),
        ("seed", "3"),
    ];
    let edits = "/v1/images/edits";
    let answer = server
        .post_form(edits, &fields, &[("image", &file), ("mask", &mask)])
        .ok();
    let edited = image(&decoded(&answer["data"][0]["b64_json"]));
    assert_eq!(edited.dimensions(), (96, 64));
    let kept = |x: u32| {
        edited
            .enumerate_pixels()
            .filter(move |(at, ..)| (*at < 48) == (x < 48))
    };
    assert!(kept(95).all(|(x, y, pixel)| pixel == pixels.get_pixel(x, y)));
    assert!(kept(0).any(|(x, y, pixel)| pixel != pixels.get_pixel(x, y)));

    let strength = [&fields[..], &[("strength", "0.5")]].concat();
    server
        .post_form(edits, &strength, &[("image[]", &file)])
        .ok();
    // Text stays as it is, and large images are made smaller.
    let number = [
        ("prompt", "1.50"),
        ("num_inference_steps", "2"),
        ("size", "32x32"),
    ];
    let large = RgbImage::from_pixel(3000, 2000, ::image::Rgb([9, 90, 200]));
    let mut large_file = std::io::Cursor::new(Vec::new());
    large
        .write_to(&mut large_file, ::image::ImageFormat::Png)
        .unwrap();
    let large_files = [("image", &large_file.get_ref()[..])];
    let answer = server.post_form(edits, &number, &large_files).ok();
    let here = Workplace::new();
    std::fs::write(here.path("a.png"), decoded(&answer["data"][0]["b64_json"])).unwrap();
    assert_eq!(here.text("a.png", "prompt").as_deref(), Some("1.50"));
    server
        .post_form(edits, &fields, &[])
        .fails(400, &["image", "missing"]);
    server
        .post_form(edits, &fields, &[("image", b"GIF89a")])
        .fails(400, &["image"]);
    let opaque = [("image", &file[..]), ("mask", &file[..])];
    server
        .post_form(edits, &fields, &opaque)
        .fails(400, &["mask", "transparent nowhere"]);
    server
        .post_form(edits, &fields[1..], &[("image", &file)])
        .fails(400, &["prompt"]);
    server
        .post_form(edits, &strength, &[("image", &file), ("strength", b"x")])
        .fails(400, &["strength"]);
    let several = [("image[]", &file[..]), ("image[]", &file[..])];
    server
        .post_form(edits, &fields, &several)
        .fails(400, &["one image"]);
}

#[test]
fn what_front_ends_of_the_web_ui_call() {
    let server = Server::start(&[]);
    let request = json!({
        "prompt": "a red circle", "negative_prompt": "", "seed": 3, "steps": 2, "width": 96, "height": 64,
        "cfg_scale": 4.5, "sampler_name": "DPM++ 2M Karras", "batch_size": 1, "n_iter": 2,
        "override_settings": null, "enable_hr": false
    });
    let answer = server.post("/sdapi/v1/txt2img", &request).ok();
    let first = image(&decoded(&answer["images"][0]));
    assert_eq!(answer["images"].as_array().unwrap().len(), 2);
    assert_eq!(answer["parameters"]["steps"], 2);
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    assert_eq!(info["all_seeds"], json!([3, 4]));
    assert_eq!(info["steps"], 2);
    let text = info["infotexts"][0].as_str().unwrap();
    assert!(
        text.contains("Steps: 2") && text.contains("Seed: 3, Size: 96x64"),
        "{text}"
    );

    let (_, file, _) = uploads();
    let mask = GrayImage::from_fn(96, 64, |x, _| ::image::Luma([if x < 48 { 255 } else { 0 }]));
    let mut mask_file = std::io::Cursor::new(Vec::new());
    mask.write_to(&mut mask_file, ::image::ImageFormat::Png)
        .unwrap();
    let start = json!({
        "init_images": [format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&file))],
        "denoising_strength": 1.0,
        "mask": BASE64_STANDARD.encode(mask_file.into_inner()),
        "inpainting_mask_invert": 1,
        "n_iter": 1,
    });
    let answer = server
        .post("/sdapi/v1/img2img", &with(request.clone(), start))
        .ok();
    let edited = image(&decoded(&answer["images"][0]));
    assert_ne!(edited, first);
    assert_eq!(edited.get_pixel(3, 3), image(&file).get_pixel(3, 3));
    assert_eq!(answer["parameters"]["init_images"], Value::Null);
    let whole = json!({ "mask": null, "denoising_strength": 0.5, "n_iter": 1, "init_images": [BASE64_STANDARD.encode(&file)] });
    server
        .post("/sdapi/v1/img2img", &with(request.clone(), whole))
        .ok();
    server
        .post("/sdapi/v1/img2img", &request)
        .fails(400, &["init_images", "not 0"]);

    let samplers = server.get("/sdapi/v1/samplers").ok();
    assert_eq!(samplers[0]["name"], "Flow DPM++ 2M");
    assert_eq!(samplers.as_array().unwrap().len(), 2);
    assert_eq!(
        server.get("/sdapi/v1/sd-models").ok()[0]["model_name"],
        "sana"
    );
    assert_eq!(
        server.get("/sdapi/v1/options").ok()["sd_model_checkpoint"],
        "sana"
    );
    let options = "/sdapi/v1/options";
    server
        .post(options, &json!({ "sd_model_checkpoint": "sana", "x": 1 }))
        .ok();
    server
        .post(options, &json!({ "sd_model_checkpoint": "other" }))
        .fails(400, &["one model"]);
    let idle = server.get("/sdapi/v1/progress").ok();
    assert_eq!(
        (&idle["progress"], &idle["state"]["job_count"]),
        (&json!(0.0), &json!(0))
    );
}

/// The image as it is, and no further steps.
#[test]
fn interrupting_gives_the_image_as_it_is() {
    let server = Server::start(&ENDLESS);
    let (steps, prompt) = (10_000, "a red circle");
    let request = json!({ "prompt": prompt, "steps": steps, "width": 96, "height": 64 });
    let waiting = server.send(&server.json("/sdapi/v1/txt2img", &request));
    server.until(|server| {
        let progress = server.get("/sdapi/v1/progress").ok();
        progress["state"]["sampling_steps"] == steps && progress["current_image"].is_string()
    });
    server.post("/sdapi/v1/interrupt", &json!({})).ok();
    let answer = Answer::read(waiting).ok();
    assert_eq!(image(&decoded(&answer["images"][0])).dimensions(), (96, 64));
}

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
        assert!(image::psnr(together, &alone).unwrap() > 50.0, "{prompt}");
    }
}

#[cfg(unix)]
#[test]
fn terminating_answers_what_waits() {
    let mut server = Server::start(&[]);
    let waiting = server.send(&server.json(GENERATIONS, &with(quick("a"), json!({ "n": 8 }))));
    server.until(|server| server.get("/sdapi/v1/progress").ok()["state"]["job"] == "generation");
    let kill = |server: &Server| {
        let id = server.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
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

#[test]
fn the_page_asks_nobody_else() {
    let server = Server::start(&[]);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    let text = page.text();
    for outside in ["http://", "https://", "//cdn", "@import", "src=\"/"] {
        assert!(!text.contains(outside), "{outside}");
    }
    let model = server.get("/v1/models/sana").ok();
    assert_eq!(
        model["sana"]["size"],
        server.get("/v1/models").ok()["data"][0]["sana"]["size"]
    );
    assert_eq!(server.get("/v1/models/other").status, 404);
    let description = server.get("/openapi.json").ok();
    assert!(description["paths"][GENERATIONS]["post"].is_object());
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
