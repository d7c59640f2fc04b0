//! OpenAI's API.

use super::*;

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
    assert!(image::psnr(&image(&files[0]), &here.image("a.png")).unwrap() >= 60.0);
    assert_ne!(image(&files[0]), image(&files[1]));
    let alone = server.post(GENERATIONS, &quick("a red circle")).ok();
    let file = decoded(&alone["data"][0]["b64_json"]);
    assert_eq!(image(&file), here.image("a.png"));
    // And it says how it is made again.
    std::fs::write(here.path("b.png"), file).unwrap();
    for key in ["prompt", "seed", "steps", "guidance", "solver", "size"] {
        assert_eq!(here.text("b.png", key), here.text("a.png", key), "{key}");
    }
    // But for the folder of the model, which is the server's.
    assert_eq!(here.text("b.png", "model").as_deref(), Some("./sana"));
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
    let preview = decoded(&events[3]["b64_json"]);
    let texts = image::text_of("preview".as_ref(), &preview).unwrap();
    assert!(
        matches!(texts.as_slice(), [(key, mark)] if key == image::XMP && mark.contains("trainedAlgorithmicMedia")),
        "{texts:?}"
    );
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

/// Files say how and that they were made, and not where the model is.
#[test]
fn files_name_no_folder() {
    let server = Server::start(&[]);
    let here = Workplace::new();
    for (format, name) in [("png", "a.png"), ("jpeg", "a.jpg"), ("webp", "a.webp")] {
        let answer = server
            .post(
                GENERATIONS,
                &with(quick("a"), json!({ "output_format": format })),
            )
            .ok();
        let file = decoded(&answer["data"][0]["b64_json"]);
        std::fs::write(here.path(name), &file).unwrap();
        assert_eq!(here.text(name, "model").as_deref(), Some("./sana"));
        assert!(
            here.text(name, image::XMP)
                .unwrap()
                .contains("trainedAlgorithmicMedia")
        );
        let folder = crate::support::checkpoint();
        let folder = folder.parent().unwrap().to_str().unwrap();
        assert!(
            !file
                .windows(folder.len())
                .any(|part| part == folder.as_bytes()),
            "{name}"
        );
    }
    let text = here.text("a.png", image::PARAMETERS).unwrap();
    assert!(
        text.ends_with(&format!(
            "Model: sana, Version: sana {}",
            env!("CARGO_PKG_VERSION")
        )),
        "{text}"
    );
    let unmarked = Server::start(&["--no-mark"]);
    let answer = unmarked.post(GENERATIONS, &quick("a")).ok();
    std::fs::write(here.path("b.png"), decoded(&answer["data"][0]["b64_json"])).unwrap();
    assert_eq!(here.text("b.png", image::XMP), None);
}

/// Previews of images of more than 64 latents are the colours of these, unless all are decoded.
#[test]
fn previews_of_larger_images() {
    for (options, size) in [(&[][..], (48, 384)), (&["--decode-previews"], (96, 768))] {
        let server = Server::start(options);
        let wanted = json!({ "stream": true, "partial_images": 1, "size": "96x768" });
        let events = server.post(GENERATIONS, &with(quick("a"), wanted)).events();
        let preview = image(&decoded(&events[0]["b64_json"]));
        assert_eq!(preview.dimensions(), size);
        assert_eq!(events[0]["size"], format!("{}x{}", size.0, size.1));
        assert_eq!(
            image(&decoded(&events[1]["b64_json"])).dimensions(),
            (96, 768)
        );
    }
}
